"""WavLM's transformer: attention with a gated relative position bias, in blocks.

The bias of a query and a key is the bias of their distance, times the query's gate. As a matrix it
would be larger than everything else in the encoder: 576 MB a layer for a minute of audio. So it is
computed for one block of queries at a time.

Source: WavLM, arXiv 2110.13900, section III-A (gated relative position bias); the causal form is
that of the streaming FocalCodec, arXiv 2509.16195, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.layers import by_frames, convolve, pad_frames
from focalcodec.nn.masking import zero_padding

# Number of logits in memory at a time. On a CPU they should stay in the cache during the four
# passes over them; an accelerator needs large blocks.
_BLOCK_LOGITS = {"cpu": 2**19, "other": 2**27}
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Transformer(nn.Module):
    """Positional embedding, then layers that share one table of position biases.

    `num_buckets` and `max_distance` are arguments of `relative_buckets`, `chunk_size` and
    `window_size` of `chunk_mask` (None is full context), `norm_first` of `TransformerLayer`; if it
    is False, there is one more norm before the layers. `conv_pos` and `conv_pos_groups` are kernel
    and groups of the positional embedding.
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
        """Map x (B, N, D) to (B, N, D), both zero on padded frames.

        `mask` (B, N) bool is True on valid frames; None is all valid.
        """
        x = self.norm(x + self.positional_embedding(x))  # (B, N, D)
        around = Surroundings(self._bias(x.shape[1]), mask, self.chunk_size, self.window_size)
        for layer in self.layers:
            x = layer(x, around)  # (B, N, D)
        return x if mask is None else zero_padding(x, mask)

    def _bias(self, num_frames: int) -> Tensor:
        """Bias of each distance from the table as it is now, (H, 2N - 1), farthest key first."""
        table = self.relative_embedding
        buckets = relative_buckets(num_frames, table.num_embeddings, self.max_distance)
        return table(buckets.flip(0).to(table.weight.device)).t().contiguous()


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each with a residual and a LayerNorm.

    The norms are before each branch (`norm_first`, WavLM-large) or after each residual (base).
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


