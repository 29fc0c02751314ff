"""Vocos: the decoder of the offline models, a ConvNeXt that predicts a spectrogram.

Source: Siuzdak, "Vocos", arXiv 2306.00814, sections 3.1 and 3.2.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.convnext import ConvNeXt
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding


class Vocos(nn.Module):
    """Decoder: feats (B, N, input_dim) to rec_sig (B, N * hop_length).

    Parameters
    ----------
    input_dim : int
        Width of feats.
    num_layers, dim, ffn_dim, kernel_size, layerscale_init
        See `ConvNeXt`.
    n_fft, hop_length : int
        Window and hop of the inverse STFT, in samples; see `ISTFTHead`.
    causal : bool
        Only False, else a `UserError`: the inverse STFT uses samples ahead.
    sample_rate : int
        Hz of rec_sig.

    Example
    -------
    >>> decoder = Vocos(8, num_layers=1, dim=4, ffn_dim=6, n_fft=64, hop_length=20)
    >>> rec_sig, lengths = decoder(torch.randn(2, 5, 8), lengths=torch.tensor([5, 3]))
    >>> rec_sig.shape, lengths.tolist()
    (torch.Size([2, 100]), [100, 60])
    """

    def __init__(
        self,
        input_dim: int = 1024,
        num_layers: int = 8,
        dim: int = 512,
        ffn_dim: int = 1536,
        kernel_size: int = 7,
        n_fft: int = 1024,
        hop_length: int = 320,
        layerscale_init: float | None = None,
        causal: bool = False,
        sample_rate: int = 16000,
    ) -> None:
        super().__init__()
        if causal:
            raise UserError(
                "Vocos: causal=True, but the inverse STFT uses samples ahead; use WaveNeXt"
            )
        self.config: dict[str, Any] = {
            "input_dim": input_dim,
            "num_layers": num_layers,
            "dim": dim,
            "ffn_dim": ffn_dim,
            "kernel_size": kernel_size,
            "n_fft": n_fft,
            "hop_length": hop_length,
            "layerscale_init": layerscale_init,
            "causal": causal,
            "sample_rate": sample_rate,
        }
        self.hop = hop_length
        self.sample_rate = sample_rate
        self.backbone = ConvNeXt(input_dim, num_layers, dim, ffn_dim, kernel_size, layerscale_init)
        self.head = ISTFTHead(dim, n_fft, hop_length)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decode feats, x (B, N, input_dim): rec_sig (B, N * hop) and its valid samples (B,) int64.

        `lengths` (B,) int64 are the valid frames, None is all; padded samples are zero.
        """
        lengths = full_lengths(x) if lengths is None else lengths
        mask = valid_mask(lengths, x.shape[1])
        x = self.backbone(x, mask)  # (B, N, dim)
        return self.head(x, mask), self.output_lengths(lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid samples for `lengths` valid frames, int64."""
        return lengths * self.hop


class ISTFTHead(AtLeastFloat32):
    """Magnitude and phase of each frame, then the inverse STFT as one real matrix.

    A real basis instead of a complex FFT keeps the decoder exportable and in float32. `n_fft` and
    `hop_length` must be even, with the hop in 2..n_fft / 2, else a `UserError`.
    """

    basis: Tensor
    squared_window: Tensor

    def __init__(self, dim: int, n_fft: int, hop_length: int) -> None:
        super().__init__()
        if n_fft % 2 or hop_length % 2 or not 1 <= hop_length <= n_fft // 2:
            raise UserError(
                f"n_fft={n_fft}, hop_length={hop_length}: both must be even, "
                "with hop_length from 2 to n_fft / 2"
            )
        self.n_fft = n_fft
        self.hop = hop_length
        self.proj = nn.Linear(dim, n_fft + 2)
        nn.init.trunc_normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)
        window = torch.hann_window(n_fft, dtype=torch.float64)
        self.register_buffer("basis", _inverse_basis(window).float(), persistent=False)
        self.register_buffer("squared_window", window.square().float(), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, N, dim) to (B, N * hop_length), zeros on padded samples.

        `mask` (B, N) bool is True on valid frames.
        """
        # exp and the phase need float32, and so does the sum of 1026 products for each sample.
        with torch.autocast(x.device.type, enabled=False):
            # (B, N, n_fft / 2 + 1) each
            log_magnitude, phase = self.proj(x.to(self.proj.weight.dtype)).chunk(2, dim=-1)
            magnitude = log_magnitude.exp().clamp(max=100.0)
            # real and imaginary parts, (B, N, n_fft + 2)
            spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=-1)
            frames = zero_padding(spectrum @ self.basis, mask)  # (B, N, n_fft), windowed
            # The envelope of each item's own frames: its last samples must not depend on
            # whether padding follows.
            envelope = self._overlap_add(mask[..., None] * self.squared_window)  # (B, N * hop)
            samples = mask.repeat_interleave(self.hop, dim=1)  # (B, N * hop)
            envelope = envelope.masked_fill(~samples, 1.0)
            return zero_padding(self._overlap_add(frames) / envelope, samples)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Map frames (B, N, n_fft), a hop apart, to their sum (B, N * hop), edges cut."""
        num_frames = frames.shape[1]
        total = (num_frames - 1) * self.hop + self.n_fft
        summed = F.fold(frames.transpose(1, 2), (1, total), (1, self.n_fft), stride=(1, self.hop))
        trim = (self.n_fft - self.hop) // 2
        return summed[:, 0, 0, trim : trim + num_frames * self.hop]


def _inverse_basis(window: Tensor) -> Tensor:
    """Windowed real inverse DFT, (n_fft + 2, n_fft): rows are real parts, then imaginary ones."""
    n_fft = window.shape[0]
    bins = torch.arange(n_fft // 2 + 1)[:, None]
    # The product is taken modulo n_fft in integers, so that large angles cost no precision.
    angle = 2 * math.pi / n_fft * (bins * torch.arange(n_fft) % n_fft).double()
    weight = torch.full((n_fft // 2 + 1, 1), 2.0 / n_fft, dtype=torch.float64)
    weight[0] = weight[-1] = 1.0 / n_fft
    return torch.cat([weight * angle.cos(), -weight * angle.sin()]) * window
