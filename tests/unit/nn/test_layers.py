"""The causal convolution in steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from focalcodec.nn import layers
from focalcodec.nn.layers import MaskedConv1d, convolve


@pytest.mark.parametrize("padding", ["replicate", "constant"])
@torch.no_grad()
def test_steps_give_what_the_whole_gives(padding: str) -> None:
    torch.manual_seed(0)
    conv = MaskedConv1d(3, 4, kernel_size=5, causal=True, causal_padding=padding)
    x = torch.randn(2, 13, 3)
    outputs, context = [], None
    for chunk in x.split([1, 4, 2, 6], dim=1):
        before = None if context is None else context.clone()
        y, later = conv.step(chunk, context)
        assert context is None or context.equal(before)  # a step does not change its arguments
        assert later.shape == (2, 4, 3)
        outputs.append(y)
        context = later
    torch.testing.assert_close(torch.cat(outputs, dim=1), conv(x), atol=1e-6, rtol=0)
    mask = torch.ones(2, 13, dtype=torch.bool)
    assert conv(x).equal(conv(x, mask))


@pytest.mark.parametrize("kernel_size", [32, 64, 101])
@pytest.mark.parametrize("frames", [1, 40, 203])
def test_long_kernels_train_as_short_ones(
    kernel_size: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output and gradients by FFT are those of conv1d; without gradients there is no FFT."""
    calls = []
    by_fft = layers._convolve_by_fft
    monkeypatch.setattr(
        layers, "_convolve_by_fft", lambda *given: calls.append(1) or by_fft(*given)
    )
    x = torch.randn(3, frames + kernel_size - 1, 20, requires_grad=True)
    weight, bias = torch.randn(20, 1, kernel_size, requires_grad=True), torch.randn(20)
    bias.requires_grad_()
    inputs, grad = (x, weight, bias), torch.randn(3, frames, 20)
    y = convolve(*inputs, groups=20)
    doubles = [each.detach().double().requires_grad_() for each in inputs]
    expected = F.conv1d(doubles[0].mT, *doubles[1:], groups=20).mT
    assert len(calls) == 1
    pairs = [(y, expected)]
    pairs += zip(
        torch.autograd.grad(y, inputs, grad),
        torch.autograd.grad(expected, doubles, grad.double()),
        strict=True,
    )
    for ours, exact in pairs:
        scale = exact.square().mean().sqrt()
        torch.testing.assert_close(ours.double() / scale, exact / scale, atol=1e-5, rtol=0)
    with torch.no_grad():
        convolve(*inputs, groups=20)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolve(*inputs, groups=20).dtype == torch.bfloat16
    assert len(calls) == 1
