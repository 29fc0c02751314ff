"""AdaLN-zero: the vector of an utterance shifts, scales and gates the branches of a block.

Source: Peebles and Xie, "Scalable diffusion models with transformers", arXiv 2212.09748, section
3.2. The maps are zeros at first and have no bias: a block with a vector of zeros, and a new block
with any vector, are those without one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Adaptation(NamedTuple):
    """Of one branch of a block: (B, 1, dim) each."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


class AdaptiveNorm(nn.Module):
    """Maps a vector (B, voice_dim) to the adaptations of a block's branches.

    Example
    -------
    >>> first, second = AdaptiveNorm(12, dim=8, branches=2)(torch.randn(3, 12))
    >>> first.shift.shape, adapt(torch.ones(1), first).equal(torch.ones(3, 1, 8))
    (torch.Size([3, 1, 8]), True)
    """

    def __init__(self, voice_dim: int, dim: int, branches: int) -> None:
        super().__init__()
        self.branches = branches
        self.weight = nn.Parameter(torch.zeros(3 * branches * dim, voice_dim))

    def forward(self, voice: Tensor) -> list[Adaptation]:
        """One for each branch."""
        values = voice.to(self.weight.dtype) @ self.weight.T  # (B, 3 * branches * dim)
        parts = values[:, None].chunk(3 * self.branches, dim=-1)
        return [Adaptation(*parts[i : i + 3]) for i in range(0, len(parts), 3)]


def adapt(x: Tensor, how: Adaptation | None) -> Tensor:
    """Output x (B, N, dim) of a norm, scaled and shifted."""
    return x if how is None else torch.addcmul(how.shift, x, 1 + how.scale)


def gate(y: Tensor, how: Adaptation | None) -> Tensor:
    """Output y (B, N, dim) of a branch, before it is added to the input."""
    return y if how is None else y * (1 + how.gate)
