"""Errors of train.py for wrong data and options, as a user sees them."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from focalcodec.errors import UserError
from focalcodec.training import run
from tests.unit.training import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def user_sees(argv: list[str], monkeypatch, capsys) -> str:
    """Run the script, which must fail; return its one line of error."""
    monkeypatch.setattr("sys.argv", ["train.py", str(tiny.RECIPE / argv[0]), *argv[1:]])
    with pytest.raises(SystemExit) as stop:
        run.script(tiny.train)
    assert stop.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    return told[0]


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of change of every file, names of folders."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


def nothing_half_written(run: Path) -> bool:
    names = [path.name for path in run.rglob("*")]
    hidden = [name for name in names if name.startswith(".") or name.endswith(".tmp")]
    return not hidden and not list(run.rglob("*.csv")) and not (run / "save").exists()


def test_missing_data_folder(tmp_path, monkeypatch, capsys) -> None:
    argv = tiny.arguments("quantizer", tmp_path / "run", tmp_path / "gone")
    assert user_sees(argv, monkeypatch, capsys) == (
        f"error: data_folder {tmp_path / 'gone'}: no such folder; name the corpus' root"
    )
    assert nothing_half_written(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tr_splits": ["train-clean-100"]}, "no folder 'train-clean-100'"),
        ({"te_splits": ["tset"]}, "no folder 'tset'"),
        ({"tr_splits": "train"}, "give a list, such as [train]"),
        ({"batch_size": 5}, "4 clips are too few for batch_size=5"),
        ({"min_seconds": 9.0}, "min_seconds=9.0: no clip of 4 is left"),
        ({"sorting": "sideways"}, "sorting='sideways'"),
        ({"dev_splits": []}, "dev_splits=[]: no clips for the set 'valid'"),
        ({"dev_splits": None}, "dev_splits=None: no clips for the set 'valid'"),
        ({"tr_splits": []}, "tr_splits=[]: no clips for the set 'train'"),
        ({"betas": [2, 3]}, "Invalid beta parameter at index 0: 2"),
    ],
    ids=str,
)
def test_wrong_knobs_are_reported_in_one_line(
    data, tmp_path, monkeypatch, capsys, change, told
) -> None:
    argv = tiny.arguments("quantizer", tmp_path / "run", data, **change)
    assert told in user_sees(argv, monkeypatch, capsys)
    assert not (tmp_path / "run" / "save").exists()


@pytest.mark.parametrize("option", ["--lrr=1", "--hidden_dim=[1]", "--encoder={n_mel: 3}"])
def test_unknown_knob_is_reported_before_any_file_is_written(
    data, tmp_path, monkeypatch, capsys, option
) -> None:
    argv = tiny.arguments("quantizer", tmp_path / "run", data, option)
    line = user_sees(argv, monkeypatch, capsys)
    assert "did you mean" in line or "'n_mel'" in line
    assert not (tmp_path / "run").exists()


def test_empty_data_folder(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "empty").mkdir()
    argv = tiny.arguments("quantizer", tmp_path / "run", tmp_path / "empty")
    assert str(tmp_path / "empty") in user_sees(argv, monkeypatch, capsys)


def test_output_folder_inside_the_data_folder(data, monkeypatch, capsys) -> None:
    argv = tiny.arguments("quantizer", data / "run", data)
    assert "only read" in user_sees(argv, monkeypatch, capsys)


def break_clips(data: Path, count: int) -> list[Path]:
    broken = sorted(data.glob("train/**/*.flac"))[:count]
    kinds = [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no audio"),
        lambda path: soundfile.write(path, np.zeros((16000, 2)), 16000),
    ]
    for path, kind in zip(broken, kinds, strict=False):
        kind(path)
    return broken


def test_too_many_broken_clips_stop_the_run_before_it_starts(tmp_path, monkeypatch, capsys) -> None:
    data = tiny.write_corpus(tmp_path / "data")
    (broken,) = break_clips(data, 1)
    broken.write_text("no audio")
    line = user_sees(tiny.arguments("quantizer", tmp_path / "run", data), monkeypatch, capsys)
    assert "1 of 4 clips are broken" in line and broken.name in line
    assert "max_broken_share=0.05" in line and "skipped.csv" in line
    assert not (tmp_path / "run" / "save").exists()
    assert not (tmp_path / "run" / "manifests" / "train.csv").exists()


def test_broken_clips_are_skipped_listed_and_left_as_they_are(tmp_path) -> None:
    data = tiny.write_corpus(tmp_path / "data", train=[1.0] * 8, dev=[0.7], test=[0.7])
    broken = break_clips(data, 4)
    before = tree(data)
    options = {"max_broken_share": 0.6, "number_of_epochs": 1}
    tiny.train(tiny.arguments("quantizer", tmp_path / "run", data, **options))
    listed = set()
    for report in (tmp_path / "run").rglob("*skipped.csv"):
        with report.open(newline="") as file:
            listed |= {Path(row["path"]).name for row in csv.DictReader(file)}
    assert listed == {path.name for path in broken}
    assert tree(data) == before
    assert len((tmp_path / "run" / "train_log.txt").read_text().splitlines()) == 1


def test_read_only_data_folder_stays_as_it_was(tmp_path) -> None:
    data = tiny.write_corpus(tmp_path / "data")
    # At another rate too: files must not be resampled in the data folder.
    clip = sorted(data.glob("train/**/*.flac"))[0]
    soundfile.write(clip, 0.1 * np.random.default_rng(0).standard_normal(24000), 24000)
    before = tree(data)
    folders = [data, *(path for path in data.rglob("*") if path.is_dir())]
    for path in data.rglob("*.*"):
        path.chmod(0o444)
    for folder in folders:
        folder.chmod(0o555)
    try:
        options = {"feature_cache": str(tmp_path / "cache"), "sample_clips": 1}
        tiny.train(tiny.arguments("vocoder", tmp_path / "run", data, **options))
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert tree(data) == before


def test_clip_without_a_transcript_is_trained_on(tmp_path) -> None:
    data = tiny.write_corpus(tmp_path / "data")
    for text in data.rglob("*.trans.txt"):
        text.unlink()
    tiny.train(tiny.arguments("quantizer", tmp_path / "run", data, number_of_epochs=1))
    rows = (tmp_path / "run" / "manifests" / "train.csv").read_text().splitlines()
    assert len(rows) == 5


def test_missing_decoder_stops_the_run_before_training(data, tmp_path, monkeypatch, capsys) -> None:
    source = str(tmp_path / "no" / "run")
    argv = tiny.arguments("quantizer", tmp_path / "run", data, decoder_source=source)
    assert source in user_sees(argv, monkeypatch, capsys)
    assert not list((tmp_path / "run").glob("save/CKPT*"))


def test_test_only_without_a_checkpoint(data, tmp_path, monkeypatch, capsys) -> None:
    argv = tiny.arguments("vocoder", tmp_path / "run", data, "--test_only")
    assert "no checkpoint of a finished epoch" in user_sees(argv, monkeypatch, capsys)
    assert not (tmp_path / "run" / "results.json").exists()


def test_damaged_checkpoints_are_not_overwritten(data, tmp_path, monkeypatch, capsys) -> None:
    argv = tiny.arguments("quantizer", tmp_path / "run", data, number_of_epochs=1)
    tiny.train(argv)
    (mark,) = (tmp_path / "run").glob("save/*/COMPLETE.json")
    mark.unlink()
    assert "none of its 1 checkpoints is complete" in user_sees(argv, monkeypatch, capsys)


def test_training_with_nan_ends_with_status_2(monkeypatch, capsys) -> None:
    def main(_) -> None:
        raise UserError("epoch 1: the train loss is nan")

    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(SystemExit) as stop:
        run.script(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: epoch 1: the train loss is nan\n"
