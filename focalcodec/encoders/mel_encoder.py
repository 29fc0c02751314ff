"""A small speech encoder of our own: log-mel bands through ConvNeXt, for what a large one taught.

It is trained by distillation, `recipes/LibriSpeech/hparams/distill_encoder.yaml`, and its reach is
finite: long recordings and streams get the same feats in windows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.audio import check_sig
from focalcodec.encoders.logmel import LogMel
from focalcodec.nn.convnext import ConvNeXt
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding

_STACKED = 2  # spectra of 10 ms in a frame of 20 ms


class MelEncoder(nn.Module):
    """Waveform to feats, 50 a second: one frame for every started hop of 320 samples.

    Parameters
    ----------
    output_dim : int
        Width of the feats.
    num_layers : int
        ConvNeXt blocks.
    dim, ffn_dim : int
        Widths between and inside the blocks.
    kernel_size : int
        Frames seen by each convolution.
    n_mels : int
        Bands.
    n_fft : int
        Window of a spectrum, samples; there is one every 160.

    Raises
    ------
    UserError
        The bands do not fit the window.

    Example
    -------
    >>> encoder = MelEncoder(output_dim=8, num_layers=1, dim=16, ffn_dim=32).eval()
    >>> feats, lengths = encoder(torch.zeros(2, 1600), torch.tensor([1600, 801]))
    >>> feats.shape, lengths
    (torch.Size([2, 5, 8]), tensor([5, 3]))
    """

    max_seconds: float | None = None
    teacher: dict[str, Any] | None = None

    def __init__(
        self,
        output_dim: int,
        num_layers: int = 6,
        dim: int = 256,
        ffn_dim: int = 768,
        kernel_size: int = 7,
        n_mels: int = 80,
        n_fft: int = 512,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "output_dim": output_dim,
            "num_layers": num_layers,
            "dim": dim,
            "ffn_dim": ffn_dim,
            "kernel_size": kernel_size,
            "n_mels": n_mels,
            "n_fft": n_fft,
        }
        self.spectrogram = LogMel(n_fft=n_fft, hop_length=160, n_mels=n_mels)
        self.sample_rate = self.spectrogram.sample_rate
        self.hop = _STACKED * self.spectrogram.hop
        self.dim = output_dim
        self.backbone = ConvNeXt(_STACKED * n_mels, num_layers, dim, ffn_dim, kernel_size)
        self.head = nn.Linear(dim, output_dim)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that come out of as many samples, int64 of any shape."""
        return (lengths + self.hop - 1) // self.hop

    def forward(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Parameters
        ----------
        sig : Tensor
            (B, T) float, at 16 kHz, about [-1, 1]; whatever is in the padding is ignored.
        lengths : Tensor, optional
            (B,) int64, valid samples of each clip; None is all valid.

        Returns
        -------
        tuple of Tensor
            feats (B, N, output_dim) with zeros on padded frames, and lengths (B,) int64 in frames.

        Raises
        ------
        UserError
            `sig` is not (B, T) of floats with at least one sample.
        """
        check_sig(sig)
        lengths = full_lengths(sig) if lengths is None else lengths
        # A spectrum in half precision does not exist on the CPU and overflows on a GPU.
        with torch.autocast(sig.device.type, enabled=False):
            spectra, _ = self.spectrogram(sig.to(self.spectrogram.window.dtype), lengths)
        frames = self.output_lengths(lengths)
        spectra = nn.functional.pad(spectra, (0, 0, 0, spectra.shape[1] % _STACKED))
        x = spectra.unflatten(1, (-1, _STACKED)).flatten(2)
        mask = valid_mask(frames, x.shape[1])
        feats = self.head(self.backbone(x, mask))
        return zero_padding(feats, mask), frames
