"""Augmented copies as a user makes them, and the manifests with their noisy partners."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile

from focalcodec.data.dataset import AudioDataset
from focalcodec.data.manifest import read_prepared
from focalcodec.errors import UserError
from focalcodec.training.run.augmentation import augment_recipe
from tests.unit.data.voices import write_voices

RECIPE = Path(__file__).parents[2] / "recipes" / "LibriSpeech"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"librispeech_{name}", RECIPE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare_librispeech = load("librispeech_prepare").prepare_librispeech


def run(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "augment.py", *options],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


def prepared(root: Path, save: Path, **options: Any) -> dict[str, list[dict[str, Any]]]:
    prepare_librispeech(root, save, noisy=True, **options)
    return read_prepared(save)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two copies of the embedded corpus' real people."""
    out = tmp_path_factory.mktemp("out")
    options = ["--copies={test-real: 2}", "--noisy_share=0.5", "--rooms=2", "--jobs=2"]
    done = run("hparams/augment.yaml", f"--output_folder={out}", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{out / 'test-real-aug2'}: ready" in done.stdout
    return out


def test_manifests_find_noisy_partners(made: Path, tmp_path: Path) -> None:
    splits = ["test-real-aug1", "test-real-aug2"]
    rows = prepared(made, tmp_path, tr_splits=splits)["train"]
    pairs = [row for row in rows if row["noisy"] != row["wav"]]
    assert 0 < len(pairs) < len(rows) and all(row["wrd"] for row in rows)
    assert all("-noisy/" in row["noisy"] for row in pairs)
    dataset = AudioDataset(rows, sample_rate=16000)
    for row, item in zip(rows, map(dataset.__getitem__, range(len(rows))), strict=True):
        assert item is not None and item["mixture"] is not None
        assert len(item["mixture"]["sig"]) == len(item["sig"]) == row["num_samples"]
        assert item["mixture"]["sig"].equal(item["sig"]) == (row not in pairs)
    # A second time all is found whole.
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.flac")}
    options = ["--copies={test-real: 2}", "--noisy_share=0.5", "--rooms=2"]
    augment_recipe([str(RECIPE / "hparams" / "augment.yaml"), f"--output_folder={made}", *options])
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*.flac")}


def test_plain_preparation_reads_the_clean_ones(made: Path, tmp_path: Path) -> None:
    prepare_librispeech(made, tmp_path, te_splits=["test-real-aug1"])
    rows = read_prepared(tmp_path)["test"]
    assert "noisy" not in rows[0] and {row["spk_id"] for row in rows} == {"91a1", "92a1", "93a1"}


def test_sets_without_partners_have_the_column_too(tmp_path: Path) -> None:
    write_voices(tmp_path / "corpus", "train-a")
    write_voices(tmp_path / "corpus", "train-a-noisy", speakers=1)
    write_voices(tmp_path / "corpus", "dev-a")
    sets = prepared(
        tmp_path / "corpus", tmp_path / "save", tr_splits=["train-a"], dev_splits=["dev-a"]
    )
    assert sum(row["noisy"] != row["wav"] for row in sets["train"]) == 2
    assert all(row["noisy"] == row["wav"] for row in sets["valid"])


def test_partners_stay_with_their_clips_when_these_are_divided(tmp_path: Path) -> None:
    write_voices(tmp_path / "corpus", "all", clips=5)
    write_voices(tmp_path / "corpus", "all-noisy", clips=5)
    options = {"tr_splits": ["all"], "shares": [0.6, 0.2, 0.2]}
    sets = prepared(tmp_path / "corpus", tmp_path / "save", **options)
    assert [len(rows) for rows in sets.values()] == [9, 3, 3]
    for row in (row for rows in sets.values() for row in rows):
        assert row["noisy"] == row["wav"].replace("/all/", "/all-noisy/")


def test_partner_of_another_length_is_broken(tmp_path: Path) -> None:
    write_voices(tmp_path / "corpus", "train-a")
    (row,) = write_voices(tmp_path / "corpus", "train-a-noisy", speakers=1, clips=1)
    soundfile.write(row["wav"], [0.1] * 99, 16000)
    prepare_librispeech(
        tmp_path / "corpus",
        tmp_path / "save",
        tr_splits=["train-a"],
        noisy=True,
        max_broken_share=0.2,
    )
    with (tmp_path / "save" / "train.skipped.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert "1-5-0000" in line["path"] and "99 samples" in line["reason"]


def test_manifest_is_made_again_if_partners_are_added(tmp_path: Path) -> None:
    write_voices(tmp_path / "corpus", "train-a")
    rows = prepared(tmp_path / "corpus", tmp_path / "save", tr_splits=["train-a"])["train"]
    assert all(row["noisy"] == row["wav"] for row in rows)
    write_voices(tmp_path / "corpus", "train-a-noisy")
    rows = prepared(tmp_path / "corpus", tmp_path / "save", tr_splits=["train-a"])["train"]
    assert all(row["noisy"] != row["wav"] for row in rows)


def test_both_in_one_set_are_refused(made: Path, tmp_path: Path) -> None:
    splits = ["test-real-aug1", "test-real-aug1-noisy"]
    with pytest.raises(UserError, match="twice"):
        prepare_librispeech(made, tmp_path, tr_splits=splits)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--copies={}"], "copies="),
        (["--copies={test-real: many}"], "test-real: many"),
        (["--copies={no-such: 1}"], "no folder 'no-such'"),
        (["--data_folder=no"], "data_folder no: no such folder"),
        (["--copies={test-real: 1}", "--speed=[2.0, 1.0]"], "speed=[2.0, 1.0]"),
    ],
)
def test_errors_name_the_way_out(tmp_path: Path, options: list[str], told: str) -> None:
    yaml = str(RECIPE / "hparams" / "augment.yaml")
    with pytest.raises(UserError, match=re.escape(told)):
        augment_recipe([yaml, f"--output_folder={tmp_path / 'out'}", *options])


def test_error_is_one_line() -> None:
    done = run("hparams/augment.yaml", "--data_folder=no", "--copies={test-real: 1}")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "no such folder" in line and "Traceback" not in done.stderr
