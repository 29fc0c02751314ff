"""Conformer encoder in which a clip's frames do not depend on the padding beside them.

It is written here because none of the well-kept ones has that property, and a probe without it
scores a codec by the company its clips are in. Three layers of each with biases as after training,
a clip of 20 frames alone and in a batch of 80, outputs of mean magnitude 0.8, the largest change:

    torchaudio 2.11 Conformer                     0.16   (training: 1.3)
    speechbrain 1.1.2 ConformerEncoder            0.8    (training: 1.4)
    transformers 5.23 Wav2Vec2ConformerEncoder    1.1    (training: 1.5)

They mask their attention, but the depth-wise convolution reads what biases have put into the
padding, and norms over time or over the batch count it. The first is also PyTorch's issue 4205.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.nn.layers import MaskedConv1d
from focalcodec.nn.masking import zero_padding
from focalcodec.probes.lengths import check_frames


class ConformerEncoder(nn.Module):
    """Conformer with sinusoidal positions; frames in, as many frames of width `dim` out.

    As the one of SpeechBrain that the papers' probes use, it has absolute positions where the
    original has relative ones, and layer norm behind the convolution where it has batch norm.

    Sources: Gulati et al., "Conformer", arXiv 2005.08100, section 2; Vaswani et al., "Attention is
    all you need", arXiv 1706.03762, section 3.5 (positions).

    Parameters
    ----------
    input_dim : int
        Width of the input.
    dim : int
        Width inside and of the output; even, and a multiple of `num_heads`.
    num_layers : int
        Layers.
    num_heads : int
        Heads of the attention.
    ffn_dim : int
        Width of the feed-forward networks.
    kernel_size : int
        Frames that the convolution sees.
    dropout : float
        On the output of each module and on the attention's weights.

    Raises
    ------
    UserError
        `dim` can't be divided so.

    Example
    -------
    >>> encoder = ConformerEncoder(4, dim=8, num_layers=1, num_heads=2, ffn_dim=16)
    >>> y, lengths = encoder(torch.zeros(1, 3, 4), torch.tensor([2]))
    >>> y.shape, lengths
    (torch.Size([1, 3, 8]), tensor([2]))
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
        """Encode x (B, N, input_dim) to (B, N, dim), zero in the padding; lengths stay."""
        x, lengths, mask = check_frames(x, lengths, self.input_dim)
        positions = sinusoids(x.shape[1], self.dim, x.device).to(x.dtype)
        x = self.dropout(self.map(x) + positions)
        for layer in self.layers:
            x = layer(x, mask)
        return zero_padding(x, mask), lengths


class ConformerLayer(nn.Module):
    """Half a feed-forward network, attention, convolution, the other half, and a norm.

    Source: Gulati et al., arXiv 2005.08100, equation 1. Parameters as those of `ConformerEncoder`.

    Example
    -------
    >>> layer = ConformerLayer(8, num_heads=2, ffn_dim=16, kernel_size=3, dropout=0.0)
    >>> layer(torch.zeros(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 8])
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
        """Pass x (B, N, dim), mask (B, N) bool; padded frames hold values without a meaning."""
        x = x + 0.5 * self.first_ffn(x)
        x = x + self.attention(x, mask)
        x = x + self.convolution(x, mask)
        x = x + 0.5 * self.second_ffn(x)
        return self.norm(x)


class SelfAttention(nn.Module):
    """Norm and attention to the valid frames, through PyTorch's fused kernels.

    Parameters
    ----------
    dim : int
        Width, a multiple of `num_heads`.
    num_heads : int
        Heads.
    dropout : float
        On the weights and on the output.

    Example
    -------
    >>> attention = SelfAttention(8, num_heads=2, dropout=0.0)
    >>> attention(torch.zeros(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.rate = num_heads, dropout
        self.norm = nn.LayerNorm(dim)
        self.map_in = nn.Linear(dim, 3 * dim)
        self.map_out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend. x (B, N, dim), finite in the padding too; mask (B, N) bool."""
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
        )
        return self.dropout(self.map_out(y.transpose(1, 2).flatten(2)))


class ConvolutionModule(nn.Module):
    """Norm, gated linear unit, depth-wise convolution of the valid frames, norm, Swish.

    Source: Gulati et al., arXiv 2005.08100, section 2.2.

    Parameters
    ----------
    dim : int
        Width.
    kernel_size : int
        Frames that the convolution sees.
    dropout : float
        On the output.

    Example
    -------
    >>> module = ConvolutionModule(8, kernel_size=3, dropout=0.0)
    >>> module(torch.zeros(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, dim: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GLU())
        self.depthwise = MaskedConv1d(dim, dim, kernel_size, groups=dim)
        self.out = nn.Sequential(
            nn.LayerNorm(dim), nn.SiLU(), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Convolve x (B, N, dim), mask (B, N) bool."""
        return self.out(self.depthwise(self.gate(x), mask))


def sinusoids(length: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Positions of the frames: sines, then cosines, of periods from 2 pi to 10,000 times that.

    Source: Vaswani et al., arXiv 1706.03762, section 3.5, in another order of channels.

    Example
    -------
    >>> sinusoids(2, 2)
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]])
    """
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = torch.arange(length, device=device)[:, None] * rates
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
