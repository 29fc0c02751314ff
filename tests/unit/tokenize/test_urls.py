"""Corpora and tokens at URLs, with the file system of fsspec in memory."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import fsspec
import numpy as np
import pytest

from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.processes import Shard
from focalcodec.tokenize import TokenStore
from focalcodec.tokenize.run import tokenize_corpus
from focalcodec.tokenize.sources import open_corpus
from focalcodec.tokenize.urls import StorageError, storage_errors
from tests.unit.small_codecs import GOLDEN, logmel_codec
from tests.unit.tokenize.corpora import BROKEN, SECONDS, plan_for, write_corpus
from tests.unit.tokenize.test_tars import write_tar

CODEC = logmel_codec()
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    out = tmp_path_factory.mktemp("out")
    tokenize_corpus(CODEC, plan_for(CODEC, corpus), out)
    return TokenStore(out)


@pytest.fixture
def bucket(corpus: Path) -> fsspec.AbstractFileSystem:
    """The corpus at memory://bucket/speech."""
    files = fsspec.filesystem("memory")
    for path in corpus.iterdir():
        files.pipe_file(f"/bucket/speech/{path.name}", path.read_bytes())
    yield files
    files.rm("/bucket", recursive=True)


def url_plan(source: str = "memory://bucket/speech"):
    return plan_for(CODEC, source, formats=("parquet",))


def content(files: fsspec.AbstractFileSystem) -> dict[str, bytes]:
    return {path: files.cat_file(path) for path in files.find("/bucket/out")}


def test_from_a_url_to_a_folder(bucket, expected, tmp_path):
    meta = tokenize_corpus(CODEC, plan_for(CODEC, "memory://bucket/speech"), tmp_path)
    assert (meta["clips"], meta["failed"]) == (len(SECONDS), len(BROKEN))
    store = TokenStore(tmp_path)
    assert store.ids == expected.ids and np.array_equal(store.stream, expected.stream)


def test_each_clip_is_fetched_once(bucket, tmp_path, monkeypatch):
    fetched = []
    cat = type(bucket).cat_file
    monkeypatch.setattr(
        type(bucket), "cat_file", lambda self, path, **rest: fetched.append(path) or cat(self, path)
    )
    tokenize_corpus(CODEC, plan_for(CODEC, "memory://bucket/speech"), tmp_path)
    assert len(fetched) == len(set(fetched)) == len(SECONDS) + len(BROKEN)


def test_parquet_at_a_url(bucket, expected):
    meta = tokenize_corpus(CODEC, url_plan(), "memory://bucket/out")
    assert meta["clips"] == len(SECONDS) and meta["tokens"] == expected.meta["tokens"]
    found = content(bucket)
    assert json.loads(found["/bucket/out/meta.json"]) == meta
    rows = list(csv.DictReader(io.StringIO(found["/bucket/out/failed.csv"].decode())))
    assert {row["id"] for row in rows} == set(BROKEN)
    names = sorted(name for name in found if name.endswith(".parquet"))
    tables = [parquet.read_table(io.BytesIO(found[name])) for name in names]
    toks = [row for table in tables for row in table["toks"].to_pylist()]
    assert toks == [expected[clip].tolist() for clip in range(len(expected))]
    assert [row for table in tables for row in table["id"].to_pylist()] == expected.ids


def test_shards_and_resuming_at_a_url(bucket, monkeypatch):
    tokenize_corpus(CODEC, url_plan(), "memory://bucket/out")
    whole = content(bucket)
    bucket.rm("/bucket/out", recursive=True)
    # the first process is stopped after its first part
    pipe = type(bucket).pipe_file

    def killed(self, path, value, **rest):
        if path.endswith("000002.parquet"):
            raise KeyboardInterrupt
        pipe(self, path, value, **rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(bucket), "pipe_file", killed)
        tokenize_corpus(CODEC, url_plan(), "memory://bucket/out", Shard(0, 2))
    before = bucket.modified("/bucket/out/parquet/tokens-000000.parquet")
    assert tokenize_corpus(CODEC, url_plan(), "memory://bucket/out", Shard(1, 2)) is None
    assert tokenize_corpus(CODEC, url_plan(), "memory://bucket/out", Shard(0, 2)) is not None
    assert bucket.modified("/bucket/out/parquet/tokens-000000.parquet") == before
    assert content(bucket) == whole


def test_a_file_url_is_a_folder(corpus, expected, tmp_path):
    plan = plan_for(CODEC, f"file://{corpus}")
    tokenize_corpus(CODEC, plan, f"file://{tmp_path}/out")
    assert np.array_equal(TokenStore(tmp_path / "out").stream, expected.stream)


