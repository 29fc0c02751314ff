"""Factorised entropies of LFQ and SSQ are those of the plain definition over all codes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.quantizers.lfq import LookupFreeQuantizer
from focalcodec.quantizers.ssq import ScalarSphericalQuantizer


def plain(points: Tensor, codes: Tensor, inv_temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Both entropies and the mean of p(c|u), by the softmax of squared distances to all codes."""
    probs = (-inv_temperature * torch.cdist(points, codes).square()).softmax(dim=-1)
    mean = probs.mean(dim=0)
    sample = -(probs * probs.clamp(min=1e-5).log()).sum(dim=-1).mean()
    return sample, -(mean * mean.clamp(min=1e-5).log()).sum(), mean


@pytest.mark.parametrize("inv_temperature", [0.5, 5.0, 30.0])
@pytest.mark.parametrize("dim, levels", [(1, 4), (3, 4), (5, 3), (4, 2)])
def test_ssq(dim: int, levels: int, inv_temperature: float) -> None:
    torch.manual_seed(0)
    quantizer = ScalarSphericalQuantizer(dim, levels)
    lats = torch.randn(60, dim, dtype=torch.float64, requires_grad=True)
    digits = torch.arange(levels**dim)[:, None] // quantizer.places % levels
    grid = quantizer.values.double()[digits]  # the levels themselves, not scaled to the sphere
    unit = lats / lats.norm(dim=-1, keepdim=True)
    terms = quantizer.entropy_terms(lats, None, inv_temperature)
    for found, wanted in zip(terms, plain(unit, grid, inv_temperature), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    (grad,) = torch.autograd.grad(terms.sample - terms.codebook, lats)
    sample, codebook, _ = plain(lats / lats.norm(dim=-1, keepdim=True), grid, inv_temperature)
    (wanted,) = torch.autograd.grad(sample - codebook, lats)
    torch.testing.assert_close(grad, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("inv_temperature", [0.5, 5.0])
def test_lfq(inv_temperature: float) -> None:
    torch.manual_seed(0)
    quantizer = LookupFreeQuantizer(32)
    lats = torch.randn(60, 5, dtype=torch.float64)
    terms = quantizer.entropy_terms(lats, None, inv_temperature)
    for found, wanted in zip(
        terms, plain(lats, quantizer.codebook.double(), inv_temperature), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dim", [1, 4, 13])
def test_two_levels_are_binary_spherical_quantization(dim: int) -> None:
    torch.manual_seed(0)
    bsq, ssq = BinarySphericalQuantizer(2**dim), ScalarSphericalQuantizer(dim, 2)
    lats = torch.randn(2, 300, dim)
    lats[0, 0], lats[0, 1], lats[0, 2] = 0.0, 1e-30, -0.0
    lengths = torch.tensor([300, 120])
    for found, wanted in zip(ssq.run(lats, lengths), bsq.run(lats, lengths), strict=True):
        assert torch.equal(found, wanted)
    assert torch.equal(ssq.codebook, bsq.codebook)
    mask = torch.arange(300) < lengths[:, None]
    for found, wanted in zip(
        ssq.entropy_terms(lats, mask), bsq.entropy_terms(lats, mask), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_four_levels_of_eight_values_are_two_heads_of_256() -> None:
    torch.manual_seed(0)
    quantizer = ScalarSphericalQuantizer(8, 4)
    assert quantizer.codebook_size == 2**16
    lats = torch.randn(4000, 8)
    toks, codes = quantizer(lats)
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(4000))
    # a value beyond the sphere's corner is clamped, so that one digit is the first or the last
    digits = toks[:, None] // quantizer.places % 4
    assert ((digits == 0) | (digits == 3)).any(dim=-1).all()
    nearest = (lats / lats.norm(dim=-1, keepdim=True))[..., None] - quantizer.values
    assert torch.equal(digits, nearest.abs().argmin(dim=-1))
    terms = quantizer.entropy_terms(lats, None, 100.0)
    assert terms.joint.shape == (2**16,) and terms.joint.sum().item() == pytest.approx(1, abs=1e-4)
    assert 0 < terms.sample < terms.codebook < 16 * math.log(2)
