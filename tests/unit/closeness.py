"""Comparisons that hold on any processor: differences relative to the scale of the values."""

from __future__ import annotations

from torch import Tensor


def assert_close_to_scale(actual: Tensor, expected: Tensor, share: float = 3e-5) -> None:
    """Check that no value is off by more than `share` of the root mean square of `expected`.

    Sums of float32 values come in another order with other instructions (AVX2, AVX-512), so the
    rounding of a value depends on the size of all the values that it is computed from.
    """
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    error = (actual - expected).abs().max()
    scale = expected.square().mean().sqrt()
    assert error <= share * scale, f"off by {error / scale:.2g} of the scale, {share:g} is allowed"
