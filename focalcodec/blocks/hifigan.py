"""HiFi-GAN: a decoder of transposed convolutions, each followed by residual units of many sizes.

Source: Kong et al., arXiv 2010.05646, section 2.2; sizes of its V1, with rates for frames of 320
samples, as the ablations of FocalCodec need it (arXiv 2502.04465, section 4.6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.blocks.residual import NormedConv1d, NormedConvTranspose1d, ResidualUnits
from focalcodec.errors import UserError
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.masking import full_lengths, valid_mask
from focalcodec.nn.official import refuse_lengths

_SLOPE = 0.1
_EDGE = 3  # positions before and after one that the first and the last convolution need


class HiFiGAN(nn.Module):
    """Decoder: feats (B, N, input_dim) to rec_sig (B, N * hop), within +-1; not causal.

    Parameters
    ----------
    input_dim, dim : int
        Widths of feats and before the first transposed convolution; each of these halves it.
    rates, kernel_sizes : sequence of int
        By how much each transposed convolution multiplies the rate, and its kernel; their
        difference is even. The hop is the product of the rates.
    unit_kernels, dilations : sequence of int
        Kernels of the residual units, whose mean is taken, and the dilations in each.
    sample_rate : int
        Hz of rec_sig.

    Example
    -------
    >>> decoder = HiFiGAN(8, dim=8, rates=[5, 4], kernel_sizes=[11, 8], unit_kernels=[3])
    >>> rec_sig, lengths = decoder.run(torch.randn(2, 5, 8), torch.tensor([5, 3]))
    >>> rec_sig.shape, lengths.tolist()
    (torch.Size([2, 100]), [100, 60])
    """

    causal = False

    def __init__(
        self,
        input_dim: int = 1024,
        dim: int = 512,
        rates: Sequence[int] = (8, 5, 4, 2),
        kernel_sizes: Sequence[int] = (16, 11, 8, 4),
        unit_kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        pairs = list(zip(rates, kernel_sizes, strict=False))
        bad = [pair for pair in pairs if pair[1] < pair[0] or (pair[1] - pair[0]) % 2]
        if len(rates) != len(kernel_sizes) or not pairs or bad or dim % 2 ** len(pairs):
            raise UserError(
                f"dim={dim}, rates={list(rates)}, kernel_sizes={list(kernel_sizes)}: give as many"
                " kernels as rates, each larger than its rate by an even number, and a dim that"
                " can be halved as often"
            )
        self.config: dict[str, Any] = {
            "input_dim": input_dim,
            "dim": dim,
            "rates": list(rates),
            "kernel_sizes": list(kernel_sizes),
            "unit_kernels": list(unit_kernels),
            "dilations": list(dilations),
            "sample_rate": sample_rate,
        }
        self.input_dim, self.sample_rate, self.rates = input_dim, sample_rate, list(rates)
        self.hop = self.upsample_factor = math.prod(rates)
        self.conv_in = NormedConv1d(input_dim, dim, 2 * _EDGE + 1, padding=_EDGE)
        self.upscales, self.levels = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in pairs:
            self.upscales.append(
                NormedConvTranspose1d(dim, dim // 2, kernel, rate, padding=(kernel - rate) // 2)
            )
            dim //= 2
            self.levels.append(
                nn.ModuleList(
                    ResidualUnits(dim, size, dilations, LeakyReLU) for size in unit_kernels
                )
            )
        self.conv_out = Output(dim, 1, 2 * _EDGE + 1, padding=_EDGE)

    def run(self, feats: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decode feats (B, N, input_dim): rec_sig (B, N * hop) and its valid samples (B,) int64.

        `lengths` (B,) int64 are the valid frames, None is all; padded samples are zero.
        """
        mask = None if lengths is None else valid_mask(lengths, feats.shape[1])[:, None]
        x = self.conv_in(feats.to(self.conv_in.weight.dtype).mT, mask)  # (B, dim, N)
        levels: Any = self.levels
        for rate, upscale, units in zip(self.rates, self.upscales, levels, strict=True):
            x = upscale(F.leaky_relu(x, _SLOPE), mask)
            mask = None if mask is None else mask.repeat_interleave(rate, dim=2)
            outputs = [unit(x, mask) for unit in units]
            x = torch.stack(outputs).mean(dim=0)
        rec_sig = self.conv_out(F.leaky_relu(x), mask)  # (B, 1, N * hop)
        rec_sig = (rec_sig if mask is None else rec_sig.masked_fill(~mask, 0.0))[:, 0]
        return rec_sig, self.output_lengths(full_lengths(feats) if lengths is None else lengths)

    def forward(
        self, input: Tensor, left_contexts: Any = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """With `lengths`, `run`; else rec_sig and no contexts, as the official decoders."""
        refuse_lengths(left_contexts)
        return self.run(input, lengths) if lengths is not None else (self.run(input)[0], None)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid samples for `lengths` valid frames, int64."""
        return lengths * self.hop

    @property
    def context(self) -> tuple[int, int]:
        """Frames before and after a frame that its samples depend on."""
        reach, rate = float(_EDGE), 1
        levels: Any = self.levels
        pairs = zip(self.rates, self.config["kernel_sizes"], levels, strict=True)
        for factor, kernel, units in pairs:
            reach += math.ceil(kernel / factor) / rate
            rate *= factor
            reach += max(unit.reach for unit in units) / rate
        frames = math.ceil(reach + _EDGE / rate)
        return frames, frames


class Output(AtLeastFloat32, NormedConv1d):
    """Last convolution, within +-1: samples of 8 bits of mantissa would be noisy."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (B, C, T) to (B, 1, T)."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype), mask).tanh()


class LeakyReLU(nn.LeakyReLU):
    """Leaky ReLU with HiFi-GAN's slope, for any number of channels."""

    def __init__(self, dim: int) -> None:
        super().__init__(_SLOPE)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x of any shape; zeros stay zeros, so the mask is not needed."""
        return super().forward(x)
