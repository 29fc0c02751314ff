"""Conformer layers; the output for a clip does not depend on padding.

No maintained implementation has this property. Without it a score depends on which clips share a
batch. The table has the largest change of the output (mean magnitude 0.8) for a clip of 20
frames, between alone and in a batch of 80 frames; three layers, biases as after training:

    torchaudio 2.11 Conformer                     0.16   (training: 1.3)
    speechbrain 1.1.2 ConformerEncoder            0.8    (training: 1.4)
    transformers 5.23 Wav2Vec2ConformerEncoder    1.1    (training: 1.5)

They mask their attention. But biases write values into the padding, which the depth-wise
convolution reads, and norms over time or over the batch include the padding. The first is also
torchaudio's issue 4205.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.blocks.focal import Contexts
from focalcodec.errors import UserError
from focalcodec.nn.layers import MaskedConv1d
from focalcodec.nn.masking import zero_padding


class ConformerBlock(nn.Module):
    """A Conformer layer in place of focal modulation: attention to the whole clip.

    It has no positions but those that its convolution sees. `reach` is that of the convolution.

    Example
    -------
    >>> import torch
    >>> ConformerBlock(8, num_heads=2)(torch.randn(2, 5, 8))[0].shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self, dim: int, dropout: float = 0.0, num_heads: int = 4, kernel_size: int = 31
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f"num_heads={num_heads}: {dim} channels are not a multiple of it")
        self.layer = ConformerLayer(dim, num_heads, 4 * dim, kernel_size, dropout)
        self.reach = kernel_size // 2

    def forward(
        self, x: Tensor, left_contexts: Contexts | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Contexts]:
        """Map x (B, N, dim) to (B, N, dim); `mask` (B, N) bool is True on valid frames."""
        x = x if mask is None else zero_padding(x, mask)  # finite in the padding too
        return self.layer(x, mask), []


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

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Transform x (B, N, dim); mask (B, N) is True on valid frames, None is all."""
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

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
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
            attn_mask=None if mask is None else mask[:, None, None, :],
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

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map x (B, N, dim), with mask (B, N), to the same shape."""
        return self.out(self.depthwise(self.gate(x), mask))


def _feed_forward(dim: int, ffn_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, ffn_dim),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(ffn_dim, dim),
        nn.Dropout(dropout),
    )
