"""Anti-aliased multi-periodicity block (AMP) of BigVGAN.

A periodic activation makes frequencies above half of the frame rate; so it works at twice the rate,
between low-pass filters. Source: Lee et al., BigVGAN, arXiv 2206.04658, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.blocks.focal import Contexts
from focalcodec.blocks.residual import ResidualUnits
from focalcodec.nn.layers import Snake1d

_TAPS = 12


class AMPBlock(nn.Module):
    """Mean of residual units with kernels of several sizes; sizes as in BigVGAN.

    `reach` is how many frames before and after a frame its output depends on.
    """

    def __init__(
        self,
        dim: int,
        dropout: float = 0.0,
        kernel_sizes: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            ResidualUnits(dim, size, dilations, AntiAliasedSnake, AntiAliasedSnake.reach)
            for size in kernel_sizes
        )
        self.reach = max(branch.reach for branch in self.branches)  # type: ignore[type-var]
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, left_contexts: Contexts | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Contexts]:
        """Map x (B, N, dim) to (B, N, dim); `mask` (B, N) bool is True on valid frames."""
        channels = None if mask is None else mask[:, None]  # (B, 1, N)
        outputs = [branch(x.mT, channels) for branch in self.branches]
        return self.dropout(torch.stack(outputs).mean(dim=0).mT), []


class AntiAliasedSnake(nn.Module):
    """Twice the rate by a low-pass filter, Snake, and back by the same filter."""

    reach = _TAPS // 2  # of both filters together, in frames

    taps: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.snake = Snake1d(dim)
        self.register_buffer("taps", _low_pass(), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (B, dim, N) to the same shape; the mask (B, 1, N) is True on valid frames."""
        x = x if mask is None else x.masked_fill(~mask, 0.0)
        dim, edge = x.shape[1], _TAPS // 2 - 1
        taps = self.taps.to(x.dtype).expand(dim, 1, -1)
        y = F.conv_transpose1d(x, 2 * taps, stride=2, padding=edge, groups=dim)
        y = self.snake(y.mT).mT  # (B, dim, 2 N)
        if mask is not None:  # the filter has written values after a clip's end
            y = y.masked_fill(~mask.repeat_interleave(2, dim=2), 0.0)
        return F.conv1d(y, taps, stride=2, padding=edge, groups=dim)


def _low_pass() -> Tensor:
    """Windowed sinc with its cutoff at half of the lower rate: (12,), sum 1."""
    times = torch.arange(_TAPS, dtype=torch.float64) - (_TAPS - 1) / 2
    # the window of Kaiser's formula for a transition of 0.3 of the rate: 51 dB, beta 4.66
    window = torch.kaiser_window(_TAPS, periodic=False, beta=4.6638, dtype=torch.float64)
    taps = window * torch.sinc(times / 2) / 2
    return (taps / taps.sum()).float()
