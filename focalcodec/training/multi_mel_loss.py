"""Log-mel distance at several resolutions: sharp in time, and sharp in frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.training.mel_loss import MelLoss


class MultiMelLoss(nn.Module):
    """Mean of L1 distances between log-mel spectrograms of several windows.

    One window leaves open what happens inside of it: short ones place onsets and the pulses of a
    voice, long ones its harmonics. Each hop is a quarter of its window.

    Source: the multi-scale mel loss of DAC, arXiv 2306.06546, section 3.4.

    Parameters
    ----------
    windows : sequence of int
        Samples.
    bands : sequence of int
        Mel bands of each.
    sample_rate : int
        Hz.

    Raises
    ------
    UserError
        Not as many bands as windows, or none.

    Example
    -------
    >>> loss = MultiMelLoss(windows=[256, 1024], bands=[20, 80])
    >>> sig = torch.randn(2, 7040)
    >>> loss(10 * sig, sig)
    tensor([2.3026, 2.3026])
    """

    def __init__(
        self,
        windows: Sequence[int] = (128, 512, 2048),
        bands: Sequence[int] = (10, 40, 120),
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        if len(windows) != len(bands) or not windows:
            raise UserError(
                f"windows={list(windows)}, bands={list(bands)}: give as many of each, at least one"
            )
        self.scales = nn.ModuleList(
            MelLoss(sample_rate, window, window, window // 4, number, 0.0, sample_rate / 2)
            for window, number in zip(windows, bands, strict=True)
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Weight of clips of (B,) int64 samples in an average over all of them: their samples."""
        return lengths

    def forward(self, rec_sig: Tensor, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Mean over valid frames, bands and resolutions of each item: (B,) float32.

        See `MelLoss`.
        """
        return torch.stack([scale(rec_sig, sig, lengths) for scale in self.scales]).mean(dim=0)
