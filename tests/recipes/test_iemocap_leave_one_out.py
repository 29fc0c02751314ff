"""Probes of emotions with each actor left out in turn, as a user runs them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from focalcodec.errors import UserError
from tests.unit.training import tiny
from tests.unit.training.probe_runs import CODEC

RECIPE = tiny.RECIPES / "IEMOCAP"
ACTORS, PITCH = ("03", "08", "09"), {"W": 300.0, "F": 220.0, "N": 150.0, "T": 90.0}


def leave_one_out(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "leave_one_out.py", "hparams/emotion_emodb.yaml", *options],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """EMO-DB's names; the pitch of a tone depends on the emotion."""
    folder = tmp_path / "emodb" / "wav"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for actor in ACTORS:
        for letter, pitch in PITCH.items():
            for sentence in ("a01", "a02"):
                time = np.arange(9600) / 16000
                sig = 0.3 * np.sin(2 * np.pi * pitch * time) + generator.normal(0, 0.01, 9600)
                soundfile.write(folder / f"{actor}{sentence}{letter}a.wav", sig, 16000)
    return folder.parent


def test_each_actor_is_tested_once_and_the_command_resumes(corpus: Path, tmp_path: Path) -> None:
    options = [f"--data_folder={corpus}", f"--codec={CODEC}", f"--output_folder={tmp_path / 'out'}"]
    options += [f"--token_folder={tmp_path / 'toks'}", f"--feature_cache={tmp_path / 'feats'}"]
    options += ["--all_inputs=[toks]", "--number_of_epochs=1", "--dim=8"]
    options += ["--probe={hidden_dim: 8, num_layers: 1}", "--bootstrap_samples=20"]
    done = leave_one_out(*options)
    assert done.returncode == 0, done.stderr[-3000:]
    text = (tmp_path / "out" / "table.md").read_text()
    assert text in done.stdout
    assert all(line in text for line in ("| toks ", "| chance | 25.0 ", "over 3 actors"))
    assert len(list((tmp_path / "toks").iterdir())) == 1, "all folds share the tokens"
    tested = set()
    for actor in ACTORS:
        card = json.loads((tmp_path / f"out/toks/1986/{actor}/test/card.json").read_text())
        assert all(clip["id"].startswith(actor) for clip in card["clips"])
        tested |= {clip["id"] for clip in card["clips"]}
    assert len(tested) == 24
    assert (tmp_path / "out" / "confusion_toks.png").is_file()
    again = leave_one_out(*options)
    assert again.returncode == 0 and "epoch 1/1:" not in again.stdout
    assert (tmp_path / "out" / "table.md").read_text() == text


def test_recall_is_of_all_actors_together(tmp_path: Path) -> None:
    with tiny.recipe_modules(RECIPE):
        import leave_one_out as script
    runs = []
    for actor, right in (("03", 4), ("08", 0)):
        folder = tmp_path / actor
        folder.mkdir()
        with (folder / "confusion_test.csv").open("w", newline="") as file:
            rows = [["emotion", "angry", "sad"], ["angry", right, 4 - right], ["sad", 0, 1]]
            csv.writer(file).writerows(rows)
        runs.append([folder])
    emotions, counts = script.read_counts(runs)
    assert emotions == ["angry", "sad"] and counts.shape == (2, 2, 2)
    text = script.table({"toks": counts, "feats": counts}, emotions, 200)
    assert "| toks   | 75.0 [50.0, 100.0]" in text and "| 50.0  | 100.0 |" in text
    assert "feats - toks: 0.0 [0.0, 0.0]" in text, "paired over actors"


def test_without_a_corpus() -> None:
    with tiny.recipe_modules(RECIPE):
        import leave_one_out as script

        yaml = str(RECIPE / "hparams" / "emotion_emodb.yaml")
        with pytest.raises(UserError, match="data_folder: name the root of the corpus"):
            script.main([yaml])
        with pytest.raises(UserError, match="data_folder nowhere: no such folder"):
            script.main([yaml, "--data_folder=nowhere"])


def test_an_unknown_input_is_refused_before_the_first_run(corpus: Path) -> None:
    with tiny.recipe_modules(RECIPE):
        import leave_one_out as script

        yaml = str(RECIPE / "hparams" / "emotion_emodb.yaml")
        with pytest.raises(UserError, match="all_inputs: 'mel' is not one of toks, qfeats"):
            script.main([yaml, f"--data_folder={corpus}", "--all_inputs=[toks, mel]"])