class Attention(nn.Module):
    """Multi-head self-attention over `dim` channels with a gated relative position bias."""

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
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, H, N, D / H) each
        y = attend(query, key, value, self._gate(x), around)  # (B, H, N, D / H)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _gate(self, x: Tensor) -> Tensor:
        """Gate of the bias of each query in each head, (B, H, N, 1)."""
        # the 8 outputs are only used as two sums of four, so sum the weights instead
        linear = self.gru_rel_pos_linear
        weight = linear.weight.view(2, 4, self.head_dim).sum(dim=1)  # (2, D / H)
        heads = x.unflatten(2, (self.num_heads, self.head_dim))  # (B, N, H, D / H)
        logits = F.linear(heads, weight, linear.bias.view(2, 4).sum(dim=1))  # (B, N, H, 2)
        update, reset = torch.sigmoid(logits.transpose(1, 2)).split(1, dim=-1)
        return update * (reset * self.gru_rel_pos_const - 1.0) + 2.0


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, ffn_dim)
        self.out_proj = nn.Linear(ffn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D), frame by frame."""
        return by_frames(lambda frames: self.out_proj(F.gelu(self.in_proj(frames))), x)


class PositionalEmbedding(nn.Module):
    """Convolutional positional embedding, with the weight norm of the original folded in."""

    def __init__(self, dim: int, kernel_size: int, groups: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.conv = nn.Conv1d(dim, dim, kernel_size, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, N, D), zeros on padded frames, to (B, N, D)."""
        kernel_size = self.conv.kernel_size[0]
        if self.causal:
            x = pad_frames(x, kernel_size - 1, repeat=True)  # (B, K - 1 + N, D)
        else:
            # an even kernel covers one frame more of the past than of the future
            x = pad_frames(x, kernel_size // 2, (kernel_size - 1) // 2)
        return F.gelu(convolve(x, self.conv.weight, self.conv.bias, groups=self.conv.groups))


def relative_buckets(num_frames: int, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of every offset key - query among N frames: (2N - 1,) int64, offsets in order.

    Half of the buckets are for keys after the query. In each half, the first half holds one
    offset a bucket; the rest grow logarithmically up to `max_distance` frames, from where all
    offsets share the last bucket.

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


@dataclass(frozen=True)
class Surroundings:
    """Values that all layers use for N frames: biases of distances, and masks of attention.

    Example
    -------
    >>> around = Surroundings(torch.zeros(2, 19), chunk_size=4, window_size=6)
    >>> around.keys(slice(4, 8)), around.keys(slice(6, 9))
    (slice(2, 8, None), slice(2, 10, None))
    """

    bias: Tensor  # (H, 2N - 1), of each distance key - query, from N - 1 down to 1 - N
    mask: Tensor | None = None  # (B, N) bool, True on valid frames; None: all are valid
    chunk_size: int | None = None  # see `chunk_mask`; None: full context
    window_size: int | None = None

    def keys(self, queries: slice) -> slice:
        """Return the range of keys that at least one of the queries attends to."""
        num_frames = (self.bias.shape[1] + 1) // 2
        if self.chunk_size is None or self.window_size is None:
            return slice(0, num_frames)
        first_end = (queries.start // self.chunk_size + 1) * self.chunk_size
        last_end = ((queries.stop - 1) // self.chunk_size + 1) * self.chunk_size
        # a window shorter than a chunk: the query itself must be included, see `allowed`
        start = min(max(0, first_end - self.window_size), queries.start)
        return slice(start, min(last_end, num_frames))

    def allowed(self, queries: slice, keys: slice) -> Tensor | None:
        """Mask of query by key, broadcastable to (B, H, queries, keys); None is all allowed."""
        valid = None if self.mask is None else self.mask[:, None, None, keys]
        if self.chunk_size is None or self.window_size is None:
            return valid
        query = torch.arange(queries.start, queries.stop, device=self.bias.device)[:, None]
        key = torch.arange(keys.start, keys.stop, device=self.bias.device)
        near = chunk_mask(query, key, self.chunk_size, self.window_size)
        # a query attends to itself at least: softmax over nothing gives NaN, e.g. in padding
        return near if valid is None else (near & valid) | (query == key)


def chunk_mask(query: Tensor, key: Tensor, chunk_size: int, window_size: int) -> Tensor:
    """Whether a frame may attend to another in a causal model, bool.

    `query` and `key` are indices of frames, int64, broadcastable. The frames of a chunk attend to
    each other (`chunk_size` is 1 + look-ahead), and to `window_size` frames in all, counted back
    from the end of the query's chunk.

    Example
    -------
    >>> frame = torch.arange(4)
    >>> chunk_mask(frame[:, None], frame, chunk_size=2, window_size=3).int()
    tensor([[1, 1, 0, 0],
            [1, 1, 0, 0],
            [0, 1, 1, 1],
            [0, 1, 1, 1]], dtype=torch.int32)
    """
    end = (query // chunk_size + 1) * chunk_size
    return (key >= end - window_size) & (key < end)


def attend(query: Tensor, key: Tensor, value: Tensor, gate: Tensor, around: Surroundings) -> Tensor:
    """Attention with the bias gate * bias(distance), (B, H, N, D).

    `query`, `key` and `value` are (B, H, N, D), and `gate` (B, H, N, 1).
    """
    # The biases of a query are a window of `bias`, which moves by one for the next query. If the
    # keys are in reverse order, the window moves along a view's strides, so no bias is copied.
    key, value = key.flip(2).contiguous(), value.flip(2).transpose(2, 3).contiguous()
    query = query * query.shape[3] ** -0.5
    bias, gate = around.bias.to(query.dtype), gate.to(query.dtype)
    num_frames, groups = query.shape[2], []
    for heads, spans in _blocks(query, around):
        rows = []
        for queries, keys in spans:
            columns = slice(num_frames - keys.stop, num_frames - keys.start)
            # (B, heads, queries, keys): gate * bias is added, masked keys get -inf
            logits = _product(query[:, heads, queries], key[:, heads, columns])
            window = bias[heads, queries.start + columns.start : queries.stop + columns.stop - 1]
            # what unfold(1, keys, 1) gives, which export refuses for any number of keys
            table = window.as_strided(logits.shape[1:], (window.stride(0), 1, 1))
            logits.addcmul_(gate[:, heads, queries], table)
            allowed = around.allowed(queries, keys)
            if allowed is not None:
                logits.masked_fill_(~allowed.flip(-1), float("-inf"))
            rows.append(_product(torch.softmax(logits, dim=-1), value[:, heads, :, columns]))
        groups.append(torch.cat(rows, dim=2))
    return torch.cat(groups, dim=1)


def _product(x: Tensor, y: Tensor) -> Tensor:
    """(B, H, n, D) times (B, H, m, D) transposed, (B, H, n, m)."""
    # `@` in float32 calls MKL, which uses half of the vector width on processors that are not
    # Intel's. oneDNN uses all of it. This operator, which torch.compile uses for Linear, calls
    # oneDNN. It has no gradient and takes one matrix.
    one_matrix = y.shape[0] == y.shape[1] == 1
    plain = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    if _ONEDNN and one_matrix and plain and (x.device.type, x.dtype) == ("cpu", torch.float32):
        weight = y[0, 0].contiguous()
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return x @ y.transpose(2, 3)


def _blocks(
    query: Tensor, around: Surroundings
) -> Iterator[tuple[slice, list[tuple[slice, slice]]]]:
    """Groups of heads, each with its spans of queries and of their keys."""
    batch, num_heads, num_frames, _ = query.shape
    budget = _BLOCK_LOGITS.get(query.device.type, _BLOCK_LOGITS["other"]) // batch
    # a traced program works for any number of frames, so it can't have a loop over them
    if torch.compiler.is_compiling() or num_heads * num_frames**2 <= budget:
        yield slice(0, num_heads), [(slice(0, num_frames), slice(0, num_frames))]
        return
    step = max(1, budget // num_frames**2)
    num_keys = num_frames if around.window_size is None else 2 * around.window_size
    size = num_frames if step > 1 else max(1, budget // min(num_keys, num_frames))
    spans = [slice(i, min(i + size, num_frames)) for i in range(0, num_frames, size)]
    for first in range(0, num_heads, step):
        yield slice(first, first + step), [(queries, around.keys(queries)) for queries in spans]
