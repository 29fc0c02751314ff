"""Losses and figures of the probes' Brains do not depend on how clips are put into batches."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import speechbrain as sb
import torch

from tests.unit.training import probe_runs, tiny

PROBES = list(probe_runs.RECIPES)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probe_runs.write_sets_of(tmp_path_factory.mktemp("sets"))


@pytest.mark.parametrize("probe", PROBES)
def test_figures_do_not_depend_on_the_batches(probe: str, sets: Path, tmp_path: Path) -> None:
    outs = [
        probe_runs.run(probe, sets, tmp_path / str(size), valid_batch_size=size, number_of_epochs=1)
        for size in (1, 4)
    ]
    alone, together = (json.loads((out / "results.json").read_text()) for out in outs)
    assert alone["test"] == pytest.approx(together["test"], rel=1e-5)
    clips = [probe_runs.card(out)["clips"] for out in outs]
    assert [clip.get("prediction") for clip in clips[0]] == [
        clip.get("prediction") for clip in clips[1]
    ]


@pytest.mark.parametrize("probe", PROBES)
def test_accumulated_batches_are_one(probe: str, sets: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dropout": 0.0, "number_of_epochs": 1, "lr": 0.001}
    one = probe_runs.run(probe, sets, tmp_path / "one", batch_size=4, **options)
    two = probe_runs.run(
        probe, sets, tmp_path / "two", batch_size=2, grad_accumulation_factor=2, **options
    )
    before, after = (probe_runs.history(out)[0]["train"]["loss"] for out in (one, two))
    # The two batches of `enhancement` have other frames, and so other weights in the mean.
    assert after == pytest.approx(before, rel=1e-2)


def test_two_processes_give_the_figures_of_one(sets: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dropout": 0.0, "lr": 0.0001}
    script = probe_runs.ROOT / "recipes" / "LibriSpeech" / "train.py"
    one = probe_runs.run("asr", sets, tmp_path / "one", **options)
    words = probe_runs.arguments(
        "asr", sets, tmp_path / "two", token_folder=str(tmp_path / "tokens"), **options
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc_per_node", "2", str(script), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (probe_runs.history(out) for out in (one, tmp_path / "two"))
    for before, after in zip(first, second, strict=True):
        for stage in ("train", "valid"):
            assert after[stage] == pytest.approx(before[stage], rel=1e-4)
    cards = [probe_runs.card(out) for out in (one, tmp_path / "two")]
    assert cards[0]["figures"] == cards[1]["figures"]


def test_speakers_are_learnt(sets: Path, tmp_path: Path) -> None:
    # On the training clips themselves, this tests that gradients reach all weights.
    for name in ("valid", "test"):
        probe_runs.write_sets_of(tmp_path / "same")
        same = tmp_path / "same"
        (same / f"{name}.csv").write_text((same / "train.csv").read_text())
    out = probe_runs.run(
        "sid", same, tmp_path / "run", number_of_epochs=25, max_grad_norm=5.0, dim=16
    )
    assert probe_runs.card(out)["figures"]["error_rate"]["value"] <= 12.5


def test_predictions_are_in_the_order_of_the_targets() -> None:
    with tiny.recipe_modules(tiny.RECIPES / "LibriMix"):
        brain_class = importlib.import_module("brains").TranslatorBrain
    targets = torch.tensor([[[[7], [8], [9]], [[1], [2], [3]]]])  # (B, N, S, Q)
    # Heads 0, 1 and 2 predict targets 2, 0 and 1.
    logits = 9.0 * torch.nn.functional.one_hot(targets[:, :, [2, 0, 1]], 16)
    brain = brain_class.__new__(brain_class)
    brain.clips, decoded, scores = {}, [], {}
    brain.estimates = SimpleNamespace(add=lambda batch, toks, entry_of: decoded.append(toks))
    brain.add_scores = lambda batch, stage, name, values: scores.update({name: values})
    brain.mean = lambda name, losses, weights: losses.mean()
    batch = SimpleNamespace(targets=targets, lengths=torch.tensor([2]))
    loss = brain.compute_objectives(logits, batch, sb.Stage.TEST)
    assert torch.equal(decoded[0], targets) and float(loss) < 0.01
    assert scores == {"token_error_rate": [(0.0, 6)]}
