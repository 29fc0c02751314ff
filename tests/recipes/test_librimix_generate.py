"""LibriMix's generator as a user runs it, and training on its mixtures."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from focalcodec.data.manifest import read_prepared
from focalcodec.training.run.config import read_tree
from tests.recipes.librimix import RECIPE, load
from tests.unit.data.voices import write_voices
from tests.unit.training import tiny


def run(script: str, yaml: str, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, script, f"hparams/{yaml}", *options],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Libri2Mix of a few clips, written by two processes with reverberation."""
    speech, out = tmp_path_factory.mktemp("LibriSpeech"), tmp_path_factory.mktemp("out")
    for split in ("train-clean-100", "dev-clean", "test-clean"):
        write_voices(speech, split, clips=1, seconds=0.8)
    words = [str(RECIPE / "hparams" / "generate.yaml"), f"--data_folder={speech}"]
    words += [f"--output_folder={out}", "--tr_splits=[train-clean-100]", "--num_speakers=2"]
    words += ["--modes=[max]", "--mode=max", "--reverb_share=0.5", "--rooms=2", "--jobs=2"]
    with tiny.recipe_modules(RECIPE), redirect_stdout(StringIO()) as said:
        importlib.import_module("generate").generate(words)
    assert f"train with --data_folder {out}" in said.getvalue()
    return out


def test_writes_librimixs_tree(made: Path) -> None:
    sets = read_prepared(made / "manifests")
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 3, "valid": 3, "test": 3}
    mode = made / "Libri2Mix" / "wav16k" / "max"
    assert sorted(path.name for path in mode.iterdir()) == ["dev", "metadata", "test", "train-100"]
    prepare = load("librimix_prepare").prepare_librimix
    splits = {"tr_splits": ["train-clean-100"], "te_splits": ["test-clean"]}
    prepare(made, made.parent / "again", num_speakers=2, mode="max", **splits)
    assert len(read_prepared(made.parent / "again")["train"]) == 3


@pytest.mark.parametrize("stage", ["focalcodec_50hz_mini", "vocos_16khz_mini"])
def test_training_reads_the_mixtures(made: Path, tmp_path: Path, stage: str) -> None:
    options = ["--debug", "--debug_epochs=1", "--batch_size=2", "--num_workers=0"]
    options += ["--sample_clips=0", "--feature_dim=16"]
    if stage.startswith("focalcodec"):
        options += ["--hidden_dims=[8, 8, 8]", "--reversed_hidden_dims=[8, 8, 8]"]
    else:
        options += ["--modules={decoder: {num_layers: 1, dim: 8, ffn_dim: 8}}"]
        options += ["--discriminator_divisor=32", "--mixture_share=0.5"]
    splits = ["--tr_splits=[train-clean-100]", "--dev_splits=[dev-clean]"]
    splits += ["--te_splits=[test-clean]", "--extra_sets={}"]
    data = [f"--data_folder={made}", "--num_speakers=2", "--mode=max", *splits]
    done = run("train.py", f"{stage}.yaml", f"--output_folder={tmp_path}", *data, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert " test |" in done.stdout and "nan" not in (tmp_path / "train_log.txt").read_text()


def test_errors_are_one_line(tmp_path: Path) -> None:
    done = run("generate.py", "generate.yaml", f"--output_folder={tmp_path}", "--noise_folder=no")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "noise_folder no: no such folder" in line


@pytest.mark.parametrize("name", ["generate", "generate_mini"])
def test_header_has_command_and_name(name: str) -> None:
    lines = (RECIPE / "hparams" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) < 80
    assert any(re.match(rf"#\s+python generate\.py hparams/{name}\.yaml", line) for line in lines)
    assert read_tree(RECIPE / "hparams" / f"{name}.yaml")["name"].startswith("LibriMix")
