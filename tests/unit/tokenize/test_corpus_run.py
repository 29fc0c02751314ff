"""Whole runs in one process: shards, resuming, errors, the output, and the progress bar."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from focalcodec.audio import read_audio
from focalcodec.errors import UserError
from focalcodec.processes import Shard
from focalcodec.tokenize import TokenStore, TokenVocabulary, run
from focalcodec.tokenize.parts import EncodedClip, PartEncoder
from focalcodec.tokenize.plan import TokenizePlan
from focalcodec.tokenize.run import HoursBar, tokenize_corpus
from tests.unit.small_codecs import golden_codec, logmel_codec
from tests.unit.tokenize.corpora import BROKEN, SECONDS, files_of, plan_for, write_corpus

CODEC = logmel_codec()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of an undisturbed run, in both formats."""
    out = tmp_path_factory.mktemp("whole")
    tokenize_corpus(CODEC, plan_of(corpus), out)
    return out


def plan_of(corpus: Path, **options: Any) -> TokenizePlan:
    return plan_for(CODEC, corpus, **{"formats": ("memmap", "parquet"), **options})


def test_stream_is_all_clips_between_bos_and_eos(corpus, whole):
    store = TokenStore(whole).for_codec(CODEC)
    assert store.ids == sorted(SECONDS) and len(store) == len(SECONDS)
    expected = []
    for clip, name in enumerate(store.ids):
        expected += [8192, *store[clip].tolist(), 8193]
        if name != "long":
            sig = read_audio(corpus / f"{name}.flac", 16000, channels="mix")
            assert torch.equal(store[clip], CODEC.encode(sig[None], 16000)[0][0])
    assert store.stream.tolist() == expected and store.stream.dtype == np.dtype("<u2")
    size, rate = store.num_samples(1), store.sample_rate(1)
    assert (size, rate) == (7200, 24000)
    decoded = CODEC.decode(store[1][None], num_samples=size, sample_rate=rate)
    assert decoded.shape == (1, 7200)


def test_meta_describes_the_model(corpus, whole):
    meta = json.loads((whole / "meta.json").read_text())
    plan = plan_of(corpus)
    assert meta["weights_sha256"] == plan.model.weights_sha256 and meta["model"] == "small"
    assert (meta["clips"], meta["failed"]) == (len(SECONDS), len(BROKEN))
    assert meta["tokens"] + 2 * meta["clips"] == meta["ids"]
    assert meta["seconds"] == pytest.approx(sum(SECONDS.values()), abs=0.1)
    assert meta["source_sha256"] == plan.source.digest


