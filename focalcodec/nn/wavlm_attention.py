"""WavLM's attention: with a gated relative position bias, in blocks.

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
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.layers import blocks_allowed, is_traced
from focalcodec.nn.past import LeftContext

# Number of logits in memory at a time. On a CPU they should stay in the cache during the four
# passes over them; an accelerator needs large blocks.
_BLOCK_LOGITS = {"cpu": 2**19, "other": 2**27}
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class MultiHeadAttention(nn.Module):
    """Multi-head self-attention over `dim` channels with a gated relative position bias."""

    def __init__(
        self, dim: int = 1024, num_heads: int = 16, dropout: float = 0.0, causal: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.dropout = dropout
        self.causal = causal
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.gru_rel_pos_linear = nn.Linear(self.head_dim, 8)
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, num_heads, 1, 1))

    def forward(
        self,
        input: Tensor,
        position_bias: Surroundings | RingSurroundings | Tensor,
        mask: Tensor | None = None,
        curr_pos: Tensor | None = None,
        kv_cache: LeftContext | None = None,
    ) -> tuple[Tensor, Tensor | None, LeftContext | None]:
        """Map (B, N, D) to (B, N, D), and a cache (B, P, 2, H, D / H) to one of P + N frames.

        Programs for the official package give a whole table (H, N, M) as `position_bias`, an added
        `mask`, and a cache (B, P, H, D / H, 2) of which `curr_pos` () frames are used.
        """
        heads = self.qkv_proj(input).unflatten(2, (3, self.num_heads, self.head_dim))
        query, new = heads[:, :, 0].transpose(1, 2), heads[:, :, 1:]  # new as in a cache
        key, value = _both(new)
        gate, dropout = self._gate(input), self.dropout if self.training else 0.0
        if isinstance(position_bias, Tensor):
            start = 0 if curr_pos is None else int(curr_pos)
            curr_pos = torch.tensor(start, device=input.device)
            if self.causal:
                used = key.new_zeros(input.shape[0], 512, *new.shape[2:])
                used = kv_cache.movedim(-1, 2) if isinstance(kv_cache, Tensor) else used
                joined = torch.cat([used[:, :start].to(new.dtype), new], dim=1)
                key, value = _both(joined)
                curr_pos = curr_pos + input.shape[1]
                kv_cache = torch.cat([joined, used[:, joined.shape[1] :]], dim=1).movedim(2, -1)
            bias = gate * position_bias if mask is None else gate * position_bias + mask
            y = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), dropout)
        elif isinstance(position_bias, RingSurroundings):
            y = attend_ring(query, kv_cache, new, gate, position_bias)  # (B, H, N, D / H)
        else:
            if isinstance(kv_cache, Tensor):
                kv_cache = torch.cat([kv_cache.to(new.dtype), new], dim=1)  # (B, P + N, ...)
                key, value = _both(kv_cache)
            y = attend(query, key, value, gate, position_bias, dropout)  # (B, H, N, D / H)
        return self.out_proj(y.transpose(1, 2).flatten(2)), curr_pos, kv_cache

    def _gate(self, x: Tensor) -> Tensor:
        """Gate of the bias of each query in each head, (B, H, N, 1)."""
        # the 8 outputs are only used as two sums of four, so sum the weights instead
        linear = self.gru_rel_pos_linear
        weight = linear.weight.view(2, 4, self.head_dim).sum(dim=1)  # (2, D / H)
        heads = x.unflatten(2, (self.num_heads, self.head_dim))  # (B, N, H, D / H)
        logits = F.linear(heads, weight, linear.bias.view(2, 4).sum(dim=1))  # (B, N, H, 2)
        update, reset = torch.sigmoid(logits.transpose(1, 2)).split(1, dim=-1)
        return update * (reset * self.gru_rel_pos_const - 1.0) + 2.0


def _both(cache: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (B, H, N, D / H) of a cache (B, N, 2, H, D / H)."""
    return cache[:, :, 0].transpose(1, 2), cache[:, :, 1].transpose(1, 2)


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
    """Values that all layers use for N queries: biases of distances, and masks of attention.

    The keys are `past` frames before the queries, and the frames of the queries.

    Example
    -------
    >>> around = Surroundings(torch.zeros(2, 19), chunk_size=4, window_size=6)
    >>> around.keys(slice(4, 8)), around.keys(slice(6, 9))
    (slice(2, 8, None), slice(2, 10, None))
    """

    # (H, 2N + past - 1), of each distance key - query, from N - 1 down to 1 - N - past
    bias: Tensor
    mask: Tensor | None = None  # (B, past + N) bool, True on valid keys; None: all are valid
    chunk_size: int | None = None  # see `chunk_mask`; None: full context
    window_size: int | None = None
    past: int = 0

    def keys(self, queries: slice) -> slice:
        """Return the range of keys that at least one of the queries attends to."""
        num_keys = (self.bias.shape[1] + 1 + self.past) // 2
        if self.chunk_size is None or self.window_size is None:
            return slice(0, num_keys)
        first_end = self.past + (queries.start // self.chunk_size + 1) * self.chunk_size
        last_end = self.past + ((queries.stop - 1) // self.chunk_size + 1) * self.chunk_size
        # a window shorter than a chunk: the query itself must be included, see `allowed`
        start = min(max(0, first_end - self.window_size), self.past + queries.start)
        return slice(start, min(last_end, num_keys))

    def allowed(self, queries: slice, keys: slice) -> Tensor | None:
        """Mask of query by key, broadcastable to (B, H, queries, keys); None is all allowed."""
        valid = None if self.mask is None else self.mask[:, None, None, keys]
        if self.chunk_size is None or self.window_size is None:
            return valid
        query = torch.arange(queries.start, queries.stop, device=self.bias.device)[:, None]
        key = torch.arange(keys.start - self.past, keys.stop - self.past, device=self.bias.device)
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


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    around: Surroundings,
    dropout: float = 0.0,
) -> Tensor:
    """Attention with the bias gate * bias(distance), (B, H, N, D).

    `query` is (B, H, N, D), `gate` (B, H, N, 1), `key` and `value` (B, H, past + N, D). `dropout`
    is the probability that a weight of the attention is zero.
    """
    # The biases of a query are a window of `bias`, which moves by one for the next query. If the
    # keys are in reverse order, the window moves along a view's strides, so no bias is copied.
    key, value = key.flip(2).contiguous(), value.flip(2).transpose(2, 3).contiguous()
    query = query * query.shape[3] ** -0.5
    bias, gate = around.bias.to(query.dtype), gate.to(query.dtype)
    num_keys, groups = key.shape[2], []
    for heads, spans in _blocks(query, around):
        rows = []
        for queries, keys in spans:
            columns = slice(num_keys - keys.stop, num_keys - keys.start)
            # (B, heads, queries, keys): gate * bias is added, masked keys get -inf
            logits = _product(query[:, heads, queries], key[:, heads, columns])
            window = bias[heads, queries.start + columns.start : queries.stop + columns.stop - 1]
            if torch.jit.is_tracing():  # which takes the strides as constants
                table = window.unfold(1, logits.shape[3], 1)
            else:  # the same; export refuses unfold for any number of keys
                table = window.as_strided(logits.shape[1:], (window.stride(0), 1, 1))
            logits.addcmul_(gate[:, heads, queries], table)
            allowed = around.allowed(queries, keys)
            if allowed is not None:
                logits.masked_fill_(~allowed.flip(-1), float("-inf"))
            weights = torch.softmax(logits, dim=-1)
            weights = F.dropout(weights, dropout) if dropout else weights
            rows.append(_product(weights, value[:, heads, :, columns]))
        groups.append(torch.cat(rows, dim=2))
    return torch.cat(groups, dim=1)


@dataclass(frozen=True)
class RingSurroundings:
    """`Surroundings` of one chunk of N frames, whose past is in rings of P frames."""

    bias: Tensor  # (B, H, N, P + N), of each query and each key
    valid: Tensor  # (B, 1, 1, P + N) bool


def attend_ring(
    query: Tensor, past: Any, new: Tensor, gate: Tensor, around: RingSurroundings
) -> Tensor:
    """Attention of a chunk to itself and to a `Past`, in the order of its ring; it takes `new`.

    `query` is (B, H, N, D), `new` (B, N, 2, H, D), `gate` (B, H, N, 1).
    """
    past.new = new
    (old_key, old_value), (key, value) = _both(past.ring.to(new.dtype)), _both(new)
    query = query * query.shape[3] ** -0.5
    logits = [_by_rows(query, old_key.transpose(2, 3)), query @ key.transpose(2, 3)]
    # (B, H, N, P + N)
    biased = torch.cat(logits, dim=3) + gate.to(query.dtype) * around.bias.to(query.dtype)
    weights = torch.softmax(biased.masked_fill(~around.valid, float("-inf")), dim=3)
    size = old_key.shape[2]
    return _by_rows(weights[..., :size], old_value) + weights[..., size:] @ value


def _by_rows(x: Tensor, y: Tensor) -> Tensor:
    """Product of each row (H, n, m) of the batch alone: else keys and values are copied for it."""
    if torch.compiler.is_exporting():  # a program for any number of rows can't loop over them
        return x @ y
    return torch.stack([one @ other for one, other in zip(x, y, strict=True)])


def _product(x: Tensor, y: Tensor) -> Tensor:
    """(B, H, n, D) times (B, H, m, D) transposed, (B, H, n, m)."""
    # `@` in float32 calls MKL, which uses half of the vector width on processors that are not
    # Intel's. oneDNN uses all of it. This operator, which torch.compile uses for Linear, calls
    # oneDNN. It has no gradient and takes one matrix.
    one_matrix = y.shape[0] == y.shape[1] == 1
    if (
        _ONEDNN
        and one_matrix
        and blocks_allowed()
        and (x.device.type, x.dtype) == ("cpu", torch.float32)
    ):
        weight = y[0, 0].contiguous()
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return x @ y.transpose(2, 3)


def _blocks(
    query: Tensor, around: Surroundings
) -> Iterator[tuple[slice, list[tuple[slice, slice]]]]:
    """Groups of heads, each with its spans of queries and of their keys."""
    batch, num_heads, num_frames, _ = query.shape
    num_keys = num_frames + around.past
    budget = _BLOCK_LOGITS.get(query.device.type, _BLOCK_LOGITS["other"]) // batch
    # a traced program works for any number of frames, so it can't have a loop over them
    if is_traced() or num_heads * num_frames * num_keys <= budget:
        yield slice(0, num_heads), [(slice(0, num_frames), slice(0, num_keys))]
        return
    step = max(1, budget // (num_frames * num_keys))
    if around.window_size is not None:
        num_keys = min(2 * around.window_size, num_keys)
    size = num_frames if step > 1 else max(1, budget // num_keys)
    spans = [slice(i, min(i + size, num_frames)) for i in range(0, num_frames, size)]
    for first in range(0, num_heads, step):
        yield slice(first, first + step), [(queries, around.keys(queries)) for queries in spans]
