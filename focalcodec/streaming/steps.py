"""One chunk of a stream through the parts of a causal codec: pure functions of tensors.

A step takes a chunk, the number of chunks before it in each row, and the rings of the state. It
gives the output and the new frames of each ring; the caller writes them with `write_rings`. Nothing
depends on values, so a step is one graph: `torch.compile` and `torch.export` take it. At the start
of a row (no chunk before) each layer repeats the first frame of its input, WaveNeXt takes zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from focalcodec.codec import FocalCodec
from focalcodec.nn.past import Past

# Frames before a chunk, (B,), and what rings of one position share, see `Past.places`
Shared = tuple[Tensor, dict[tuple[int, bool], Tensor]]


class PartStep(nn.Module):
    """A causal part, whose state is a flat list of rings.

    `chunk` (1, N, ...) is an input of one chunk, to find the shapes of the rings.
    """

    def __init__(self, part: Any, chunk: Tensor) -> None:
        super().__init__()
        self.part = part
        contexts, self._spec = tree_flatten(part.step(chunk)[1])
        pasts = [Past(torch.zeros_like(each), chunk.new_zeros(1).long()) for each in contexts]
        self.output, _ = part.step(chunk, tree_unflatten(pasts, self._spec))
        # new frames in a chunk, 0: not a ring
        self._counts = [0 if past.new is None else past.new.shape[1] for past in pasts]
        self.counts = [count for count in self._counts if count]
        self.shapes = [past.ring.shape[1:] for past in pasts if past.new is not None]

    def forward(
        self, x: Tensor, chunks: Tensor, rings: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Output of the chunk x (B, N, ...) after `chunks` (B,) int64, and new frames of rings."""
        given = iter(rings)
        # rings with as many frames a chunk share a position, and what is computed from it
        shared: dict[int, Shared] = {count: (chunks * count, {}) for count in {*self._counts}}
        pasts = [
            Past(next(given), shared[count][0], None, shared[count][1]) if count else None
            for count in self._counts
        ]
        y, _ = self.part.step(x, tree_unflatten(pasts, self._spec))
        return y, [past.new for past in pasts if past is not None and past.new is not None]


class _TwoParts(nn.Module):
    """Two causal parts, one after the other: `chunk` goes through both."""

    def __init__(self, first: Any, second: Any, chunk: Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            self.first = PartStep(first, chunk)
            self.second = PartStep(second, self.first.output)
        self.counts = self.first.counts + self.second.counts
        self.shapes = self.first.shapes + self.second.shapes

    def through(
        self, x: Tensor, chunks: Tensor, rings: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Output of both, and the new frames of their rings."""
        split = len(self.first.counts)
        x, new = self.first(x, chunks, rings[:split])
        x, more = self.second(x, chunks, rings[split:])
        return x, new + more


class EncoderStep(_TwoParts):
    """Chunks of audio to tokens: encoder, compressor and quantizer of a causal codec.

    `chunk_samples` and `chunk_toks` are the samples and tokens of a chunk.
    """

    def __init__(self, codec: FocalCodec) -> None:
        encoder, factor = codec.encoder, codec.compressor.factor
        chunk_samples = math.lcm(codec.chunk_size, encoder.hop * factor)
        super().__init__(encoder, codec.compressor, codec._weight.new_zeros(1, chunk_samples))
        self.chunk_samples = chunk_samples
        self.chunk_toks = chunk_samples // (encoder.hop * factor)
        self.quantizer = codec.quantizer

    def forward(
        self, sig: Tensor, chunks: Tensor, rings: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Toks (B, N) of sig (B, T), and the new frames of each ring.

        `chunks` (B,) int64 are the chunks of each row before this one. Only the last chunk of a row
        may have fewer than `chunk_samples`.
        """
        lats, new = self.through(sig, chunks, rings)  # (B, N, L)
        return self.quantizer.lats_to_toks(lats), new


class DecoderStep(_TwoParts):
    """Chunks of tokens to audio: quantizer, decompressor and decoder of a causal codec.

    `chunk_toks` are the tokens of a chunk.
    """

    def __init__(self, codec: FocalCodec) -> None:
        factor = codec.decompressor.factor
        chunk_toks = math.lcm(getattr(codec.decompressor, "chunk_size", 1), factor) // factor
        codes = codec.toks_to_codes(torch.zeros(1, chunk_toks, dtype=torch.int64))
        super().__init__(codec.decompressor, codec.decoder, codes)
        self.chunk_toks, self.quantizer = chunk_toks, codec.quantizer

    def forward(
        self, toks: Tensor, chunks: Tensor, rings: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Samples rec_sig (B, T) of toks (B, N), and the new frames of each ring.

        `chunks` (B,) int64 are the chunks of each row before this one. Only the last chunk of a row
        may have fewer than `chunk_toks`.
        """
        return self.through(self.quantizer.toks_to_codes(toks), chunks, rings)


def write_rings(
    rings: Sequence[Tensor],
    new: Sequence[Tensor],
    counts: Sequence[int],
    chunks: Tensor,
    rows: Tensor,
) -> None:
    """Write the new frames of a step into the rings (B, R, ...), in place.

    `counts` are those of the step, `chunks` (B,) int64 the chunks before it, and `rows` (B,) bool
    the rows to write.
    """
    row = torch.arange(len(rows), device=rows.device)[:, None]
    every, indices = bool(rows.all()), {}
    for ring, frames, count in zip(rings, new, counts, strict=True):
        size = ring.shape[1]
        kept = min(size, count)  # new frames that fit
        if (size, count) not in indices:
            place = torch.arange(count - kept, count, device=rows.device) + chunks[:, None] * count
            indices[size, count] = (place % size + row * size)[rows].flatten()
        frames = frames[:, count - kept :]  # (B, kept, ...)
        frames = frames if every else frames[rows]
        ring.flatten(0, 1).index_copy_(0, indices[size, count], frames.flatten(0, 1).to(ring.dtype))
