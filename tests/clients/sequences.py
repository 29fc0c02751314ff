"""What the tests of this folder share: results of sequences, and a small loop of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.official.compare import Outcome, attempt, compare
from benchmarks.official.models import fill, uniform
from benchmarks.official.packages import Package, ours
from benchmarks.official.record import read

FOLDER = Path(__file__).parents[1] / "data" / "official" / "clients"
LENS = (1.0, 0.8, 0.55)  # relative lengths of a padded batch

Sequence = Callable[[Package], Any]


@cache
def recorded() -> dict[str, dict[str, Any]]:
    """Leaves of the results of the official package by the names of the sequences."""
    return read(FOLDER)


def params(sequences: Mapping[str, Sequence]) -> list[Any]:
    """The sequences as parameters of a test."""
    return [pytest.param(name, run, id=name.replace(" ", "_")) for name, run in sequences.items()]


def result(run: Sequence, package: Package) -> dict[str, Any]:
    """Leaves of what a sequence returns."""
    torch.manual_seed(0)
    return attempt(lambda: run(package))


def outcome(name: str, run: Sequence) -> Outcome:
    """Our result of a sequence, compared with the official one."""
    return compare(recorded()[name], result(run, ours()))


def padded_batch(samples: int = 640) -> tuple[Tensor, Tensor]:
    """Three clips, zero-padded to the longest, and their relative lengths."""
    sig, lens = uniform("batch", (3, samples)), torch.tensor(LENS)
    return sig * (torch.arange(samples) < (lens * samples)[:, None]), lens


def adamw(modules: nn.ModuleDict, lr: float) -> torch.optim.Optimizer:
    """The optimizer of the recipes."""
    return torch.optim.AdamW(modules.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)


def train(
    make: Callable[[], nn.ModuleDict],
    loss_of: Callable[[nn.ModuleDict], Tensor],
    lr: float = 5e-4,
) -> dict[str, Any]:
    """Three steps, a checkpoint, a new process's modules, two more steps; the loss of each step.

    The checkpoint is resumed as SpeechBrain does: states of modules by name, those of the
    optimizer by the order of the parameters.
    """
    modules = fill(make())
    assert isinstance(modules, nn.ModuleDict)
    optimizer, losses = adamw(modules, lr), []

    def step() -> None:
        modules.train()
        loss = loss_of(modules)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss))

    for _ in range(3):
        step()
    saved = modules.state_dict(), optimizer.state_dict()
    modules = make()
    optimizer = adamw(modules, lr)
    modules.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    for _ in range(2):
        step()
    shapes = [tuple(p.shape) for p in modules.parameters()]
    return {"losses": losses, "parameters": shapes}


def masked_mse(x: Tensor, target: Tensor, lens: Tensor) -> Tensor:
    """Mean square over the valid frames of clips of relative lengths, as SpeechBrain has it."""
    from speechbrain.nnet.losses import mse_loss

    return mse_loss(x, target, length=lens, allowed_len_diff=0)


def same_frames(x: Tensor, frames: int) -> Tensor:
    """The first frames, or zeros after the last."""
    return nn.functional.pad(x, (0, 0, 0, max(0, frames - x.shape[1])))[:, :frames]
