"""Vocos: the decoder of the offline models, a ConvNeXt that predicts a spectrogram.

Source: Siuzdak, "Vocos", arXiv 2306.00814, sections 3.1 and 3.2.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.adaptive_norm import AdaptiveNorm
from focalcodec.nn.convnext import ConvNeXt, ConvNeXtDecoder
from focalcodec.nn.convnext import ConvNeXtBlock as ConvNeXtBlock
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.masking import zero_padding
from focalcodec.nn.voice import VALUES


class Vocos(ConvNeXtDecoder):
    """Decoder: feats (B, N, input_dim) to rec_sig (B, N * hop_length).

    Parameters
    ----------
    input_dim : int
        Width of feats.
    num_layers, dim, ffn_dim, kernel_size, layerscale_init
        See `ConvNeXt`.
    n_fft, hop_length : int
        Window and hop of the inverse STFT, in samples; see `ISTFT`.
    causal : bool
        Use no frames ahead, and samples of one frame each, so that `step` can decode a stream.
    sample_rate : int
        Hz of rec_sig.
    voice_tokens : int
        Tokens of the vector of an utterance that `run` takes as `voice`; 0 for none.
    others
        Ignored with a warning, but `input_channels`, the old name of `input_dim`.

    Example
    -------
    >>> decoder = Vocos(8, num_layers=1, dim=4, ffn_dim=6, n_fft=64, hop_length=20)
    >>> rec_sig, lengths = decoder.run(torch.randn(2, 5, 8), torch.tensor([5, 3]))
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
        layerscale_init: float | None = None,
        n_fft: int = 1024,
        hop_length: int = 320,
        causal: bool = False,
        *,
        sample_rate: int = 16000,
        voice_tokens: int = 0,
        **others: Any,
    ) -> None:
        input_dim = others.pop("input_channels", None) or input_dim
        others.pop("padding", None)  # of old configurations; it follows from `causal`
        if others:
            warnings.warn(f"Vocos: {', '.join(others)} ignored, no such arguments", stacklevel=2)
        super().__init__(
            {
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
                # the hash of a codec depends on its configuration
                **({"voice_tokens": voice_tokens} if voice_tokens else {}),
            }
        )
        self.voice_tokens = voice_tokens
        self.backbone = VocosBackbone(
            input_dim, num_layers, dim, ffn_dim, kernel_size, layerscale_init, causal
        )
        self.head = ISTFTHead(dim, n_fft, hop_length, causal)
        self.adaptive_norms = nn.ModuleList(
            AdaptiveNorm(VALUES * voice_tokens, dim, branches=1)
            for _ in range(num_layers * bool(voice_tokens))
        )


