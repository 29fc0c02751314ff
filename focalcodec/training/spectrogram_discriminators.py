"""Discriminators of spectrograms, which train fast on a CPU: every frequency bin is a channel.

Source: spectrograms of several windows as in UnivNet, arXiv 2106.07889, section 2.2; real and
imaginary parts, not the magnitude, as in EnCodec, arXiv 2210.13438, section 3.4. Both slide 2-d
kernels over time and frequency. Here 1-d convolutions over time take all bins at once, each with
its own weights. Their input is the logarithm of the power, so that quiet bins count too, and the
direction of the phase. In the same CPU time this improves a decoder far more (docs/demo.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import weight_norm

from focalcodec.errors import UserError
from focalcodec.training.discriminators import PeriodDiscriminator, feature_maps

_LAYERS = 3
_KERNEL = 3  # frames
_FLOOR = 1e-6  # of the power
_LOG_SCALE = 0.15  # scales the logarithm of the power to about the range of a sine


class SpectrogramDiscriminator(nn.Module):
    """1-d convolutions over the complex spectrogram of one window; the hop is window / 4.

    Parameters
    ----------
    window : int
        Samples.
    channels : int
        Width of its convolutions.

    Raises
    ------
    UserError
        The window has fewer than 16 samples, or there are no channels.

    Example
    -------
    >>> score, maps = SpectrogramDiscriminator(256, channels=2)(torch.zeros(2, 1000))
    >>> score.shape, len(maps)
    (torch.Size([2, 1, 16]), 4)
    """

    hann: Tensor

    def __init__(self, window: int, channels: int = 64) -> None:
        super().__init__()
        if window < 16 or channels < 1:
            raise UserError(
                f"window={window}, channels={channels}: give at least 16 samples and one channel"
            )
        self.window = window
        self.register_buffer("hann", torch.hann_window(window), persistent=False)
        widths = [3 * (window // 2 + 1), *[channels] * _LAYERS]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(n_in, n_out, _KERNEL, padding=_KERNEL // 2))
            for n_in, n_out in pairwise(widths)
        )
        self.to_score = weight_norm(nn.Conv1d(channels, 1, _KERNEL, padding=_KERNEL // 2))

    def forward(self, sig: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Score and feature maps.

        Parameters
        ----------
        sig : Tensor
            (B, T), all samples valid.

        Returns
        -------
        score : Tensor
            (B, 1, frames).
        maps : list of Tensor
            4 of (B, channels, frames), the score last.
        """
        # A Fourier transform in half precision does not exist on the CPU and overflows on a GPU.
        with torch.autocast(sig.device.type, enabled=False):
            x = self._spectrogram(sig.float())
        maps = feature_maps(x, self.convs, self.to_score)
        return maps[-1], maps

    def _spectrogram(self, sig: Tensor) -> Tensor:
        """Logarithm of the power, cosine and sine of the phase: (B, 3 * bins, frames)."""
        whole = pad(sig, (self.window // 2, self.window // 2))  # (B, T + window)
        hop = self.window // 4
        spectrum = torch.stft(
            whole, self.window, hop, window=self.hann, center=False, return_complex=True
        )
        # With this scale, values of speech are about as large as its samples.
        parts = torch.view_as_real(spectrum / self.window**0.5)  # (B, bins, frames, 2)
        power = parts.square().sum(-1, keepdim=True) + _FLOOR
        # The floor also removes the phase of silent bins.
        x = torch.cat([_LOG_SCALE * power.log(), parts * power.rsqrt()], dim=-1)
        return x.permute(0, 3, 1, 2).flatten(1, 2)


class SpectrogramDiscriminators(nn.Module):
    """One `SpectrogramDiscriminator` for each window; beside them those of periods, if wanted.

    Parameters
    ----------
    windows : sequence of int
        Samples of each window.
    periods : sequence of int
        A `PeriodDiscriminator` of HiFi-GAN for each, as in Vocos.
    channel_divisor : int
        Every width of these is divided by it.

    Raises
    ------
    UserError
        There is no window, or one has fewer than 16 samples.

    Example
    -------
    >>> scores, maps = SpectrogramDiscriminators([64, 128])(torch.zeros(2, 1000))
    >>> len(scores), sum(len(one) for one in maps)
    (2, 8)
    """

    def __init__(
        self, windows: Sequence[int], periods: Sequence[int] = (), channel_divisor: int = 1
    ) -> None:
        super().__init__()
        if not windows:
            raise UserError("windows=[]: no discriminator is left; give one")
        self.spectrograms = nn.ModuleList(SpectrogramDiscriminator(window) for window in windows)
        self.periods = nn.ModuleList(PeriodDiscriminator(n, channel_divisor) for n in periods)

    def forward(self, sig: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Scores (B, ...) and feature maps of each, of sig (B, T), all samples valid."""
        outputs = [discriminator(sig) for discriminator in [*self.spectrograms, *self.periods]]
        return [score for score, _ in outputs], [maps for _, maps in outputs]