def test_dataset_has_the_tokens_of_its_files(corpus, whole, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [
        {"id": path.stem, "audio": {"bytes": path.read_bytes(), "path": None}, "text": path.name}
        for path in sorted(corpus.iterdir())
    ]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set")
    plan = plan_for(CODEC, tmp_path / "set", part_clips=100)
    assert tokenize_corpus(CODEC, plan, tmp_path / "out")["failed"] == len(BROKEN)
    store, expected = TokenStore(tmp_path / "out"), TokenStore(whole)
    assert store.ids == expected.ids and store.text == [f"{name}.flac" for name in store.ids]
    assert np.array_equal(store.stream, expected.stream)
    assert np.array_equal(store.index, expected.index)


def test_failed_clips_are_listed(whole):
    with (whole / "failed.csv").open(newline="") as file:
        failed = {row["id"]: row for row in csv.DictReader(file)}
    assert failed.keys() == BROKEN.keys()
    for name, reason in BROKEN.items():
        assert reason in failed[name]["reason"] and failed[name]["path"].endswith(f"{name}.wav")


@pytest.mark.parametrize("count", [2, 5, 9])
def test_shards_give_the_same_output_in_any_order(corpus, whole, tmp_path, count):
    plan = plan_of(corpus)
    for index in reversed(range(1, count)):
        meta = tokenize_corpus(CODEC, plan, tmp_path, Shard(index, count))
        assert meta is None and not (tmp_path / "meta.json").exists()
    assert tokenize_corpus(CODEC, plan, tmp_path, Shard(0, count))["clips"] == len(SECONDS)
    assert files_of(tmp_path) == files_of(whole)
    assert not list(tmp_path.glob(".parts*"))


def test_finished_parts_are_not_encoded_again(corpus, whole, tmp_path, monkeypatch):
    encoded = []
    encode = PartEncoder.encode

    def counted(self, clips, *rest):
        encoded.append(clips[0].id)
        return encode(self, clips, *rest)

    monkeypatch.setattr(PartEncoder, "encode", counted)
    plan = plan_of(corpus)
    tokenize_corpus(CODEC, plan, tmp_path, Shard(1, 2))
    assert len(encoded) == 2
    damaged = sorted(tmp_path.glob(".parts*/*"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    tokenize_corpus(CODEC, plan, tmp_path)
    assert len(encoded) == plan.parts + 1
    tokenize_corpus(CODEC, plan, tmp_path)
    assert len(encoded) == plan.parts + 1
    assert files_of(tmp_path) == files_of(whole)


class Killed(BaseException):
    """The package must not catch it."""


@pytest.mark.parametrize("place", ["write_csv", "write_memmap", "write_parquet"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_while_joining(corpus, whole, tmp_path, monkeypatch, place, after):
    write = getattr(run, place)

    def cut(*arguments):
        if after:
            write(*arguments)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run, place, cut)
        tokenize_corpus(CODEC, plan_of(corpus), tmp_path)
    with pytest.raises(UserError, match="no such file; run focalcodec tokenize to its end"):
        TokenStore(tmp_path)
    tokenize_corpus(CODEC, plan_of(corpus), tmp_path)
    assert files_of(tmp_path) == files_of(whole)


@pytest.mark.parametrize("number", range(6))
def test_killed_while_output_is_moved(corpus, whole, tmp_path, monkeypatch, number):
    replace, moved = os.replace, []

    def cut(source, target):
        if Path(target).parent == tmp_path and Path(target).name != "plan.json":
            moved.append(target)
            if len(moved) > number:
                raise Killed
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", cut)
        tokenize_corpus(CODEC, plan_of(corpus), tmp_path)
    assert not (tmp_path / "meta.json").exists()
    tokenize_corpus(CODEC, plan_of(corpus), tmp_path)
    assert files_of(tmp_path) == files_of(whole)


def test_another_model_or_option_is_an_error(corpus, whole):
    before = files_of(whole)
    other = golden_codec("tiny_50hz")
    for codec, plan, difference in [
        (CODEC, plan_of(corpus, part_clips=4), "part_clips=3, not 4"),
        (CODEC, plan_of(corpus, formats=("memmap",)), "formats="),
        (other, plan_for(other, corpus, window_seconds=60.0), "weights_sha256="),
    ]:
        with pytest.raises(UserError, match=f"made with {difference}.* --overwrite"):
            tokenize_corpus(codec, plan, whole)
    with pytest.raises(UserError, match="tokens of small"):
        TokenStore(whole).for_codec(other)
    assert files_of(whole) == before


def test_changed_source_is_an_error_without_overwrite(tmp_path):
    corpus, out = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    tokenize_corpus(CODEC, plan_of(corpus), out)
    tokenize_corpus(CODEC, plan_of(corpus, part_clips=4), out, Shard(0, 2), overwrite=True)
    assert set(files_of(out)) == {"plan.json"}
    (corpus / "h.wav").unlink()
    with pytest.raises(UserError, match="source_clips=12, not 11"):
        tokenize_corpus(CODEC, plan_of(corpus), out)
    meta = tokenize_corpus(CODEC, plan_of(corpus), out, overwrite=True)
    assert meta["failed"] == len(BROKEN) - 1 and len(list(out.glob(".parts*"))) == 0


def test_folder_with_other_files_is_never_changed(corpus, tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"not empty \(thesis.txt\)"):
            tokenize_corpus(CODEC, plan_of(corpus), tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_only_broken_clips(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.wav").touch()
    meta = tokenize_corpus(CODEC, plan_of(corpus), tmp_path / "out")
    assert (meta["clips"], meta["failed"]) == (0, 1)
    store = TokenStore(tmp_path / "out")
    assert len(store) == 0 and store.ids == [] and len(store.stream) == 0


def test_window_shorter_than_the_context_is_an_error_at_once(corpus, tmp_path):
    with pytest.raises(UserError, match="window_seconds=0.1"):
        tokenize_corpus(CODEC, plan_of(corpus, window_seconds=0.1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_vocabulary_of_another_codec_is_an_error(corpus, tmp_path):
    plan = plan_of(corpus)
    other = TokenizePlan(plan.source, plan.model, plan.options, TokenVocabulary(64))
    with pytest.raises(UserError, match="codebook_size=64, but the codec has 8192"):
        tokenize_corpus(CODEC, other, tmp_path)


@pytest.mark.parametrize(
    "name, change", [("toks.bin", b""), ("meta.json", b"{"), ("meta.json", b"[]")]
)
def test_damaged_store_is_an_error(whole, tmp_path, name, change):
    for path in whole.glob("*.*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(TokenStore(tmp_path)) == len(SECONDS)
    (tmp_path / name).write_bytes(change)
    with pytest.raises(UserError, match=name):
        TokenStore(tmp_path)


def test_parquet_has_the_same_tokens(whole, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    from pyarrow.parquet import read_schema

    store = TokenStore(whole)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    rows = datasets.load_dataset(str(whole / "parquet"), split="train")
    assert rows["id"][:] == store.ids
    assert [row["toks"] for row in rows] == [store[clip].tolist() for clip in range(len(store))]
    assert rows["num_samples"][:] == [store.num_samples(clip) for clip in range(len(store))]
    assert rows.features["toks"].feature.dtype == "uint16"
    metadata = read_schema(whole / "parquet" / "tokens-00000.parquet").metadata
    assert json.loads(metadata[b"focalcodec"])["weights_sha256"] == store.meta["weights_sha256"]


# -- progress bar ---------------------------------------------------------------------------------


HOUR = EncodedClip(torch.zeros(1, dtype=torch.int64), 3600 * 8000, 8000)


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def bar_text(monkeypatch, shard: Shard) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with HoursBar(8, shard) as bar:
        bar.end_part([HOUR, HOUR], 2)  # done in an earlier run
        for _ in range(2):
            bar.add_seconds(3600.0)
        bar.end_part([HOUR, HOUR], 2)
        assert shard.index > 0 or (bar._bar.n, bar._bar.initial, bar._bar.total) == (4.0, 2.0, 8.0)
    return terminal.getvalue()


def test_first_process_shows_the_total_hours(monkeypatch):
    line = bar_text(monkeypatch, Shard(0, 2)).split("\r")[-1]
    assert "tokenize, 0 of 2:  50 %" in line and "4.0/8.0 hours" in line


def test_other_processes_are_silent(monkeypatch):
    assert bar_text(monkeypatch, Shard(1, 2)) == ""
