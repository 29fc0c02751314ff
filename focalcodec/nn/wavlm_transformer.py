"""WavLM's transformer: positional embedding, and layers of attention and feed-forward.

Source: WavLM, arXiv 2110.13900, section III; the causal form is that of the streaming FocalCodec,
arXiv 2509.16195, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.layers import FeedForward, convolve
from focalcodec.nn.masking import zero_padding
from focalcodec.nn.official import (
    given_states,
    newest_at,
    newest_last,
    one_position,
    relative_mask,
)
from focalcodec.nn.packed import Packable, PackedConv1d
from focalcodec.nn.past import LeftContext, Past, after_context, pad_frames
from focalcodec.nn.wavlm_attention import (
    MultiHeadAttention,
    RingSurroundings,
    Surroundings,
    relative_buckets,
)


class TransformerState(NamedTuple):
    """What a causal encoder keeps of the frames before, for each row of a batch."""

    position: Tensor  # (B,) int64, number of frames before
    context: LeftContext  # (B, conv_pos - 1, D), inputs of the positional embedding
    # of each layer (B, P, 2, H, D / H): keys and values of the P frames before, zeros before the
    # first; P is the window without the chunk of the query
    caches: list[Any]  # LeftContext


class TransformerEncoder(nn.Module):
    """Positional embedding, then layers that share one table of position biases.

    `num_buckets` and `max_distance` are arguments of `relative_buckets`, `window_size` that of
    `chunk_mask` if `causal`, with chunks of 1 + `lookahead_size` frames; `norm_first` is that of
    `TransformerLayer`; if it is False, there is one more norm before the layers. `conv_pos` and
    `conv_pos_groups` are kernel and groups of the positional embedding. `max_cached_steps` and
    `use_flex_attention`, which choose how the official package computes, change nothing here.
    """

    def __init__(
        self,
        num_layers: int = 6,
        dim: int = 1024,
        ffn_dim: int = 4096,
        num_heads: int = 16,
        num_buckets: int = 320,
        max_distance: int = 800,
        max_cached_steps: int = 2048,
        dropout: float = 0.0,
        conv_pos: int = 128,
        conv_pos_groups: int = 16,
        causal: bool = False,
        window_size: int = 512,
        lookahead_size: int = 3,
        use_flex_attention: bool = False,
        *,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.causal = causal
        self.chunk_size = 1 + lookahead_size
        self.window_size = window_size
        self._frame_shape = (2, num_heads, dim // num_heads)  # keys and values in a cache
        self.positional_embedding = ConvPositionalEmbedding(dim, conv_pos, conv_pos_groups, causal)
        self.relative_embedding = nn.Embedding(num_buckets, num_heads)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, ffn_dim, num_heads, dropout, causal, norm_first=norm_first)
            for _ in range(num_layers)
        )
        self.norm = nn.Identity() if norm_first else nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        input: Tensor,
        curr_pos: Tensor | None = None,
        left_context: Tensor | None = None,
        kv_caches: Sequence[Tensor | None] | None = None,
        length: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, LeftContext | None, list[Tensor | None]]:
        """`step` with the official states if causal, else `run` with the official `length`."""
        if not self.causal:
            mask = None if length is None else relative_mask(length, input.shape[1])
            x = self.run(input if mask is None else zero_padding(input, mask), mask)
            return x, x.new_zeros((), dtype=torch.int64), None, [None] * len(self.layers)
        state = None
        caches = given_states("kv_caches", kv_caches, len(self.layers))
        if left_context is not None and caches is not None:
            start = (input.new_zeros(()) if curr_pos is None else curr_pos).long()
            caches = [newest_last(cache, start, self._past).movedim(-1, 2) for cache in caches]
            state = TransformerState(start.expand(input.shape[0]), left_context, caches)
        x, state = self.step(input, state)
        position = one_position(state.position).clamp(max=self._past)
        kept = [newest_at(cache, position, self.window_size) for cache in state.caches]
        return x, position, state.context, [cache.movedim(2, -1) for cache in kept]

    def run(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map x (B, N, D), zeros on padded frames, to (B, N, D), arbitrary there.

        `mask` (B, N) bool is True on valid frames; None is all valid.
        """
        return self._layers(x, self._surroundings(x.shape[1], mask))[0]

    def step(
        self, x: Tensor, state: TransformerState | None = None
    ) -> tuple[Tensor, TransformerState]:
        """Map the next frames of a stream (B, N, D) to (B, N, D), and the state for what follows.

        `state` is what this returned for the frames before, None at the start. Chunks are counted
        from the first frame of x.
        """
        size, past = x.shape[1], self._past
        if state is not None and isinstance(state.context, Past):
            rings = self._ring_surroundings(size, state.context.position)
            return self._layers(x, rings, state.context, state.caches)[0], state
        nothing = x.new_zeros(x.shape[0], past, *self._frame_shape)
        if state is None:
            position = torch.zeros_like(x[:, 0, 0], dtype=torch.int64)
            around = self._surroundings(size)
            x, context, caches = self._layers(x, around, None, [nothing[:, :0]] * len(self.layers))
            caches = [self._newest(torch.cat([nothing, cache], dim=1)) for cache in caches]
        else:
            position = state.position
            before = torch.arange(past, device=x.device) >= past - position[:, None]  # (B, past)
            mask = torch.cat([before, torch.ones_like(x[:, :, 0], dtype=torch.bool)], dim=1)
            around = self._surroundings(size, mask, past)
            x, context, caches = self._layers(x, around, state.context, state.caches)
        return x, TransformerState(position + size, context, caches)

    def _newest(self, cache: Tensor) -> Tensor:
        """The frames of a cache that the next chunk attends to; the others are freed."""
        return cache[:, -self._past :].clone() if self._past else cache[:, :0]

    @property
    def _past(self) -> int:
        """Frames before a chunk that the chunk attends to."""
        return max(0, self.window_size - self.chunk_size)

    def _surroundings(self, size: int, mask: Tensor | None = None, past: int = 0) -> Surroundings:
        bias = self._bias(size, past)
        if not self.causal:
            return Surroundings(bias, mask)
        return Surroundings(bias, mask, self.chunk_size, self.window_size, past)

    def _ring_surroundings(self, size: int, position: Tensor) -> RingSurroundings:
        """Biases and mask for rings, and for the chunk after `position` (B,) frames."""
        past = self._past
        ring = Past(position.new_empty(len(position), past), position).frames()  # (B, P)
        query = torch.arange(size, device=position.device)
        key = torch.cat([ring - position[:, None], query.expand(len(position), -1)], dim=1)
        bias = self._bias(size, past)  # (H, 2 size + past - 1), from size - 1 down
        distance = key[:, None] - query[:, None]  # (B, size, P + size)
        return RingSurroundings(
            bias[:, size - 1 - distance].transpose(0, 1),  # (B, H, size, P + size)
            F.pad(ring >= 0, (0, size), value=True)[:, None, None],
        )

    def _layers(
        self,
        x: Tensor,
        around: Surroundings | RingSurroundings,
        context: LeftContext | None = None,
        caches: Sequence[LeftContext | None] | None = None,
    ) -> tuple[Tensor, Any, list[Any]]:
        y, context = self.positional_embedding(x, context)
        x = self.dropout(self.norm(x + y))  # (B, N, D)
        kept = []
        for layer, cache in zip(self.layers, caches or [None] * len(self.layers), strict=True):
            x, _, cache = layer(x, around, kv_cache=cache)  # (B, N, D)
            kept.append(self._newest(cache) if isinstance(cache, Tensor) else cache)
        return x, context, kept

    def _bias(self, size: int, past: int) -> Tensor:
        """Bias of each distance of the table as it is now, (H, 2 size + past - 1), see `attend`."""
        table = self.relative_embedding
        buckets = relative_buckets(size + past, table.num_embeddings, self.max_distance)
        buckets = buckets[: buckets.shape[0] - past]  # no key is `size` frames after its query
        return table(buckets.flip(0).to(table.weight.device)).t().contiguous()


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each with a residual and a LayerNorm.

    The norms are before each branch (`norm_first`, WavLM-large) or after each residual (base).
    """

    def __init__(
        self,
        dim: int = 1024,
        ffn_dim: int = 4096,
        num_heads: int = 16,
        dropout: float = 0.0,
        causal: bool = False,
        use_flex_attention: bool = False,
        *,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, num_heads, dropout, causal)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, ffn_dim, dropout)

    def forward(
        self,
        input: Tensor,
        position_bias: Surroundings | RingSurroundings | Tensor,
        mask: Tensor | None = None,
        curr_pos: Tensor | None = None,
        kv_cache: LeftContext | None = None,
    ) -> tuple[Tensor, Tensor | None, LeftContext | None]:
        """Map (B, N, D) to (B, N, D); the rest is that of `MultiHeadAttention`."""
        x = self.attention_norm(input) if self.norm_first else input
        y, curr_pos, kv_cache = self.attention(x, position_bias, mask, curr_pos, kv_cache)
        x = input + self.dropout(y)
        if self.norm_first:
            x = x + self.feed_forward(self.feed_forward_norm(x))
        else:
            x = self.attention_norm(x)
            x = self.feed_forward_norm(x + self.feed_forward(x))
        return x, curr_pos, kv_cache


class ConvPositionalEmbedding(Packable):
    """Convolutional positional embedding, with the weight norm of the original folded in."""

    def __init__(
        self, dim: int = 1024, kernel_size: int = 128, groups: int = 16, causal: bool = False
    ) -> None:
        super().__init__()
        self.causal = causal
        self.conv = nn.Conv1d(dim, dim, kernel_size, groups=groups)

    def forward(
        self, input: Tensor, left_context: LeftContext | None = None
    ) -> tuple[Tensor, LeftContext | None]:
        """Map input (B, N, D), zeros on padded frames, to (B, N, D).

        If causal, it also returns the last inputs (B, K - 1, D). They are the `left_context` of
        what follows; at the start of a clip it is None.
        """
        kernel_size = self.conv.kernel_size[0]
        context = None
        if self.causal:
            x, context = after_context(input, left_context, kernel_size - 1)  # (B, K - 1 + N, D)
        else:
            # an even kernel covers one frame more of the past than of the future
            x = pad_frames(input, kernel_size // 2, (kernel_size - 1) // 2)
        if self.packed is not None:
            return F.gelu(self.packed(x)), context
        y = F.gelu(convolve(x, self.conv.weight, self.conv.bias, groups=self.conv.groups))
        return y, context

    def packed_form(self, precision: str) -> PackedConv1d:
        """The convolution alone."""
        return PackedConv1d(self.conv, precision)
