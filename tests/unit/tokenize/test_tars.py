"""WebDataset: the clips of tar files, complete and broken."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.processes import Shard
from focalcodec.tokenize import TokenStore
from focalcodec.tokenize.run import tokenize_corpus
from focalcodec.tokenize.sources import open_corpus
from tests.unit.small_codecs import GOLDEN, logmel_codec
from tests.unit.tokenize.corpora import BROKEN, SECONDS, plan_for, write_corpus

CODEC = logmel_codec()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def samples(corpus: Path) -> dict[str, dict[str, bytes]]:
    """Members of each sample: audio, and its transcript and speaker."""
    found = {}
    for path in sorted(corpus.iterdir()):
        about = json.dumps({"speaker": "7", "text": f"text of {path.stem}"}).encode()
        found[path.stem] = {f"x/{path.name}": path.read_bytes(), f"x/{path.stem}.json": about}
    return found


def joined(samples: dict[str, dict[str, bytes]], names: str | list[str]) -> dict[str, bytes]:
    return {key: value for name in names for key, value in samples[name].items()}


def failed(out: Path) -> dict[str, str]:
    with (out / "failed.csv").open(newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("suffix, mode", [("tar", "w"), ("tar.gz", "w:gz")])
def test_tokens_are_those_of_the_files(corpus, samples, tmp_path, suffix, mode):
    names = sorted(samples)
    write_tar(tmp_path / f"tars/s-00.{suffix}", joined(samples, names[:5]), mode)
    write_tar(tmp_path / f"tars/s-01.{suffix}", joined(samples, names[5:]), mode)
    plan = plan_for(CODEC, tmp_path / "tars", part_clips=1)
    assert plan.parts == 2
    tokenize_corpus(CODEC, plan, tmp_path / "out")
    tokenize_corpus(CODEC, plan_for(CODEC, corpus), tmp_path / "expected")
    store, expected = TokenStore(tmp_path / "out"), TokenStore(tmp_path / "expected")
    assert [name.rpartition("/")[2] for name in store.ids] == expected.ids == sorted(SECONDS)
    assert np.array_equal(store.stream, expected.stream)
    assert np.array_equal(store.index, expected.index)
    assert set(store.spk_id) == {"7"} and store.text[0] == "text of a"
    reasons = failed(tmp_path / "out")
    assert {name.rpartition("/")[2] for name in reasons} == set(BROKEN)
    assert "x/h" in min(reasons) and "empty, 0 bytes" in reasons[min(reasons)]


@pytest.mark.parametrize("pattern", ["s-{00..01}.tar", "s-*.tar", ""])
def test_names_of_several_tars(samples, tmp_path, pattern):
    for number in range(2):
        write_tar(tmp_path / f"tars/s-0{number}.tar", samples["a"])
    source = open_corpus(str(tmp_path / "tars" / pattern))
    assert [clip.id for clip in source.clips] == ["s-00", "s-01"]


def test_a_truncated_tar_keeps_the_clips_before(samples, tmp_path):
    tar = write_tar(tmp_path / "s.tar", joined(samples, "abc"))
    tar.write_bytes(tar.read_bytes()[:-25_000])
    meta = tokenize_corpus(CODEC, plan_for(CODEC, tar), tmp_path / "out")
    assert (meta["clips"], meta["failed"]) == (len(TokenStore(tmp_path / "out")), 1)
    assert TokenStore(tmp_path / "out").ids[0] == "s/x/a"
    (reason,) = failed(tmp_path / "out").values()
    assert reason.startswith(f"{tar}: broken after x/") and "make or copy it again" in reason


def test_tars_without_clips(tmp_path, capsys):
    write_tar(tmp_path / "tars/a.tar", {"x.txt": b"no audio"})
    (tmp_path / "tars/b.tar").write_bytes(b"no tar")
    model = ["--model", str(GOLDEN["tiny_50hz"])]
    assert main(["tokenize", str(tmp_path / "tars"), str(tmp_path / "out"), *model]) == 1
    assert "; 2 failed, see " in capsys.readouterr().err
    reasons = failed(tmp_path / "out")
    assert "no audio files" in reasons["a"] and "broken after its beginning" in reasons["b"]
    with pytest.raises(UserError, match="c.tar: no such file; check the path"):
        open_corpus(str(tmp_path / "tars" / "c.tar"))


def test_several_clips_and_a_name_twice(samples, tmp_path):
    audio = samples["b"]["x/b.flac"]
    names = ["u.left.flac", "u.right.flac", "v.flac"]
    tar = write_tar(tmp_path / "s.tar", dict.fromkeys([*names, "notes.md"], audio))
    with tarfile.open(tar, "a") as file:
        for name in ("w.wav", "v.flac"):
            about = tarfile.TarInfo(name)
            about.size = len(audio)
            file.addfile(about, io.BytesIO(audio))
    tokenize_corpus(CODEC, plan_for(CODEC, tar), tmp_path / "out")
    assert TokenStore(tmp_path / "out").ids == ["s/u.left.flac", "s/u.right.flac", "s/v", "s/w"]
    assert "v.flac is in it twice" in failed(tmp_path / "out")["s/v"]


def test_an_interrupted_run_is_resumed(samples, tmp_path):
    names = sorted(samples)
    for number, name in enumerate(names):
        write_tar(tmp_path / f"tars/{number:02}.tar", samples[name])
    plan = plan_for(CODEC, tmp_path / "tars", part_clips=4)
    assert tokenize_corpus(CODEC, plan, tmp_path / "out", Shard(0, 2)) is None
    meta = tokenize_corpus(CODEC, plan, tmp_path / "out", Shard(1, 2))
    assert (meta["clips"], meta["failed"]) == (len(SECONDS), len(BROKEN))
