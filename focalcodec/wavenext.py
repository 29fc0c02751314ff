"""WaveNeXt: the decoder of the causal models, with a linear map instead of the inverse STFT.

Source: Okamoto et al., "WaveNeXt" (ASRU 2023); causal form from arXiv 2509.16195.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from focalcodec.nn.convnext import ConvNeXt
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding


class WaveNeXt(nn.Module):
    """Decoder: feats (B, N, input_dim) to rec_sig (B, N * hop_length), within +-1.

    The parameters are those of `ConvNeXt`, `hop_length`, the samples of each frame, and
    `sample_rate`, Hz of rec_sig.

    Example
    -------
    >>> import torch
    >>> decoder = WaveNeXt(8, num_layers=1, dim=4, ffn_dim=6, hop_length=480)
    >>> rec_sig, lengths = decoder(torch.randn(2, 5, 8), lengths=torch.tensor([5, 3]))
    >>> rec_sig.shape, lengths.tolist()
    (torch.Size([2, 2400]), [2400, 1440])
    """

    def __init__(
        self,
        input_dim: int = 1024,
        num_layers: int = 8,
        dim: int = 1024,
        ffn_dim: int = 2048,
        kernel_size: int = 7,
        hop_length: int = 480,
        layerscale_init: float | None = None,
        causal: bool = True,
        sample_rate: int = 24000,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "input_dim": input_dim,
            "num_layers": num_layers,
            "dim": dim,
            "ffn_dim": ffn_dim,
            "kernel_size": kernel_size,
            "hop_length": hop_length,
            "layerscale_init": layerscale_init,
            "causal": causal,
            "sample_rate": sample_rate,
        }
        self.hop = hop_length
        self.sample_rate = sample_rate
        self.backbone = ConvNeXt(
            input_dim, num_layers, dim, ffn_dim, kernel_size, layerscale_init, causal
        )
        self.head = LinearHead(dim, hop_length)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decode feats, x (B, N, input_dim): rec_sig (B, N * hop) and its valid samples (B,) int64.

        `lengths` (B,) int64 are the valid frames, None is all; padded samples are zero.
        """
        lengths = full_lengths(x) if lengths is None else lengths
        mask = valid_mask(lengths, x.shape[1])
        x = self.backbone(x, mask)  # (B, N, dim)
        frames = zero_padding(self.head(x), mask)  # (B, N, hop)
        return frames.flatten(1), self.output_lengths(lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid samples for `lengths` valid frames, int64."""
        return lengths * self.hop


class LinearHead(AtLeastFloat32):
    """Linear map from each frame to its samples, within +-1."""

    def __init__(self, dim: int, hop_length: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, hop_length)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, dim) to (B, N, hop_length)."""
        return self.proj(x.to(self.proj.weight.dtype)).clamp(-1.0, 1.0)
