"""`ClipEncoder` with the batches of Ray Data, `datasets` and Spark, without these engines."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from focalcodec.audio import read_audio
from focalcodec.errors import UserError
from focalcodec.tokenize import ClipEncoder
from tests.unit.small_codecs import GOLDEN, golden_codec
from tests.unit.tokenize.corpora import BROKEN, SECONDS, write_corpus

MODEL = str(GOLDEN["tiny_50hz"])
CODEC = golden_codec("tiny_50hz")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def expected(corpus: Path) -> dict[str, list[int]]:
    """Tokens of each clip alone."""
    toks = {}
    for name in SECONDS:
        sig = read_audio(corpus / f"{name}.flac", 16000, channels="mix")
        toks[name] = CODEC.encode(sig[None], sample_rate=16000)[0][0].tolist()
    return toks


def paths(corpus: Path) -> list[Path]:
    return sorted(corpus.iterdir())


def check(encoded, corpus: Path, expected: dict[str, list[int]]) -> None:
    names = [path.stem for path in paths(corpus)]
    assert [list(toks) for toks in encoded["toks"]] == [expected.get(name, []) for name in names]
    assert list(encoded["lengths"]) == [len(expected.get(name, [])) for name in names]
    for name, reason in zip(names, encoded["reason"], strict=True):
        assert BROKEN.get(name, "") in reason and bool(reason) == (name in BROKEN)
    assert encoded["num_samples"][1] == 7200 and encoded["sample_rate"][1] == 24000


@pytest.mark.parametrize("kind", ["path", "bytes", "dict of bytes", "dict of path", "numpy"])
def test_a_mapping_of_columns(corpus, expected, kind):
    values = {
        "path": [str(path) for path in paths(corpus)],
        "bytes": [path.read_bytes() for path in paths(corpus)],
        "dict of bytes": [{"bytes": x.read_bytes(), "path": None} for x in paths(corpus)],
        "dict of path": [{"bytes": None, "path": str(path)} for path in paths(corpus)],
        "numpy": np.array([path.read_bytes() for path in paths(corpus)], dtype=object),
    }[kind]
    encoder = pickle.loads(pickle.dumps(ClipEncoder(MODEL)))
    encoded = encoder({"audio": values, "id": list(range(len(values)))})
    check(encoded, corpus, expected)
    assert encoded["id"] == list(range(len(values))) and "audio" not in encoded


def test_arrays_with_their_rate(expected):
    sig = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1
    toks = CODEC.encode(torch.from_numpy(sig[0])[None], sample_rate=8000)[0][0].tolist()
    encoder = ClipEncoder(MODEL, channels="first")
    for batch in (
        {"audio": [{"array": sig[0], "sampling_rate": 8000}]},
        {"audio": [sig[0].tolist()], "sample_rate": [8000]},
        {"audio": [sig], "sampling_rate": np.array([8000])},
    ):
        encoded = encoder(batch)
        assert encoded["toks"] == [toks] and list(encoded["sample_rate"]) == [8000]
    problems = encoder({"audio": [None, sig[0], {"path": None}, np.arange(9)]})["reason"]
    assert all("no audio; give bytes of a file, a path, or an array" in x for x in problems)
    integers = encoder({"audio": [np.arange(9)], "sample_rate": [8000]})["reason"]
    assert "give floats (T,) or (channels, T)" in integers[0]


def test_data_frames_as_map_in_pandas_gives_them(corpus, expected):
    """Spark calls the function with an iterator of frames, and checks the columns of each."""
    pd = pytest.importorskip("pandas")
    files = paths(corpus)
    rows = {"path": list(map(str, files)), "content": [path.read_bytes() for path in files]}
    frame = pd.DataFrame(rows)
    encoder = ClipEncoder(MODEL, column="content")
    frames = encoder(iter([frame[:5], frame[5:], frame[:0]]))
    assert iter(frames) is frames, "an iterator"
    done = list(frames)
    assert [len(each) for each in done] == [5, len(files) - 5, 0]
    names = [column.split()[0] for column in ClipEncoder.SCHEMA.split(", ")]
    assert all(list(each.columns) == ["path", *names] for each in done)
    check(pd.concat(done[:2], ignore_index=True), corpus, expected)


def test_an_arrow_table(corpus, expected):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"audio": [str(path) for path in paths(corpus)]})
    check(ClipEncoder(MODEL)(table), corpus, expected)


def test_bad_arguments_are_one_line(corpus):
    with pytest.raises(UserError, match="column='audio': the batch has file; give the name"):
        ClipEncoder(MODEL)({"file": []})
    with pytest.raises(UserError, match="'audio': one clip, not a batch; give batched=True"):
        ClipEncoder(MODEL)({"audio": {"bytes": b"", "path": None}})
    with pytest.raises(UserError, match="batch_seconds=0: give a number above 0"):
        ClipEncoder(MODEL, batch_seconds=0)
    with pytest.raises(UserError, match="no/such"):
        ClipEncoder("no/such/model")({"audio": [str(paths(corpus)[0])]})


SCRIPT = """
import sys
import multiprocess, torch
from datasets import Audio, Dataset
from focalcodec.tokenize import ClipEncoder

if __name__ == "__main__":
    torch.set_num_threads(2)  # the parent has threads, which a forked process does not have
    encoder = ClipEncoder(sys.argv[1])
    rows = [{"bytes": open(path, "rb").read(), "path": None} for path in sys.argv[2:]]
    parent = encoder({"audio": rows})
    assert all(parent["lengths"])
    data = Dataset.from_dict({"audio": rows}).cast_column("audio", Audio(decode=False))
    for method in ("fork", "spawn"):
        multiprocess.set_start_method(method, force=True)
        done = data.map(encoder, batched=True, batch_size=1, num_proc=2, load_from_cache_file=False)
        assert done["toks"][:] == parent["toks"] and done["lengths"][:] == parent["lengths"]
        print(method, flush=True)
"""


def test_map_of_datasets_after_the_parent_used_the_codec(corpus, tmp_path):
    """A forked process without care for threads waits for ever."""
    pytest.importorskip("datasets")
    (tmp_path / "script.py").write_text(SCRIPT)
    clips = [str(corpus / f"{name}.flac") for name in ("a", "b")]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "2"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", MODEL, *clips],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.stdout.split() == ["fork", "spawn"], done.stderr[-2000:]
