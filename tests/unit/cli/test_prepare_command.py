"""`focalcodec prepare`: its printed table, and its errors."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from focalcodec.cli.main import main
from focalcodec.data.manifest import read_prepared


def write_clip(path: Path, seconds: float = 1.0, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(os.fsencode(path.name)))
    with path.open("wb") as file:  # soundfile takes no name that is not UTF-8
        sig = rng.normal(0, 0.1, (int(seconds * 8000), channels))
        soundfile.write(file, sig, 8000, format=path.suffix[1:].upper())


@pytest.fixture
def talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty clips of two speakers, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for k in range(20):
        write_clip(tmp_path / "talks" / ("anna" if k < 12 else "ben") / f"clip{k:02}.flac", 3.0)
    return tmp_path / "talks"


def test_table_and_next_command(talks: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["prepare", "talks", "sets", "--language", "de"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split() for line in out.splitlines()[:4]] == [
        ["set", "clips", "speakers", "minutes"],
        ["train", "16", "2", "0.8"],
        ["valid", "2", "2", "0.1"],
        ["test", "2", "1", "0.1"],
    ]
    assert "split by file, since speakers are under 10: 2" in out
    command = out.splitlines()[-2].split()
    assert command[:2] == ["python", "train.py"]
    assert command[-2:] == ["--own_data", str(talks.parent / "sets")]
    made = "20 clips, 60.00 s of audio in train.csv, valid.csv, test.csv"
    assert out.splitlines()[-1] == f"{talks.parent / 'sets'}: {made}"
    rows = read_prepared("sets")["train"]
    assert {row["language"] for row in rows} == {"de"} and {row["channels"] for row in rows} == {
        "mix"
    }
    assert main(["prepare", "talks", "sets", "--language", "de"]) == 0
    assert capsys.readouterr().out == out


def test_options(talks: Path, capsys: pytest.CaptureFixture) -> None:
    options = "--split_by file --valid_share 0.3 --test_share 0.2 --seed 5 --segment_seconds 1.5"
    assert main(["prepare", "talks", "sets", *options.split()]) == 0
    sets = read_prepared("sets")
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 20, "valid": 12, "test": 8}
    assert "split by file\n" in capsys.readouterr().out


def test_broken_files_are_counted(talks: Path, capsys: pytest.CaptureFixture) -> None:
    (talks / "anna" / "none.wav").touch()
    (talks / os.fsdecode(b"caf\xe9.wav")).write_text("no audio")
    write_clip(talks / os.fsdecode(b"th\xe9.wav"))
    assert main(["prepare", "talks", "sets", "--max_broken_share", "0.1"]) == 0
    out = capsys.readouterr().out
    assert f"broken, left out: 2, listed in {talks.parent / 'sets' / 'skipped.csv'}" in out
    assert sum(map(len, read_prepared("sets").values())) == 21


def test_corrections_by_hand(talks: Path, capsys: pytest.CaptureFixture) -> None:
    (talks / "anna" / "clip00.txt").write_text("helo wrld")
    assert main(["prepare", "talks", "sets"]) == 0
    manifests = {x: Path("sets", f"{x}.csv") for x in ("train", "valid", "test")}
    made = {name: path.read_text() for name, path in manifests.items()}
    (name,) = (name for name in made if "helo wrld" in made[name])
    manifests[name].write_text(made[name].replace("helo wrld", "hello world"))
    assert main(["prepare", "talks", "sets"]) == 0
    assert main(["prepare", "talks", "sets", "--seed", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"focalcodec: error: sets/{name}.csv: changed by hand")
    assert "--overwrite" in line and "hello world" in manifests[name].read_text()
    assert main(["prepare", "talks", "sets", "--overwrite"]) == 0
    assert {name: path.read_text() for name, path in manifests.items()} == made


def test_an_output_folder_that_is_not_utf8(
    talks: Path, capsysbinary: pytest.CaptureFixture
) -> None:
    out = os.fsdecode(b"sets \xe9")
    assert main(["prepare", "talks", out]) == 0
    assert rb"sets \udce9'" in capsysbinary.readouterr().out
    assert len(read_prepared(out)["train"]) == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere sets", "nowhere: no such folder"),
        ("empty sets", "empty: no audio files"),
        ("talks talks/sets", "is inside the data folder talks"),
        ("talks sets --channels error", "stereo.wav: 2 channels"),
        ("talks sets --min_seconds 2", "shorter than min_seconds=2.0"),
        ("talks sets --min_seconds -1", "min_seconds=-1.0: give 0 or more"),
        ("talks sets --valid_share 1", "each must be above 0, and both together below 1"),
        ("talks sets --split_by speaker", "2 speakers .* take split_by=file"),
        ("talks sets --segment_seconds 0.5", "segment_seconds=0.5: give 1 or more"),
        ("talks taken", "taken/train.csv: not made by a preparation"),
    ],
)
def test_errors_are_one_line(
    talks: Path, capsys: pytest.CaptureFixture, words: str, message: str
) -> None:
    (talks.parent / "empty").mkdir()
    (talks.parent / "taken").mkdir()
    (talks.parent / "taken" / "train.csv").write_text("mine")
    for k in range(3):
        write_clip(talks / "anna" / f"{k}stereo.wav", 1.0 + k / 8, channels=2)
    assert main(["prepare", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.search(message, err)