def test_another_plan_at_a_url(bucket):
    tokenize_corpus(CODEC, url_plan(), "memory://bucket/out")
    other = plan_for(CODEC, "memory://bucket/speech", formats=("parquet",), part_clips=5)
    with pytest.raises(UserError, match=r"memory://bucket/out: made with part_clips=3, not 5"):
        tokenize_corpus(CODEC, other, "memory://bucket/out")
    tokenize_corpus(CODEC, other, "memory://bucket/out", overwrite=True)
    assert len([name for name in content(bucket) if "parquet/" in name]) == other.parts
    with pytest.raises(UserError, match=r"memory://bucket/speech: not empty"):
        tokenize_corpus(CODEC, url_plan(), "memory://bucket/speech", overwrite=True)


def test_tars_manifests_lists_and_tables_at_urls(bucket, corpus, tmp_path, monkeypatch):
    # without a network `datasets` would refuse all URLs, those in memory too
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    tar = write_tar(tmp_path / "s.tar", {"a.flac": (corpus / "a.flac").read_bytes()})
    bucket.put(str(tar), "/bucket/tars/s.tar")
    bucket.put(str(tar), "/bucket/tars/s0.tar")
    manifest = "ID,duration,wav\nq,1,$data_root/a.flac\n"
    bucket.pipe_file("/bucket/m.csv", manifest.encode())
    (tmp_path / "l.txt").write_text("memory://bucket/speech/a.flac\n")
    (tmp_path / "m.csv").write_text(manifest)
    row = {"audio": [{"bytes": (corpus / "a.flac").read_bytes(), "path": None}], "id": ["q"]}
    table = io.BytesIO()
    import pyarrow

    parquet.write_table(pyarrow.table(row), table)
    bucket.pipe_file("/bucket/tables/t.parquet", table.getvalue())
    toks = []
    for number, (source, root) in enumerate(
        [
            ("memory://bucket/tars/s.tar", None),
            ("memory://bucket/tars/s.*", None),
            ("memory://bucket/tars/s{0..0}.tar", None),
            ("memory://bucket/m.csv", "memory://bucket/speech"),
            (str(tmp_path / "m.csv"), "memory://bucket/speech"),
            (str(tmp_path / "l.txt"), None),
            ("memory://bucket/tables", None),
        ]
    ):
        plan = plan_for(CODEC, source, data_folder=root)
        tokenize_corpus(CODEC, plan, tmp_path / str(number))
        store = TokenStore(tmp_path / str(number))
        assert len(store) == 1, source
        toks.append(store[0].tolist())
    assert all(other == toks[0] for other in toks)


@pytest.mark.parametrize(
    "source, message",
    [
        ("memory://nobucket/speech", "nobucket/speech: no such file, folder or bucket"),
        ("memory://bucket/none.csv", "none.csv: no such file, folder or bucket"),
        ("strange://bucket/a", "no protocol 'strange'"),
        ("memory://bucket/texts", "no audio files"),
    ],
)
def test_bad_urls_are_one_line(bucket, tmp_path, capsys, source, message):
    bucket.pipe_file("/bucket/texts/a.txt", b"text")
    model = ["--model", str(GOLDEN["tiny_50hz"])]
    assert main(["tokenize", source, str(tmp_path / "out"), *model]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err and not (tmp_path / "out").exists()


def test_memmap_at_a_url_is_refused(bucket, capsys):
    words = ["tokenize", "memory://bucket/speech", "memory://bucket/out"]
    assert main([*words, "--model", str(GOLDEN["tiny_50hz"])]) == 2
    assert "the format is Parquet only; give --format parquet" in capsys.readouterr().err


def test_a_lost_connection_stops_the_run_and_marks_no_clip_as_failed(bucket, monkeypatch):
    def lost(self, path, **rest):
        if path.endswith("d.flac"):
            raise ConnectionError("connection reset")
        return fetch(self, path)

    fetch = type(bucket).cat_file
    with (
        monkeypatch.context() as patch,
        pytest.raises(StorageError, match="connection reset; chec"),
    ):
        patch.setattr(type(bucket), "cat_file", lost)
        tokenize_corpus(CODEC, url_plan(), "memory://bucket/out")
    assert tokenize_corpus(CODEC, url_plan(), "memory://bucket/out")["failed"] == len(BROKEN)


def test_a_missing_package_is_named():
    with pytest.raises(UserError, match=r"s3://b/x: s3:// needs s3fs, which .*; pip install s3fs"):
        with storage_errors("s3://b/x"):
            raise ImportError("Install s3fs to access S3")


def test_a_list_names_what_is_not_there(tmp_path):
    (tmp_path / "l.txt").write_text("memory://nobucket/a.flac\n")
    source = open_corpus(str(tmp_path / "l.txt"))
    with pytest.raises(UserError, match="a.flac: no such file"):
        source.audio(source.clips[0])
