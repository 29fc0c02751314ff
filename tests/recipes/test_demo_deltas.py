"""What the demo codec's variants change, and what they leave alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from focalcodec.training.config import load_config, read_tree

HPARAMS = Path(__file__).parents[2] / "recipes" / "LibriSpeech" / "hparams"


def size(name: str) -> int:
    """Parameters of compressor and decompressor."""
    nothing = "prepare: null\nbrain: null\nmel_loss: null\nencoder: null"
    with torch.device("meta"):
        modules = load_config(HPARAMS / f"{name}.yaml", nothing)["modules"]
    return sum(p.numel() for part in modules.values() for p in part.parameters())


@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_wide_and_deep_are_as_large(shape: str) -> None:
    assert size(f"demo_50hz_{shape}") == pytest.approx(size("demo_50hz"), rel=0.01)
    base, delta = (read_tree(HPARAMS / f"demo_50hz{x}.yaml") for x in ("", f"_{shape}"))
    assert delta["reversed_hidden_dims"] == delta["hidden_dims"][::-1]
    assert (len(delta["hidden_dims"]) < len(base["hidden_dims"])) == (shape == "wide")
    assert (max(delta["hidden_dims"]) > max(base["hidden_dims"])) == (shape == "wide")


def test_speaker_loss_hears_as_much_in_as_many_steps() -> None:
    base, delta = (read_tree(HPARAMS / f"demo_vocos_{x}.yaml") for x in ("tuned", "speaker"))
    frames = [tree["batch_size"] * tree["crop_frames"] for tree in (base, delta)]
    assert frames[1] == pytest.approx(frames[0], rel=0.05)
    steps = [tree["lr_scheduler"]["total_steps"] for tree in (base, delta)]
    assert steps[1] == pytest.approx(steps[0], rel=0.1)
    assert delta["crop_frames"] * 320 >= 16000
