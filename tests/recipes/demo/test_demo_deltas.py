"""Sizes, schedules and shared blocks of the demo codec's YAMLs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from focalcodec.training.run.config import load_config, read_tree
from tests.recipes.demo import small
from tests.unit.training import tiny

HPARAMS = small.RECIPE / "hparams"
BATCHES = {16: 442, 32: 221, 64: 110, 10: 706}
"""Batches in the demo codec's training set, by batch size."""


def path(name: str) -> Path:
    """A YAML of the codec or of an experiment."""
    (found,) = HPARAMS.rglob(f"{name}.yaml")
    return found


def size(name: str) -> int:
    """Parameters of compressor and decompressor."""
    nothing = "prepare: null\nbrain: null\nencoder: null"
    with torch.device("meta"), tiny.recipe_modules(small.RECIPE):
        modules = load_config(path(name), nothing)["modules"]
    return sum(p.numel() for part in modules.values() for p in part.parameters())


@pytest.mark.parametrize("shape", ["_wide", "_deep"])
def test_wide_and_deep_are_as_large(shape: str) -> None:
    assert size(f"demo_50hz{shape}") == pytest.approx(size("demo_50hz"), rel=0.01)
    base, other = read_tree(path("demo_50hz")), read_tree(path(f"demo_50hz{shape}"))
    assert other["reversed_hidden_dims"] == other["hidden_dims"][::-1]
    assert (len(other["hidden_dims"]) < len(base["hidden_dims"])) == (shape == "_wide")
    assert (max(other["hidden_dims"]) > max(base["hidden_dims"])) == (shape == "_wide")


def steps(name: str) -> int:
    """Optimiser steps of a training on the demo codec's corpus."""
    tree = read_tree(path(name))
    assert "total_steps" not in tree["lr_scheduler"], "computed when the run starts"
    return tree["number_of_epochs"] * BATCHES[tree["batch_size"]]


def test_steps_are_those_of_the_shipped_codec() -> None:
    """The numbers are those in the table of docs/demo.md and in earlier YAMLs."""
    assert {name: steps(name) for name in ("distill_encoder", "demo_50hz_wide")} == {
        "distill_encoder": 5304,
        "demo_50hz_wide": 3536,
    }
    assert steps("demo_50hz_small") == 1768 and steps("demo_50hz") == 3536
    assert steps("demo_vocos") == 1989 and steps("demo_vocos_gan") == 12376
    assert steps("demo_vocos_speaker") == 12708 and steps("speaker_encoder") == 1100


def test_speaker_loss_has_as_many_frames_in_as_many_steps() -> None:
    base, delta = (read_tree(path(f"demo_vocos_{x}")) for x in ("tuned", "speaker"))
    frames = [tree["batch_size"] * tree["crop_frames"] for tree in (base, delta)]
    assert frames[1] == pytest.approx(frames[0], rel=0.05)
    assert steps("demo_vocos_speaker") == pytest.approx(steps("demo_vocos_tuned"), rel=0.1)
    assert delta["crop_frames"] * 320 >= 16000
