"""WavLM's transformer: attention with a gated relative position bias.

Source: WavLM, arXiv 2110.13900, section III-A (gated relative position bias); the causal form is
the one of the streaming FocalCodec, arXiv 2509.16195, section 2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.masking import zero_padding


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


def chunk_mask(num_frames: int, chunk_size: int, window_size: int) -> Tensor:
    """Frames that each frame may attend to in a causal model.

    Parameters
    ----------
    num_frames : int
        N.
    chunk_size : int
        Frames that are seen together: 1 + look-ahead.
    window_size : int
        Frames seen, counted back from the end of the query's chunk.

    Returns
    -------
    Tensor
        (N, N) bool, query by key, True where attention is allowed.

    Example
    -------
    >>> chunk_mask(4, chunk_size=2, window_size=3).int()
    tensor([[1, 1, 0, 0],
            [1, 1, 0, 0],
            [0, 1, 1, 1],
            [0, 1, 1, 1]], dtype=torch.int32)
    """
    frame = torch.arange(num_frames)
    end = (frame // chunk_size + 1)[:, None] * chunk_size
    return (frame >= end - window_size) & (frame < end)


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
        y = x.transpose(1, 2)
        kernel_size = self.conv.kernel_size[0]
        if self.causal:
            y = F.pad(y, (kernel_size - 1, 0), mode="replicate")
        else:
            # an even kernel sees one frame more of the past than of the future
            y = F.pad(y, (kernel_size // 2, (kernel_size - 1) // 2))
        return F.gelu(self.conv(y)).transpose(1, 2)


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
    >>> Attention(8, 2)(torch.zeros(1, 5, 8), torch.zeros(2, 5, 5)).shape
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

    def forward(self, x: Tensor, bias: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Attend.

        Parameters
        ----------
        x : Tensor
            (B, N, D).
        bias : Tensor
            (H, N, N), table bias of query by key, shared by all layers.
        allowed : Tensor, optional
            bool, broadcastable to (B, H, N, N), False where a query must not see a key.

        Returns
        -------
        Tensor
            (B, N, D).
        """
        heads = self.qkv_proj(x).unflatten(2, (3, self.num_heads, self.head_dim))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        logits_bias = (self._gate(x) * bias).to(query.dtype)
        if allowed is not None:
            logits_bias = logits_bias.masked_fill(~allowed, float("-inf"))
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=logits_bias)
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
        return self.out_proj(F.gelu(self.in_proj(x)))


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
    >>> TransformerLayer(8, 16, 2)(torch.zeros(1, 5, 8), torch.zeros(2, 5, 5)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, norm_first: bool = True) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, ffn_dim)

    def forward(self, x: Tensor, bias: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Map (B, N, D) to (B, N, D); `bias` and `allowed` as in `Attention.forward`."""
        if self.norm_first:
            x = x + self.attention(self.attention_norm(x), bias, allowed)
            return x + self.feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self.attention(x, bias, allowed))
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
        bias = self._table_bias(x.shape[1])
        allowed = self._allowed(x, mask)
        for layer in self.layers:
            x = layer(x, bias, allowed)
        return x if mask is None else zero_padding(x, mask)

    def _table_bias(self, num_frames: int) -> Tensor:
        """Bias of query by key from the table as it is now, (H, N, N)."""
        table = self.relative_embedding
        buckets = relative_buckets(num_frames, table.num_embeddings, self.max_distance)
        frame = torch.arange(num_frames, device=table.weight.device)
        offset = frame - frame[:, None] + (num_frames - 1)
        return table(buckets.to(table.weight.device)).t()[:, offset]

    def _allowed(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        """Keys that each query may see, broadcastable to (B, H, N, N); None is all of them."""
        allowed = None if mask is None else mask[:, None, None, :]
        if self.chunk_size is None or self.window_size is None:
            return allowed
        near = chunk_mask(x.shape[1], self.chunk_size, self.window_size).to(x.device)
        # a padded query whose window holds only padding would have nothing to attend to: NaN
        own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return near if allowed is None else (near & allowed) | own
