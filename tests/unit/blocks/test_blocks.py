"""Blocks and activations of the ablations: the same for a clip alone and in a padded batch."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from focalcodec.blocks.amp import AntiAliasedSnake
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.long_audio import part_context
from focalcodec.parts import build_part

VARIANTS: dict[str, dict[str, Any]] = {
    "focal": {},
    "leaky_relu": {"activation": "leaky_relu"},
    "conformer": {"block": "conformer", "block_options": {"num_heads": 2, "kernel_size": 5}},
    "amp": {"block": "amp", "block_options": {"kernel_sizes": [3, 5], "dilations": [1, 2]}},
    "linear": {"block": "linear"},
}
every = pytest.mark.parametrize("name", VARIANTS)


def encoder(name: str, factors: tuple[int, ...] = (2, 1), **more: Any) -> FocalEncoder:
    torch.manual_seed(0)
    part = FocalEncoder(6, 4, [8, 8], factors, 3, 2, 1, **VARIANTS[name], **more)
    return randomised(part)


def decoder(name: str) -> FocalDecoder:
    torch.manual_seed(0)
    return randomised(FocalDecoder(4, 6, [8, 8], [1, 2], 3, 2, 1, **VARIANTS[name]))


def randomised(part: Any) -> Any:
    """Biases and scales as after training: padding that is not masked shows."""
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    return part.eval()


@every
def test_padding_changes_nothing(name: str) -> None:
    feats, codes = torch.randn(2, 23, 6), torch.randn(2, 12, 4)
    for part, x, lengths in (
        (encoder(name), feats, torch.tensor([23, 9])),
        (decoder(name), codes, torch.tensor([12, 5])),
    ):
        garbage = x.clone()
        garbage[1, lengths[1] :] = float("nan")
        y, frames = part(garbage, lengths=lengths)
        alone, alone_frames = part(x[1:, : lengths[1]], lengths=lengths[1:])
        assert frames[1] == alone_frames[0] == part.output_lengths(lengths[1])
        torch.testing.assert_close(y[1, : frames[1]], alone[0], atol=1e-5, rtol=1e-4)
        assert (y[1, frames[1] :] == 0).all()
        whole, _ = part.run(x[:1])
        torch.testing.assert_close(whole, y[:1], atol=1e-5, rtol=1e-4)


@every
def test_the_official_call_gives_the_same(name: str) -> None:
    part, feats = encoder(name, unit_norm=False), torch.randn(1, 12, 6)
    lats, _ = part(feats)
    torch.testing.assert_close(lats, part.run(feats)[0])


@every
def test_gradients_are_finite_with_padding(name: str) -> None:
    part, feats = encoder(name).train(), torch.randn(2, 9, 6)
    feats[1, 4:] = float("nan")
    lats, _ = part(feats, lengths=torch.tensor([9, 4]))
    lats.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in part.parameters())


@every
def test_the_configuration_makes_it_again(name: str) -> None:
    for role, part in (("compressor", encoder(name)), ("decompressor", decoder(name))):
        config = json.loads(json.dumps(part.config))
        again = build_part(role, type(part).__name__, config)
        again.load_state_dict(part.state_dict())
        assert again.config == part.config
        # the hash of a published codec depends on its configuration
        assert {"block", "block_options", "activation", "unit_norm"} & {*config} == {
            *VARIANTS[name]
        }


@pytest.mark.parametrize("name", ["focal", "amp", "linear"])
def test_a_frame_depends_on_its_context_alone(name: str) -> None:
    """An exact context: long recordings and streams are cut into windows with it."""
    part = encoder(name, (1, 1)).double()
    reach = part_context(part)
    frames = 2 * reach.right + 9
    feats = torch.randn(1, frames, 6, dtype=torch.float64)
    other, place = feats.clone(), frames // 2
    other[:, place] += 1.0
    if name == "focal":  # its mean over time reaches everywhere
        for layer in part.layers:
            layer.focal_block.modulation.in_proj.weight.data[-1] = 0.0
            layer.focal_block.modulation.in_proj.bias.data[-1] = 0.0
    changed = (part(feats)[0] != part(other)[0]).any(dim=-1)[0].nonzero().flatten()
    assert place - reach.right <= changed.min() and changed.max() <= place + reach.left
    assert part_context(encoder("conformer")).left > 800


def test_wrong_choices_are_one_line() -> None:
    for options, words in (
        ({"block": "mamba"}, "block=mamba: give focal"),
        ({"block": "linear", "causal": True}, "block=linear: needs later frames"),
        ({"block": "conformer", "block_options": {"heads": 2}}, "block_options of conformer"),
        ({"block": "conformer", "block_options": {"num_heads": 3}}, "num_heads=3"),
        ({"block": "amp", "block_options": {"kernel_sizes": [4]}}, "odd kernels"),
        ({"block_options": {"heads": 2}}, "block=focal"),
        ({"activation": "gelu"}, "activation=gelu: give snake or leaky_relu"),
    ):
        with pytest.raises(UserError, match=words):
            FocalEncoder(6, 4, [8], [1], **options)


def test_low_pass_filters_keep_slow_and_remove_fast_signals() -> None:
    module = AntiAliasedSnake(1)
    module.snake = torch.nn.Identity()  # type: ignore[assignment]
    time = torch.arange(200.0)
    for cycles, low, high in ((0.05, 0.98, 1.02), (0.45, 0.0, 0.75)):
        x = torch.sin(2 * torch.pi * cycles * time)[None, None]
        y = module(x)
        gain = (y[..., 50:150].square().mean() / x[..., 50:150].square().mean()).sqrt().item()
        assert low <= gain <= high
        assert y.shape == x.shape
    constant = module(torch.ones(1, 1, 50))[..., 10:40]
    torch.testing.assert_close(constant, torch.ones_like(constant), atol=5e-3, rtol=0)
