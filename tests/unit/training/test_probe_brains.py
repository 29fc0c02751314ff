"""Losses and figures of the probes' Brains: those of the clips, however they are put together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from focalcodec.training.ctc_brain import ctc_losses, frames_needed
from tests.unit.training import probe_runs

PROBES = ["asr", "utterance", "translation"]


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
    # Of translation the batches' frames differ, and so do the weights of their means.
    assert after == pytest.approx(before, rel=1e-2)


def test_two_processes_give_the_figures_of_one(sets: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dropout": 0.0, "lr": 0.0001}
    script = tmp_path / "train.py"
    script.write_text(
        "from focalcodec.training.experiment import run_script, train\nrun_script(train)\n"
    )
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
    # The training clips themselves: that gradients go where they should.
    for name in ("valid", "test"):
        probe_runs.write_sets_of(tmp_path / "same")
        same = tmp_path / "same"
        (same / f"{name}.csv").write_text((same / "train.csv").read_text())
    out = probe_runs.run(
        "utterance", same, tmp_path / "run", number_of_epochs=25, max_grad_norm=5.0, dim=16
    )
    assert probe_runs.card(out)["figures"]["error_rate"]["value"] <= 12.5


def test_ctc_loss_is_pytorchs_clip_by_clip() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(2, 6, 4).log_softmax(dim=2)
    losses = ctc_losses(log_probs, torch.tensor([6, 4]), [[1, 2], [3]])
    for clip, (frames, text) in enumerate([(6, [1, 2]), (4, [3])]):
        alone = torch.nn.functional.ctc_loss(
            log_probs[clip, :frames, None], torch.tensor([text]), [frames], [len(text)]
        )
        assert losses[clip].item() == pytest.approx(alone.item(), rel=1e-5)


def test_a_text_longer_than_its_clip_has_no_loss() -> None:
    log_probs = torch.zeros(1, 3, 4).log_softmax(dim=2).requires_grad_()
    losses = ctc_losses(log_probs, torch.tensor([3]), [[1, 1, 2]])
    losses.sum().backward()
    assert frames_needed([1, 1, 2]) == 4 and losses.item() == 0 and not log_probs.grad.any()
