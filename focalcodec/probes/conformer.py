"""Conformer encoder; the output for a clip does not depend on padding.

No maintained implementation has this property. Without it a probe's score depends on which clips
share a batch. The table has the largest change of the output (mean magnitude 0.8) for a clip of 20
frames, between alone and in a batch of 80 frames; three layers, biases as after training:

    torchaudio 2.11 Conformer                     0.16   (training: 1.3)
    speechbrain 1.1.2 ConformerEncoder            0.8    (training: 1.4)
    transformers 5.23 Wav2Vec2ConformerEncoder    1.1    (training: 1.5)

They mask their attention. But biases write values into the padding, which the depth-wise
convolution reads, and norms over time or over the batch include the padding. The first is also
torchaudio's issue 4205.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.layers import MaskedConv1d
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


class ConformerLayer(nn.Module):
    """Half a feed-forward step, attention, convolution, the other half, and a norm.

    Source: Gulati et al., arXiv 2005.08100, equation 1.
    """

    def __init__(
        self, dim: int, num_heads: int, ffn_dim: int, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.first_ffn = _feed_forward(dim, ffn_dim, dropout)
        self.attention = SelfAttention(dim, num_heads, dropout)
        self.convolution = ConvolutionModule(dim, kernel_size, dropout)
        self.second_ffn = _feed_forward(dim, ffn_dim, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Transform x (B, N, dim); mask (B, N) is True on valid frames, others give any value."""
        x = x + 0.5 * self.first_ffn(x)
        x = x + self.attention(x, mask)
        x = x + self.convolution(x, mask)
        x = x + 0.5 * self.second_ffn(x)
        return self.norm(x)


class SelfAttention(nn.Module):
    """Norm and attention to the valid frames, with PyTorch's fused kernels."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.rate = num_heads, dropout
        self.norm = nn.LayerNorm(dim)
        self.map_in = nn.Linear(dim, 3 * dim)
        self.map_out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, N, dim), finite in the padding too, with mask (B, N), to the same shape."""
        # Each is (B, heads, N, dim / heads).
        queries, keys, values = (
            y.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for y in self.map_in(self.norm(x)).chunk(3, dim=2)
        )
        y = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask[:, None, None, :],
            dropout_p=self.rate if self.training else 0.0,
        )  # (B, heads, N, dim / heads)
        return self.dropout(self.map_out(y.transpose(1, 2).flatten(2)))


class ConvolutionModule(nn.Module):
    """Norm, gated linear unit, depth-wise convolution of the valid frames, norm, Swish.

    Source: Gulati et al., arXiv 2005.08100, section 2.2.
    """

    def __init__(self, dim: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GLU())
        self.depthwise = MaskedConv1d(dim, dim, kernel_size, groups=dim)
        self.out = nn.Sequential(
            nn.LayerNorm(dim), nn.SiLU(), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, N, dim), with mask (B, N), to the same shape."""
        return self.out(self.depthwise(self.gate(x), mask))


def sinusoids(length: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Position vectors (length, dim): sines, then cosines, of periods from 2 pi to 20,000 pi.

    Source: Vaswani et al., arXiv 1706.03762, section 3.5, with another order of channels.
    """
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = torch.arange(length, device=device)[:, None] * rates  # (length, dim / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _feed_forward(dim: int, ffn_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, ffn_dim),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(ffn_dim, dim),
        nn.Dropout(dropout),
    )
