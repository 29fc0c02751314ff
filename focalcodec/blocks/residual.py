"""Residual units of dilated convolutions, of HiFi-GAN and of BigVGAN's anti-aliased blocks.

Tensors have the channels before time, as convolutions need them: a unit is a chain of these.
Source: HiFi-GAN, arXiv 2010.05646, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError


class NormedConv1d(nn.Conv1d):
    """Convolution whose weight has a learned norm for each output channel (weight norm).

    `parametrize` of PyTorch does the same, but such a module can't be sent to another process.
    Source: Salimans and Kingma, arXiv 1602.07868.
    """

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.scale = _init(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (B, C, T) to (B, C', T'); the mask (B, 1, T) is True on valid positions."""
        x = x if mask is None else x.masked_fill(~mask, 0.0)
        return self._conv_forward(x, normed(self), self.bias)


class NormedConvTranspose1d(nn.ConvTranspose1d):
    """The same for a transposed convolution, with a norm for each input channel."""

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.scale = _init(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Map x (B, C, T) to (B, C', stride * T); the mask is that of x."""
        x = x if mask is None else x.masked_fill(~mask, 0.0)
        pad: Any = self.padding
        return F.conv_transpose1d(x, normed(self), self.bias, self.stride, pad)


def _init(conv: nn.Conv1d | nn.ConvTranspose1d) -> nn.Parameter:
    with torch.no_grad():
        conv.weight.normal_(0.0, 0.01)  # as HiFi-GAN
        return nn.Parameter(conv.weight.norm(dim=(1, 2), keepdim=True).clone())


def normed(conv: Any) -> Tensor:
    """Weight of a convolution with the norms `scale`."""
    return conv.weight * (conv.scale / conv.weight.norm(dim=(1, 2), keepdim=True))


class ResidualUnits(nn.Module):
    """For each dilation: activation, dilated convolution, activation, convolution, residual.

    `kernel_size` is odd, and `activation` makes a module for a number of channels, which is called
    with x (B, C, T) and the mask. `reach` is how many positions an output depends on at each side.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int,
        dilations: Sequence[int],
        activation: Callable[[int], nn.Module],
        activation_reach: int = 0,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0 or min(dilations, default=0) < 1:
            raise UserError(
                f"kernel_size={kernel_size}, dilations={list(dilations)}: give odd kernels and"
                " dilations from 1"
            )
        half = kernel_size // 2
        self.reach = sum(half * (dilation + 1) + 2 * activation_reach for dilation in dilations)
        self.units = nn.ModuleList(
            nn.ModuleList(
                [
                    activation(dim),
                    NormedConv1d(dim, dim, kernel_size, dilation=dilation, padding=half * dilation),
                    activation(dim),
                    NormedConv1d(dim, dim, kernel_size, padding=half),
                ]
            )
            for dilation in dilations
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (B, C, T) to the same shape; other positions than valid ones have any values."""
        for unit in self.units:
            y = x
            for layer in unit:  # type: ignore[attr-defined]
                y = layer(y, mask)
            x = x + y
        return x
