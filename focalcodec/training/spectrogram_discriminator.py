"""A discriminator of spectrograms, for errors that a waveform hides: smeared or missing bands.

Source: UnivNet, arXiv 2106.07889, section 2.2; the real and imaginary parts in place of the
magnitude follow EnCodec, arXiv 2210.13438, section 3.4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

from focalcodec.errors import UserError

SLOPE = 0.1
_STRIDES = (1, 2, 2, 2, 1)  # over frequency


class SpectrogramDiscriminator(nn.Module):
    """2-d convolutions over the complex spectrogram of one window; its hop is a quarter of it.

    Parameters
    ----------
    window : int
        Samples.
    channels : int
        Width of its convolutions; 32 in the papers.

    Raises
    ------
    UserError
        Fewer than 16 samples, or no channels.

    Example
    -------
    >>> score, maps = SpectrogramDiscriminator(256, channels=2)(torch.zeros(2, 1000))
    >>> score.shape, len(maps)
    (torch.Size([2, 1, 16, 17]), 6)
    """

    hann: Tensor

    def __init__(self, window: int, channels: int = 32) -> None:
        super().__init__()
        if window < 16 or channels < 1:
            raise UserError(
                f"window={window}, channels={channels}: give at least 16 samples and one channel"
            )
        self.window = window
        self.register_buffer("hann", torch.hann_window(window), persistent=False)
        widths = [2, *[channels] * len(_STRIDES)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (3, 9), (1, stride), (1, 4)))
            for before, after, stride in zip(widths, widths[1:], _STRIDES, strict=False)
        )
        self.to_score = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, sig: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Sig (B, T), every sample valid, to the score (B, 1, N, F) and the feature maps."""
        # A Fourier transform in half precision does not exist on the CPU and overflows on a GPU.
        with torch.autocast(sig.device.type, enabled=False):
            whole = pad(sig.float(), (self.window // 2, self.window // 2))
            spectrum = torch.stft(
                whole,
                self.window,
                self.window // 4,
                window=self.hann,
                center=False,
                return_complex=True,
            )
            # The scale of a Hann window's sum, so that speech has values of about its samples'.
            x = torch.view_as_real(spectrum / self.window**0.5).permute(0, 3, 2, 1)
        maps = []
        for layer in self.layers:
            x = leaky_relu(layer(x), SLOPE)
            maps.append(x)
        maps.append(self.to_score(x))
        return maps[-1], maps