class VocosBackbone(ConvNeXt):
    """`ConvNeXt` with copies of the first frame before it if causal."""

    def __init__(
        self,
        input_dim: int = 1024,
        num_layers: int = 8,
        dim: int = 512,
        ffn_dim: int = 1536,
        kernel_size: int = 7,
        layerscale_init: float | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__(
            *(input_dim, num_layers, dim, ffn_dim, kernel_size, layerscale_init, causal),
            causal_padding="replicate",
        )


class ISTFTHead(AtLeastFloat32):
    """Magnitude and phase of each frame, then the inverse STFT; arguments as those of `ISTFT`."""

    def __init__(
        self, dim: int = 512, n_fft: int = 1024, hop_length: int = 320, causal: bool = False
    ) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, n_fft + 2)
        nn.init.trunc_normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)
        self.istft = ISTFT(n_fft, hop_length, n_fft, causal)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, N, dim) to (B, N * hop_length), zeros on padded samples; `mask` (B, N) bool."""
        # exp and the phase need float32, and so does the sum of 1026 products for each sample.
        with torch.autocast(input.device.type, enabled=False):
            # (B, N, n_fft / 2 + 1) each
            log_magnitude, phase = self.proj(input.to(self.proj.weight.dtype)).chunk(2, dim=-1)
            magnitude = log_magnitude.exp().clamp(max=100.0)
            # real and imaginary parts, (B, N, n_fft + 2)
            spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=-1)
            return self.istft(spectrum, mask)


class ISTFT(AtLeastFloat32):
    """Inverse STFT as one real matrix: it is exact in float32 and can be exported.

    Frames of `n_fft` samples, with a Hann window, are added a hop apart and divided by the sum of
    the squared windows. If causal, a frame gives the last `hop_length` samples of its inverse FFT,
    without window. A `UserError` if `n_fft` is odd or another number than `win_length`, or the hop
    is too long for a sum without gaps.
    """

    basis: Tensor
    squared_window: Tensor

    def __init__(
        self,
        n_fft: int = 1024,
        hop_length: int = 320,
        win_length: int = 1024,
        causal: bool = False,
    ) -> None:
        super().__init__()
        longest = n_fft if causal else n_fft - 2
        if n_fft % 2 or not 1 <= hop_length <= longest:
            raise UserError(
                f"n_fft={n_fft}, hop_length={hop_length}: n_fft must be even, hop_length from 1 to"
                f" {longest}"
            )
        if win_length != n_fft:
            raise UserError(f"win_length={win_length}: give n_fft, which is {n_fft}")
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.win_length = win_length
        self.causal = causal
        window = torch.hann_window(n_fft, dtype=torch.float64)
        basis = _inverse_basis(torch.ones_like(window) if causal else window)
        basis = basis[:, -hop_length:] if causal else basis
        self.register_buffer("basis", basis.float().contiguous(), persistent=False)
        self.register_buffer("squared_window", window.square().float(), persistent=False)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map a spectrum to samples (B, N * hop_length), zeros on padded ones.

        `input` is complex (B, N, n_fft / 2 + 1), or its real, then its imaginary parts,
        (B, N, n_fft + 2). `mask` (B, N) bool is True on valid frames, None is all. With an odd hop
        the sum of frames has one sample more.
        """
        if input.is_complex():
            input = torch.cat([input.real, input.imag], dim=-1)
        frames = input @ self.basis  # (B, N, n_fft), windowed; causal: (B, N, hop)
        if mask is not None:
            frames = zero_padding(frames, mask)
        if self.causal:
            return frames.flatten(1)
        if mask is None:
            return self._overlap_add(frames) / self._overlap_add(
                self.squared_window.expand(1, frames.shape[1], -1)
            )
        # The envelope of each item's own frames: its last samples must not depend on
        # whether padding follows.
        envelope = self._overlap_add(mask[..., None] * self.squared_window)
        samples = mask.repeat_interleave(self.hop_length, dim=1)  # (B, N * hop)
        envelope = envelope[:, : samples.shape[1]].masked_fill(~samples, 1.0)
        return zero_padding(self._overlap_add(frames)[:, : samples.shape[1]] / envelope, samples)

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """Map frames (B, N, n_fft), a hop apart, to their sum (B, N * hop), edges cut."""
        total = (frames.shape[1] - 1) * self.hop_length + self.n_fft
        summed = F.fold(
            frames.transpose(1, 2), (1, total), (1, self.n_fft), stride=(1, self.hop_length)
        )
        trim = (self.n_fft - self.hop_length) // 2
        return summed[:, 0, 0, trim : total - trim]


def _inverse_basis(window: Tensor) -> Tensor:
    """Windowed real inverse DFT, (n_fft + 2, n_fft): rows are real parts, then imaginary ones."""
    n_fft = window.shape[0]
    bins = torch.arange(n_fft // 2 + 1)[:, None]
    # The product is taken modulo n_fft in integers, so that large angles cost no precision.
    angle = 2 * math.pi / n_fft * (bins * torch.arange(n_fft) % n_fft).double()
    weight = torch.full((n_fft // 2 + 1, 1), 2.0 / n_fft, dtype=torch.float64)
    weight[0] = weight[-1] = 1.0 / n_fft
    return torch.cat([weight * angle.cos(), -weight * angle.sin()]) * window
