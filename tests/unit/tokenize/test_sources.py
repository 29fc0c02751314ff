"""Sources of files: ids, locations, digests, and bad sources."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from focalcodec.audio import read_audio, write_audio
from focalcodec.audio_files import AudioFile
from focalcodec.data.corpus import PrepareOptions, embedded_corpus
from focalcodec.data.manifest import write_manifest
from focalcodec.data.own_folder import prepare_own
from focalcodec.errors import UserError
from focalcodec.tokenize.sources import open_corpus


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"audio")


def test_folder_gives_all_audio_in_order(tmp_path):
    touch(tmp_path, "b/2.flac", "b/1.WAV", "a.mp3", "notes.txt", ".hidden/x.wav", "b/.y.wav")
    source = open_corpus(str(tmp_path))
    assert [clip.id for clip in source.clips] == ["a", "b/1", "b/2"]
    assert source.audio(source.clips[2]) == str(tmp_path / "b/2.flac")


@pytest.mark.parametrize(
    "names, ids",
    [
        (["x.wav", "x.flac", "y.wav"], ["x.flac", "x.wav", "y"]),
        # the stem of the second is the path of the first
        (["x.wav", "x.wav.flac"], ["x", "x.wav.flac"]),
    ],
)
def test_ids_keep_the_suffix_where_they_would_collide(tmp_path, names, ids):
    touch(tmp_path, *names)
    assert [clip.id for clip in open_corpus(str(tmp_path)).clips] == ids


def test_folder_of_the_embedded_corpus():
    source = open_corpus(str(embedded_corpus("LibriSpeech")))
    assert len({clip.id for clip in source.clips}) == len(source.clips) == 175


def test_digest_depends_on_every_file_but_not_on_the_name_of_the_folder(tmp_path):
    def digest(folder: Path) -> str:
        return open_corpus(str(folder)).digest

    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        touch(folder, "a.wav", "b.wav")
        for name in ("a.wav", "b.wav"):
            os.utime(folder / name, ns=(10, 10))
    before = digest(one)
    assert before == digest(two)
    os.utime(one / "a.wav", ns=(10, 11))
    assert digest(one) != before
    os.utime(one / "a.wav", ns=(10, 10))
    assert digest(one) == before
    touch(one, "c.wav")
    assert digest(one) != before


def test_manifest_gives_speakers_and_texts(tmp_path):
    write_audio(tmp_path / "speech" / "a.wav", torch.zeros(800), 16000)
    rows = [
        {"ID": "q", "duration": 0.05, "wav": "a.wav", "spk_id": "7", "wrd": "YES"},
        {"ID": "p", "duration": 0.05, "wav": "missing.wav", "spk_id": "", "wrd": ""},
    ]
    numbers = {"sample_rate": 16000, "num_samples": 800}
    write_manifest(tmp_path / "m.csv", [row | numbers for row in rows])
    source = open_corpus(str(tmp_path / "m.csv"), str(tmp_path / "speech"))
    assert [(clip.id, clip.spk_id, clip.wrd) for clip in source.clips] == [
        ("q", "7", "YES"),
        ("p", "", ""),
    ]
    assert source.audio(source.clips[0]) == str(tmp_path / "speech" / "a.wav")
    assert source.clips[0].size > 0 and source.clips[1].size == 0
    with pytest.raises(UserError, match="give --data_folder"):
        open_corpus(str(tmp_path / "m.csv"))


def test_list_of_paths(tmp_path):
    touch(tmp_path, "s/a.wav", "s/b.strange")
    listing = tmp_path / "l.txt"
    listing.write_text(f"b.strange\n\n{tmp_path}/s/a.wav\n")
    source = open_corpus(str(listing), str(tmp_path / "s"))
    assert [clip.id for clip in source.clips] == ["b", f"{tmp_path}/s/a"]
    assert [source.audio(clip) for clip in source.clips] == [
        str(tmp_path / "s" / "b.strange"),
        str(tmp_path / "s" / "a.wav"),
    ]
    listing.write_text("a.wav\na.wav\n")
    with pytest.raises(UserError, match="a.wav is listed twice"):
        open_corpus(str(listing))


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\u00a0"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_line_ends_split_a_list(tmp_path, character, end):
    names = [f"a{character}b.wav", "c.wav"]
    touch(tmp_path, *names)
    for head in ("", "\ufeff"):
        (tmp_path / "l.txt").write_bytes((head + end.join(names) + end).encode())
        source = open_corpus(str(tmp_path / "l.txt"), str(tmp_path))
        assert [Path(source.audio(clip)).name for clip in source.clips] == names
        assert all(clip.size for clip in source.clips), "the files are there"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_a_list_in_utf16_is_named(tmp_path, name, encoding):
    (tmp_path / name).write_bytes("ID,duration,wav\na,1,a.wav\n".encode(encoding))
    with pytest.raises(UserError, match=rf"^{tmp_path}/{name}: not UTF-8 .*; save it as UTF-8$"):
        open_corpus(str(tmp_path / name), str(tmp_path))


def test_audio_beside_a_table_of_metadata(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    touch(tmp_path / "both", "a/1.wav", "a/2.wav")
    table = pyarrow.table({"file_name": ["1.wav"], "text": ["one"]})
    for place in ("both/metadata.parquet", "both/a/metadata.parquet"):
        parquet.write_table(table, tmp_path / place)
        assert [clip.id for clip in open_corpus(str(tmp_path / "both")).clips] == ["a/1", "a/2"]
    (tmp_path / "both" / "broken.parquet").write_bytes(b"no table")
    assert len(open_corpus(str(tmp_path / "both")).clips) == 2


@pytest.mark.parametrize("name", ["missing", "a.json", "empty", "empty.txt"])
def test_bad_source_is_an_error(tmp_path, name):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        open_corpus(str(tmp_path / name))


def test_mistyped_path_is_not_looked_up_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="^data/spech: no such file or folder; check the path"):
        open_corpus("data/spech")


def test_only_datasets_have_splits(tmp_path):
    touch(tmp_path, "a.wav")
    with pytest.raises(UserError, match="split"):
        open_corpus(str(tmp_path), split="train")


# -- corpora and prepared folders ------------------------------------------------------------------


@pytest.mark.parametrize("corpus", ["LibriSpeech", "VoxPopuli"])
def test_speakers_and_texts_of_corpora(corpus):
    clips = open_corpus(str(embedded_corpus(corpus))).clips
    assert all(clip.spk_id and clip.wrd for clip in clips)
    assert len({clip.spk_id for clip in clips}) > 3


def test_prepared_folder_with_its_sets_json(tmp_path):
    """The data root is that of `sets.json`; parts of files are read as parts."""
    generator = torch.Generator().manual_seed(0)
    for name in "abcdef":
        sig = torch.randn(40_000, generator=generator) * 0.1
        write_audio(tmp_path / "speech" / f"{name}.flac", sig, 8000)
    options = PrepareOptions(channels="mix", segment_seconds=2.0)
    prepare_own(tmp_path / "speech", tmp_path / "sets", options=options)
    train = open_corpus(str(tmp_path / "sets" / "train.csv"))
    name = train.clips[0].id[0]
    assert [clip.id for clip in train.clips[:3]] == [f"{name}_000{part}" for part in range(3)]
    with AudioFile(tmp_path / "speech" / f"{name}.flac") as file:
        whole = file.read()[:, 0]
    parts = [read_audio(train.audio(clip), 8000).numpy() for clip in train.clips[:3]]
    assert np.array_equal(np.concatenate(parts), whole)
    every = open_corpus(str(tmp_path / "sets"))
    assert len(every.clips) == 18 and every.digest != train.digest
    assert open_corpus(str(tmp_path / "sets"), split="train").digest == train.digest
    with pytest.raises(UserError, match="split=dev: .* has the sets train, valid, test"):
        open_corpus(str(tmp_path / "sets"), split="dev")
    bad = train.clips[0]._replace(span=(0, 10**6))
    with pytest.raises(UserError, match="0 to 1000000 do not fit its samples; prepare again"):
        train.audio(bad)
