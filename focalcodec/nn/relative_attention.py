"""Attention with a gated relative position bias, in blocks that stay in the cache.

The bias of a query and a key is that of their distance, times the query's gate. As a matrix it
would be larger than everything else in the encoder: 576 MB a layer for a minute of audio. Here it
exists for a block of queries at a time.

Source: WavLM, arXiv 2110.13900, section III-A.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Logits that exist at once. On a CPU they should stay in the cache between the four passes over
# them; an accelerator wants large blocks.
_BLOCK_LOGITS = {"cpu": 2**19, "other": 2**27}
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@dataclass(frozen=True)
class Surroundings:
    """What every layer knows of the N frames: biases of their distances, and who sees whom.

    Parameters
    ----------
    bias : Tensor
        (H, 2N - 1), bias of each distance key - query, from N - 1 down to 1 - N.
    mask : Tensor, optional
        (B, N) bool, True on valid frames; None is all valid.
    chunk_size, window_size : int, optional
        See `chunk_mask`; None is full context.

    Example
    -------
    >>> around = Surroundings(torch.zeros(2, 19), chunk_size=4, window_size=6)
    >>> around.keys(slice(4, 8)), around.keys(slice(6, 9))
    (slice(2, 8, None), slice(2, 10, None))
    """

    bias: Tensor
    mask: Tensor | None = None
    chunk_size: int | None = None
    window_size: int | None = None

    def keys(self, queries: slice) -> slice:
        """Give the keys that any of the queries sees."""
        num_frames = (self.bias.shape[1] + 1) // 2
        if self.chunk_size is None or self.window_size is None:
            return slice(0, num_frames)
        first_end = (queries.start // self.chunk_size + 1) * self.chunk_size
        last_end = ((queries.stop - 1) // self.chunk_size + 1) * self.chunk_size
        # a window shorter than a chunk: the query itself must be there, see `allowed`
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
        # a padded query whose window holds only padding would have nothing to attend to: NaN
        return near if valid is None else (near & valid) | (query == key)


def chunk_mask(query: Tensor, key: Tensor, chunk_size: int, window_size: int) -> Tensor:
    """Whether a frame may attend to another in a causal model.

    Parameters
    ----------
    query, key : Tensor
        Indices of frames, int64, broadcastable.
    chunk_size : int
        Frames that are seen together: 1 + look-ahead.
    window_size : int
        Frames seen, counted back from the end of the query's chunk.

    Returns
    -------
    Tensor
        bool, True where attention is allowed.

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
    """Attend with the bias gate * bias(distance).

    Parameters
    ----------
    query, key, value : Tensor
        (B, H, N, D).
    gate : Tensor
        (B, H, N, 1), factor of each query's biases.
    around : Surroundings
        Biases and masks.

    Returns
    -------
    Tensor
        (B, H, N, D).

    Example
    -------
    >>> heads = torch.zeros(1, 2, 5, 3)
    >>> attend(heads, heads, heads, torch.ones(1, 2, 5, 1), Surroundings(torch.zeros(2, 9))).shape
    torch.Size([1, 2, 5, 3])
    """
    # A query's biases are a window of `bias` that moves by one from each query to the next. With
    # the keys backwards it moves in the direction of a view's strides: no bias is ever copied.
    key, value = key.flip(2).contiguous(), value.flip(2).transpose(2, 3).contiguous()
    query = query * query.shape[3] ** -0.5
    bias, gate = around.bias.to(query.dtype), gate.to(query.dtype)
    num_frames, groups = query.shape[2], []
    for heads, spans in _blocks(query, around):
        rows = []
        for queries, keys in spans:
            columns = slice(num_frames - keys.stop, num_frames - keys.start)
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
    # MKL, behind `@` in float32, uses half of the vector width of processors that are not Intel's;
    # oneDNN uses all of it, and this operator, which torch.compile gives a Linear, leads to it.
    # It has no gradient and takes one matrix.
    one_matrix = y.shape[0] == y.shape[1] == 1
    plain = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    if _ONEDNN and one_matrix and plain and (x.device.type, x.dtype) == ("cpu", torch.float32):
        weight = y[0, 0].contiguous()
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return x @ y.transpose(2, 3)


def _blocks(
    query: Tensor, around: Surroundings
) -> Iterator[tuple[slice, list[tuple[slice, slice]]]]:
    """Groups of heads, each with its spans of queries and of the keys that these see."""
    batch, num_heads, num_frames, _ = query.shape
    budget = _BLOCK_LOGITS.get(query.device.type, _BLOCK_LOGITS["other"]) // batch
    # a traced program holds for any number of frames: it can't have a loop over them
    if torch.compiler.is_compiling() or num_heads * num_frames**2 <= budget:
        yield slice(0, num_heads), [(slice(0, num_frames), slice(0, num_frames))]
        return
    step = max(1, budget // num_frames**2)
    num_keys = num_frames if around.window_size is None else 2 * around.window_size
    size = num_frames if step > 1 else max(1, budget // min(num_keys, num_frames))
    spans = [slice(i, min(i + size, num_frames)) for i in range(0, num_frames, size)]
    for first in range(0, num_heads, step):
        yield slice(first, first + step), [(queries, around.keys(queries)) for queries in spans]
