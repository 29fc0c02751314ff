"""WavLM's transformer: attention with a gated relative position bias.

Source: WavLM, arXiv 2110.13900, section III-A (gated relative position bias); the causal form is
the one of the streaming FocalCodec, arXiv 2509.16195, section 2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.blocks import by_frames
from focalcodec.nn.layers import convolve, pad_frames
from focalcodec.nn.masking import zero_padding
from focalcodec.nn.relative_attention import Surroundings, attend


def relative_buckets(num_frames: int, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of every relative offset that occurs among `num_frames` frames.

    Half of the buckets are for keys after the query. In each half, the first half holds one
    offset a bucket, the rest grow logarithmically up to `max_distance`.

    Parameters
    ----------
    num_frames : int
        N.
    num_buckets : int
        Buckets in total.
    max_distance : int
        Offset from which on all share the last bucket, in frames.

    Returns
    -------
    Tensor
        (2N - 1,) int64; entry k is the bucket of offset key - query = k - (N - 1).

    Example
    -------
    >>> relative_buckets(3, num_buckets=320, max_distance=800)
    tensor([  2,   1,   0, 161, 162])
    """
    half = num_buckets // 2
    max_exact = half // 2
    offsets = torch.arange(1 - num_frames, num_frames)
    distance = offsets.abs()
    # float32 and this order of operations decide the truncation at the bucket edges
    ratio = torch.log(distance.clamp(min=1).float() / max_exact) / math.log(
        max_distance / max_exact
    )
    far = (max_exact + ratio * (half - max_exact)).long().clamp(max=half - 1)
    return torch.where(distance < max_exact, distance, far) + half * (offsets > 0)


class PositionalEmbedding(nn.Module):
    """Convolutional positional embedding, with the weight norm of the original folded in.

    Parameters
    ----------
    dim : int
        Channels.
    kernel_size : int
        Frames.
    groups : int
        Groups of channels.
    causal : bool
        Pad on the left only, repeating the first frame.

    Example
    -------
    >>> PositionalEmbedding(8, kernel_size=4, groups=2)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, dim: int, kernel_size: int, groups: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.conv = nn.Conv1d(dim, dim, kernel_size, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Embed the surroundings of each frame.

        Parameters
        ----------
        x : Tensor
            (B, N, D), zeros on padded frames.

        Returns
        -------
        Tensor
            (B, N, D).
        """
        kernel_size = self.conv.kernel_size[0]
        if self.causal:
            x = pad_frames(x, kernel_size - 1, repeat=True)
        else:
            # an even kernel sees one frame more of the past than of the future
            x = pad_frames(x, kernel_size // 2, (kernel_size - 1) // 2)
        return F.gelu(convolve(x, self.conv.weight, self.conv.bias, groups=self.conv.groups))


class Attention(nn.Module):
    """Multi-head self-attention with a gated relative position bias.

    Parameters
    ----------
    dim : int
        Channels.
    num_heads : int
        Heads, a divisor of `dim`.

    Example
    -------
    >>> Attention(8, 2)(torch.zeros(1, 5, 8), Surroundings(torch.zeros(2, 9))).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.gru_rel_pos_linear = nn.Linear(self.head_dim, 8)
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, num_heads, 1, 1))

    def forward(self, x: Tensor, around: Surroundings) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        heads = self.qkv_proj(x).unflatten(2, (3, self.num_heads, self.head_dim))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        y = attend(query, key, value, self._gate(x), around)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _gate(self, x: Tensor) -> Tensor:
        """Gate of the bias of each query in each head, (B, H, N, 1)."""
        # the 8 outputs are only ever summed by fours: sum the weights instead
        linear = self.gru_rel_pos_linear
        weight = linear.weight.view(2, 4, self.head_dim).sum(dim=1)
        heads = x.unflatten(2, (self.num_heads, self.head_dim))
        logits = F.linear(heads, weight, linear.bias.view(2, 4).sum(dim=1))
        update, reset = torch.sigmoid(logits.transpose(1, 2)).split(1, dim=-1)
        return update * (reset * self.gru_rel_pos_const - 1.0) + 2.0


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them.

    Parameters
    ----------
    dim : int
        Channels.
    ffn_dim : int
        Hidden channels.

    Example
    -------
    >>> FeedForward(8, 16)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, ffn_dim)
        self.out_proj = nn.Linear(ffn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D), frame by frame."""
        return by_frames(lambda frames: self.out_proj(F.gelu(self.in_proj(frames))), x)


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each with a residual and a LayerNorm.

    Parameters
    ----------
    dim : int
        Channels.
    ffn_dim : int
        Hidden channels of the feed-forward.
    num_heads : int
        Heads.
    norm_first : bool
        Norms in front of each branch (large) instead of after each residual (base).

    Example
    -------
    >>> TransformerLayer(8, 16, 2)(torch.zeros(1, 5, 8), Surroundings(torch.zeros(2, 9))).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, norm_first: bool = True) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, ffn_dim)

    def forward(self, x: Tensor, around: Surroundings) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        if self.norm_first:
            x = x + self.attention(self.attention_norm(x), around)
            return x + self.feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self.attention(x, around))
        return self.feed_forward_norm(x + self.feed_forward(x))


class Transformer(nn.Module):
    """Positional embedding and the stack of layers that share one table of position biases.

    Parameters
    ----------
    dim, ffn_dim, num_heads, num_layers : int
        Channels, hidden channels of the feed-forward, heads and layers.
    num_buckets, max_distance : int
        See `relative_buckets`.
    conv_pos, conv_pos_groups : int
        Kernel and groups of the positional embedding.
    norm_first : bool
        See `TransformerLayer`; if not, one more norm stands in front of the layers.
    chunk_size, window_size : int, optional
        See `chunk_mask`; None is full context.

    Example
    -------
    >>> transformer = Transformer(dim=8, ffn_dim=16, num_heads=2, num_layers=1)
    >>> transformer(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_heads: int,
        num_layers: int,
        num_buckets: int = 320,
        max_distance: int = 800,
        conv_pos: int = 128,
        conv_pos_groups: int = 1,
        norm_first: bool = True,
        chunk_size: int | None = None,
        window_size: int | None = None,
    ) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.chunk_size = chunk_size
        self.window_size = window_size
        causal = chunk_size is not None
        self.positional_embedding = PositionalEmbedding(dim, conv_pos, conv_pos_groups, causal)
        self.relative_embedding = nn.Embedding(num_buckets, num_heads)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, ffn_dim, num_heads, norm_first) for _ in range(num_layers)
        )
        self.norm = nn.Identity() if norm_first else nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor
            (B, N, D), zeros on padded frames.
        mask : Tensor, optional
            (B, N) bool, True on valid frames; None is all valid.

        Returns
        -------
        Tensor
            (B, N, D), zeros on padded frames.
        """
        x = self.norm(x + self.positional_embedding(x))
        around = Surroundings(self._bias(x.shape[1]), mask, self.chunk_size, self.window_size)
        for layer in self.layers:
            x = layer(x, around)
        return x if mask is None else zero_padding(x, mask)

    def _bias(self, num_frames: int) -> Tensor:
        """Bias of each distance from the table as it is now, (H, 2N - 1), farthest key first."""
        table = self.relative_embedding
        buckets = relative_buckets(num_frames, table.num_embeddings, self.max_distance)
        return table(buckets.flip(0).to(table.weight.device)).t().contiguous()
