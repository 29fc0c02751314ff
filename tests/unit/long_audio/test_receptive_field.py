"""The context of each part is exactly the frames with a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from focalcodec import UserError
from focalcodec.encoders.logmel import LogMel
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.long_audio import Context, part_context
from focalcodec.long_audio.coding import plan_windows
from focalcodec.vocos import Vocos
from focalcodec.wavenext import WaveNeXt
from focalcodec.wavlm import WavLM


def reach(part: nn.Module, x: Tensor, frame: int, per_frame: int, hop: int = 1) -> tuple[int, int]:
    """Input frames before and after `frame` that change its output.

    A frame has `per_frame` input items and `hop` output items.
    """
    x.requires_grad_(True)
    y = part(x)[0]
    out = y[:, frame * hop : (frame + 1) * hop]
    (gradient,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), x)
    seen = gradient.reshape(x.shape[1], -1).abs().sum(dim=1).nonzero().flatten()
    first, last = int(seen[0]) // per_frame, int(seen[-1]) // per_frame
    return frame - first, last - frame


def without_mean(part: nn.Module, causal: bool) -> nn.Module:
    """Set the gate of the mean over time to zero: only convolutions are left."""
    for name, parameter in part.named_parameters():
        if not causal and "modulation.in_proj" in name:
            parameter.data[-1:] = 0.0
    return part


def test_logmel() -> None:
    assert reach(LogMel(), torch.randn(1, 32000), 50, per_frame=320) == (2, 2)
    assert part_context(LogMel()) == Context(2, 2)


@pytest.mark.parametrize("causal", [False, True])
def test_wavlm_without_attention(causal: bool) -> None:
    attention = 8
    torch.manual_seed(0)
    encoder = WavLM(
        hidden_dims=[4] * 7,
        num_layers=1,
        dim=8,
        ffn_dim=8,
        num_heads=2,
        conv_pos=16,
        conv_pos_groups=2,
        max_distance=attention,
        num_buckets=8,
        causal=causal,
        window_size=attention,
    )
    nn.init.zeros_(encoder.encoder.layers[0].attention.out_proj.weight)
    sig = torch.randn(1, 320 * 60)
    left, right = reach(encoder, sig, 32, per_frame=320)
    context = part_context(encoder)
    assert context.left == left + attention
    assert context.right == (0 if causal else right + attention)
    assert context.align == (4 if causal else 1)


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 1, 1), (2, 2, 1)])
def test_compressor(factors: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    compressor = without_mean(FocalEncoder(4, 3, [4, 4, 4], factors), causal=False)
    context = part_context(compressor)
    total, frame = context.align, 60
    lefts, rights = zip(
        *(reach(compressor, torch.randn(1, 600, 4), frame + n, per_frame=total) for n in range(2)),
        strict=True,
    )
    # windows are cut between tokens, so the reach is rounded up to whole ones
    assert math.ceil(context.left / total) == max(lefts)
    assert math.ceil(context.right / total) == max(rights)


@pytest.mark.parametrize("factors", [(1, 1, 1), (1, 1, 2), (1, 2, 2)])
def test_decompressor(factors: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    decompressor = without_mean(FocalDecoder(3, 4, [4, 4, 4], factors), causal=False)
    hop = decompressor.factor
    left, right = reach(decompressor, torch.randn(1, 100, 3), 50, per_frame=1, hop=hop)
    context = part_context(decompressor)
    # levels are rounded up to whole tokens one by one
    assert left <= context.left <= left + 2 and right <= context.right <= right + 2


def test_causal_focal_parts() -> None:
    torch.manual_seed(0)
    options = {"causal": True, "window_size": 20, "focal_window": 5, "focal_factor": 2}
    compressor = FocalEncoder(4, 3, [4, 4], [1, 1], **options)
    left, right = reach(compressor, torch.randn(1, 200, 4), 150, per_frame=1)
    assert part_context(compressor) == Context(left, right) == Context(2 * (4 + 6 + 19), 0)
    decompressor = FocalDecoder(3, 4, [4, 4], [1, 1], **options, last_window_size=10)
    context = part_context(decompressor)
    assert context == Context(4 + 6 + 19 + 4 + 6 + 9, 0, align=4)
    # the refiner mixes a chunk of four frames: from its first frame on, the reach is the context
    assert reach(decompressor, torch.randn(1, 200, 3), 152, per_frame=1) == (context.left, 3)


def test_decoders() -> None:
    torch.manual_seed(0)
    vocos = Vocos(4, num_layers=3, dim=4, ffn_dim=4)
    context = part_context(vocos)
    assert reach(vocos, torch.randn(1, 100, 4), 50, 1, hop=320) == (context.left, context.right)
    for decoder in (
        WaveNeXt(4, num_layers=3, dim=4, ffn_dim=4, causal=True),
        Vocos(4, num_layers=3, dim=4, ffn_dim=4, causal=True, hop_length=480),
    ):
        assert reach(decoder, torch.randn(1, 100, 4), 50, 1, hop=480) == (24, 0)
        assert part_context(decoder) == Context(24, 0)


def test_a_part_of_ones_own_may_say_its_context() -> None:
    class Mine(FocalEncoder):
        context = (3, 2)

    assert part_context(Mine(4, 3, [8], [2])) == Context(3, 2, align=2)
    own = nn.Conv1d(1, 1, 5)
    assert part_context(own).whole and plan_windows(part_context(own), 50.0, 1.0).size > 10**9
    own.context = (2, 2)
    own.output_lengths = lambda lengths: lengths
    assert part_context(own) == Context(2, 2)
    own.factor, own.output_lengths = 4, lambda lengths: (lengths + 3) // 4
    assert part_context(own) == Context(2, 2, align=4)
    own.output_lengths = lambda lengths: 4 * lengths
    assert part_context(own) == Context(2, 2)
    own.context = 2
    with pytest.raises(UserError, match=r"Conv1d: context=2; give \(left, right\), in frames"):
        part_context(own)
