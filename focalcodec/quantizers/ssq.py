"""Scalar spherical quantization: each value of a point on the unit sphere is one of K levels.

Source: DyCAST, arXiv 2601.23174. With two levels it is binary spherical quantization.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.nn.entropy import EntropyTerms, joint_log_probs, terms_of_halves
from focalcodec.nn.layers import project_to_sphere
from focalcodec.nn.masking import zero_padding
from focalcodec.nn.quantizer_base import QuantizerBase


class ScalarSphericalQuantizer(QuantizerBase):
    """Quantizer without weights: L digits of K levels, codes of norm 1.

    The levels are equally spaced from -1/sqrt(L) to 1/sqrt(L); values beyond are clamped. The first
    digit of a token is the most significant one. A point of norm 1 has a value of 1/sqrt(L) or
    more, so at least one digit is the lowest or the highest: (K - 2)^L toks are given to no point.

    Parameters
    ----------
    dim : int
        L, width of lats and codes.
    levels : int
        K; the codebook has K^L codes.

    Example
    -------
    >>> quantizer = ScalarSphericalQuantizer(dim=2, levels=4)
    >>> toks, codes = quantizer(torch.tensor([[[3.0, 1.0], [-1.0, 1.0]]]))
    >>> toks, codes
    (tensor([[14,  3]]), tensor([[[ 0.9487,  0.3162],
             [-0.7071,  0.7071]]]))
    """

    values: Tensor
    bounds: Tensor
    places: Tensor

    def __init__(self, dim: int = 8, levels: int = 4) -> None:
        super().__init__()
        if dim < 1 or levels < 2:
            raise UserError(f"dim={dim}, levels={levels}: give 1 value and 2 levels, or more")
        self.config = {"dim": dim, "levels": levels}
        self.dim, self.levels, self.codebook_size = dim, levels, levels**dim
        radius = math.sqrt(dim)
        grid = [(2 * digit - levels + 1) / (levels - 1) for digit in range(levels)]
        between = [(2 * digit - levels + 2) / (levels - 1) for digit in range(levels - 1)]
        # (K,) levels, (K - 1,) bounds between them, (L,) places of the digits in a token
        values = torch.tensor([value / radius for value in grid], dtype=torch.float32)
        self.register_buffer("values", values, persistent=False)
        bounds = torch.tensor([value / radius for value in between], dtype=torch.float32)
        self.register_buffer("bounds", bounds, persistent=False)
        places = torch.tensor([levels ** (dim - 1 - index) for index in range(dim)])
        self.register_buffer("places", places, persistent=False)

    def project(self, lats: Tensor) -> Tensor:
        """Points of lats (..., L) on the unit sphere."""
        return project_to_sphere(lats)

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        """Round lats (..., L) to codes (..., L); a value between two levels goes to the lower."""
        return self._codes(self._digits(project_to_sphere(lats)))

    def lats_to_toks(self, lats: Tensor) -> Tensor:
        """Map lats (..., L) to toks (...) int64."""
        return (self._digits(project_to_sphere(lats)) * self.places).sum(dim=-1)

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        """Map codes (..., L) to toks (...) int64: their largest value is that of a level."""
        if codes.shape[-1] != self.dim:
            raise UserError(f"codes of width {codes.shape[-1]}: give width {self.dim}")
        largest = codes.abs().amax(dim=-1, keepdim=True)
        codes = codes / largest.masked_fill(largest == 0, 1.0) / math.sqrt(self.dim)
        return (self._digits(codes) * self.places).sum(dim=-1)

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        """Map toks (...) of any integer type to codes (..., L)."""
        return self._codes(self.checked(toks)[..., None] // self.places % self.levels)

    def _digits(self, points: Tensor) -> Tensor:
        return torch.bucketize(points.to(self.bounds.dtype).contiguous(), self.bounds)

    def _codes(self, digits: Tensor) -> Tensor:
        codes = self.values[digits]
        # two levels are on the sphere; with more, the levels of a token are scaled to it
        return codes if self.levels == 2 else project_to_sphere(codes)

    def entropy_terms(
        self,
        lats: Tensor,
        mask: Tensor | None = None,
        inv_temperature: float = 100.0,
        all_reduce: Callable[[Tensor], Tensor] | None = None,
    ) -> EntropyTerms:
        """Entropies of a token and of the codebook; the digits are independent given u.

        p(k|u_i) is the softmax over the K levels of -inv_temperature (u_i - level)^2, with u =
        lats / ||lats||. The parameters are those of `BinarySphericalQuantizer.entropy_terms`, and
        so are the values for two levels.
        """
        with torch.autocast(lats.device.type, enabled=False):
            lats = lats.to(torch.promote_types(lats.dtype, torch.float32)).reshape(-1, self.dim)
            valid = lats.new_ones(len(lats), dtype=torch.bool) if mask is None else mask.flatten()
            points = project_to_sphere(zero_padding(lats, valid))[..., None]  # (frames, L, 1)
            distances = (points - self.values.to(lats.dtype)).square()  # (frames, L, K)
            digits = (-inv_temperature * distances).log_softmax(dim=-1)
            entropy = -(digits.exp() * digits).sum(dim=(1, 2))  # (frames,)
            half = self.dim // 2
            first, second = joint_log_probs(digits[:, :half]), joint_log_probs(digits[:, half:])
            return terms_of_halves(first, second, entropy, valid, self.codebook_size, all_reduce)
