"""A small speaker encoder: who speaks, as 128 numbers, for a loss of the decoder's training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.encoders.logmel import LogMel
from focalcodec.nn.convnext import ConvNeXt
from focalcodec.nn.masking import full_lengths, masked_mean, valid_mask, zero_padding
from focalcodec.probes.lstm import pool_statistics


class SpeakerEncoder(nn.Module):
    """Log-mel, ConvNeXt, mean and deviation over time, one linear layer.

    It is trained by `SpeakerBrain`. It is not, and must not be, the judge of an evaluation: what a
    decoder was trained to please says nothing about how alike two voices sound. Speaker similarity
    is measured by Resemblyzer, which no training listens to.

    Sources: Snyder et al., "X-vectors" (2018), section 2.2, statistics pooling; ConvNeXt as in
    Vocos, arXiv 2306.00814, section 3.2.

    Parameters
    ----------
    embedding_dim : int
        Width of the embedding.
    num_layers : int
        ConvNeXt blocks.
    dim, ffn_dim : int
        Widths between and inside the blocks.
    kernel_size : int
        Frames seen by each convolution.
    n_mels : int
        Bands.
    n_fft, hop_length : int
        Window of a spectrum, and samples from one to the next.

    Raises
    ------
    UserError
        The bands do not fit the window.

    Example
    -------
    >>> encoder = SpeakerEncoder(num_layers=1, dim=8, ffn_dim=8).eval()
    >>> encoder(torch.randn(2, 16000), torch.tensor([16000, 8000])).shape
    torch.Size([2, 128])
    """

    def __init__(
        self,
        embedding_dim: int = 128,
        num_layers: int = 4,
        dim: int = 128,
        ffn_dim: int = 384,
        kernel_size: int = 7,
        n_mels: int = 80,
        n_fft: int = 512,
        hop_length: int = 160,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "embedding_dim": embedding_dim,
            "num_layers": num_layers,
            "dim": dim,
            "ffn_dim": ffn_dim,
            "kernel_size": kernel_size,
            "n_mels": n_mels,
            "n_fft": n_fft,
            "hop_length": hop_length,
        }
        self.spectrogram = LogMel(n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
        self.sample_rate, self.dim = self.spectrogram.sample_rate, embedding_dim
        self.backbone = ConvNeXt(n_mels, num_layers, dim, ffn_dim, kernel_size)
        self.head = nn.Linear(2 * dim, embedding_dim)

    def forward(self, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed a batch.

        Parameters
        ----------
        sig : Tensor
            (B, T) float, at 16 kHz, about [-1, 1]; whatever is in the padding is ignored.
        lengths : Tensor, optional
            (B,) int64 >= 1, valid samples of each clip; None is all valid.

        Returns
        -------
        Tensor
            (B, embedding_dim) float32. Only its direction means something.

        Raises
        ------
        UserError
            `sig` is not (B, T) of floats with at least one sample.
        """
        lengths = full_lengths(sig) if lengths is None else lengths
        # A spectrum in half precision does not exist on the CPU and overflows on a GPU.
        with torch.autocast(sig.device.type, enabled=False):
            spectra, frames = self.spectrogram(sig.float(), lengths)
            mask = valid_mask(frames, spectra.shape[1])
            # How loud a recording is, is no trait of the voice.
            level = masked_mean(spectra, mask).mean(dim=2, keepdim=True)
            spectra = zero_padding(spectra - level, mask)
        x = zero_padding(self.backbone(spectra, mask), mask)
        with torch.autocast(sig.device.type, enabled=False):
            return self.head(pool_statistics(x.float(), frames))
