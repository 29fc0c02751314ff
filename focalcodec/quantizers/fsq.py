"""Finite scalar quantization: each value of a bounded point is rounded to one of its levels.

Source: Mentzer et al., arXiv 2309.15505, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.nn.quantizer_base import QuantizerBase


class FiniteScalarQuantizer(QuantizerBase):
    """Quantizer without weights and without a further loss; set `entropy_weight` to 0.

    The first level is the most significant digit of a token. Codes are from -1 to 1; zero is one of
    them, also with an even number of levels, which are shifted by half a step for that.

    Parameters
    ----------
    levels : sequence of int
        Levels of each of the L values, 2 or more; the codebook has as many codes as their product.

    Example
    -------
    >>> quantizer = FiniteScalarQuantizer([4, 3])
    >>> toks, codes = quantizer(torch.tensor([[[0.0, 9.0], [-9.0, 0.0]]]))
    >>> toks.tolist(), codes.tolist()
    ([[8, 1]], [[[0.0, 1.0], [-1.0, 0.0]]])
    """

    def __init__(self, levels: Sequence[int] = (4, 4, 4, 4, 4)) -> None:
        super().__init__()
        if min(levels, default=0) < 2:
            raise UserError(f"levels={list(levels)}: give two levels or more for each value")
        self.config = {"levels": list(levels)}
        self.dim, self.codebook_size = len(levels), math.prod(levels)
        counts = torch.tensor(levels)
        places = [math.prod(levels[index + 1 :]) for index in range(len(levels))]
        # (L,) each: levels, their places in a token, digit of the code zero, steps from it to -1
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.register_buffer("middle", counts // 2, persistent=False)
        self.register_buffer("steps", (counts // 2).float(), persistent=False)
        # the range of tanh, a little more than from the lowest to the highest level
        self.register_buffer("reach", (counts - 1) * (1 + 1e-3) / 2, persistent=False)
        self.register_buffer("offset", (counts % 2 == 0) * 0.5, persistent=False)
        self.register_buffer("shift", (self.offset / self.reach).atanh(), persistent=False)

    counts: Tensor
    places: Tensor
    middle: Tensor
    steps: Tensor
    reach: Tensor
    offset: Tensor
    shift: Tensor

    def project(self, lats: Tensor) -> Tensor:
        """Lats (..., L) between the lowest and the highest code."""
        return ((lats + self.shift).tanh() * self.reach - self.offset) / self.steps

    def lats_to_codes(self, lats: Tensor) -> Tensor:
        """Round lats (..., L) to codes (..., L)."""
        return (self.project(lats) * self.steps).round() / self.steps

    def codes_to_toks(self, codes: Tensor) -> Tensor:
        """Map codes (..., L) to toks (...) int64."""
        if codes.shape[-1] != self.dim:
            raise UserError(f"codes of width {codes.shape[-1]}: give width {self.dim}")
        digits = (codes * self.steps).round().long() + self.middle
        return (digits * self.places).sum(dim=-1)

    def toks_to_codes(self, toks: Tensor) -> Tensor:
        """Map toks (...) of any integer type to codes (..., L)."""
        digits = self.checked(toks)[..., None] // self.places % self.counts
        return (digits - self.middle) / self.steps
