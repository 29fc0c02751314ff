"""Conformer encoder of the probes: positions, then Conformer layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from focalcodec.blocks.conformer import ConformerLayer
from focalcodec.errors import UserError
from focalcodec.nn.masking import zero_padding
from focalcodec.probes.inputs import check_frames


class ConformerEncoder(nn.Module):
    """Conformer with sinusoidal positions: N input frames, N output frames of width `dim`.

    It follows SpeechBrain's Conformer, which the papers' probes use: absolute positions, not the
    relative ones of the original, and layer norm, not batch norm, after the convolution.

    Sources: Gulati et al., "Conformer", arXiv 2005.08100, section 2; Vaswani et al., "Attention is
    all you need", arXiv 1706.03762, section 3.5 (positions).

    Parameters
    ----------
    input_dim : int
        Width of the input.
    dim : int
        Width inside and of the output; an even multiple of `num_heads`, otherwise UserError.
    num_layers, num_heads : int
        Number of layers, and of attention heads in each.
    ffn_dim : int
        Width of the feed-forward networks.
    kernel_size : int
        Frames that the convolution covers.
    dropout : float
        Dropout rate of each module's output and of the attention weights.
    """

    def __init__(
        self,
        input_dim: int,
        dim: int = 512,
        num_layers: int = 6,
        num_heads: int = 4,
        ffn_dim: int = 2048,
        kernel_size: int = 31,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if dim % num_heads or dim % 2:
            raise UserError(f"dim={dim}: give an even multiple of num_heads={num_heads}")
        self.input_dim, self.dim = input_dim, dim
        self.map = nn.Linear(input_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            ConformerLayer(dim, num_heads, ffn_dim, kernel_size, dropout) for _ in range(num_layers)
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode x (B, N, input_dim) to (B, N, dim), zero in the padding, and lengths."""
        x, lengths, mask = check_frames(x, lengths, self.input_dim)
        positions = sinusoids(x.shape[1], self.dim, x.device).to(x.dtype)  # (N, dim)
        x = self.dropout(self.map(x) + positions)  # (B, N, dim)
        for layer in self.layers:
            x = layer(x, mask)
        return zero_padding(x, mask), lengths


def sinusoids(length: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Position vectors (length, dim): sines, then cosines, of periods from 2 pi to 20,000 pi.

    Source: Vaswani et al., arXiv 1706.03762, section 3.5, with another order of channels.
    """
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = torch.arange(length, device=device)[:, None] * rates  # (length, dim / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
