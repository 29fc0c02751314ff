"""The boundary to programs that were written for the official FocalCodec package.

A part has one core, `run` and `step`. Its `forward` has the official arguments and results, and
what it needs for that is here: the relative `length`, positions and lists of states, and what
`torch.jit.script` compiles.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from focalcodec.errors import UserError
from focalcodec.nn.layers import is_traced
from focalcodec.nn.masking import check_tensor


def refuse_lengths(state: Any) -> None:
    """Raise a `UserError` if the second positional argument of a part is lengths (B,)."""
    if isinstance(state, Tensor) and state.dim() == 1:
        raise UserError(
            f"lengths: {tuple(state.shape)} as second argument, where states of a stream are;"
            " give lengths by name, lengths=..."
        )


def check_relative(length: Any) -> None:
    """Raise a `UserError` if `length` is not a tensor of floats; its values are not read."""
    check_tensor("length", length)
    if not length.is_floating_point():
        raise UserError(f"length: {length.dtype}; give 0.0 to 1.0 of the longest, or lengths=...")


def relative_mask(length: Tensor, num_frames: int) -> Tensor:
    """Mask (B, N) bool of the first ceil(length * N) of N frames; `length` (B,) is 0 to 1.

    Example
    -------
    >>> relative_mask(torch.tensor([1.0, 0.4]), 3)
    tensor([[ True,  True,  True],
            [ True,  True, False]])
    """
    check_relative(length)
    valid = (length * num_frames).ceil()  # in the type of `length`, as the official code
    return torch.arange(num_frames, device=length.device) < valid[:, None]


def one_position(position: Tensor) -> Tensor:
    """The position () that all rows of a stream (B,) share; a `UserError` if they differ."""
    if not is_traced() and bool((position != position[:1]).any()):
        raise UserError(
            f"position: {position.tolist()}; official states have one for all rows: give rows"
            " that started together"
        )
    return position[0]


def given_states(name: str, states: Sequence[Any] | None, number: int) -> list[Any] | None:
    """States that a program gives back, None at the start; a `UserError` if not `number` of them.

    The official package starts with None, an empty list, or a list of None.
    """
    if isinstance(states, Tensor):
        raise UserError(f"{name}: a tensor; give the list of the call before")
    if not states or all(state is None for state in states):
        return None
    if len(states) != number:
        raise UserError(f"{name}: {len(states)} states; give the {number} of the call before")
    return list(states)


def newest_last(cache: Tensor, position: Tensor, size: int) -> Tensor:
    """Put the first `position` () frames of an official cache (B, S, ...) last in one of `size`."""
    index = torch.arange(size, device=cache.device) - size + position.clamp(max=size)
    return cache.index_select(1, index.clamp(0, cache.shape[1] - 1))


def newest_at(cache: Tensor, position: Tensor, size: int) -> Tensor:
    """Put the last `position` () frames of a cache (B, P, ...) first in an official one of `size`.

    Example
    -------
    >>> newest_at(torch.tensor([[0.0, 0.0, 1.0, 2.0]]), torch.tensor(2), 5)
    tensor([[1., 2., 0., 0., 0.]])
    """
    num_frames = cache.shape[1]
    padded = torch.cat([cache, cache.new_zeros(cache.shape[0], 1, *cache.shape[2:])], dim=1)
    index = torch.arange(size, device=cache.device) + num_frames - position
    return padded.index_select(1, index.clamp(max=num_frames))


class OfflineEncoder(nn.Module):
    """Base of encoders without states: the official call around their `run`."""

    causal = False
    max_seconds: float | None = None
    teacher: dict[str, Any] | None = None
    hop: int

    def run(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode, see `focalcodec.encoders.Encoder`."""
        raise NotImplementedError

    @property
    def chunk_size(self) -> int:
        """Samples of a frame."""
        return self.hop

    downsample_factor = chunk_size

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames for this many samples, int64 of any shape: one for every started hop."""
        return (lengths + self.hop - 1) // self.hop

    def forward(
        self,
        input: Tensor,
        curr_pos: Tensor | None = None,
        left_contexts: Sequence[Tensor | None] | None = None,
        kv_caches: Sequence[Tensor | None] | None = None,
        length: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Encode sig (B, T): with `lengths` as `run`, else feats, and states that hold nothing.

        `length` (B,) are the valid parts of each item, 0 to 1.
        """
        refuse_lengths(curr_pos)
        if lengths is not None:
            return self.run(input, lengths)
        if length is not None:
            check_relative(length)
            lengths = (length * input.shape[1]).ceil().long().clamp(1, input.shape[1])
        feats, _ = self.run(input, lengths)
        return feats, feats.new_zeros((), dtype=torch.int64), [], []

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` compiles."""
        weight = next(itertools.chain(self.parameters(), self.buffers()))
        return scripted(self, weight.new_zeros(2, 8 * self.hop), EncoderView)


# -- TorchScript -----------------------------------------------------------------------------------


def scripted(part: nn.Module, example: Tensor, view: type[_View]) -> nn.Module:
    """What `torch.jit.script` compiles instead of a part: a view of its official calls, traced.

    `example` is an input for the trace, of two rows and some chunks; `view` is one of the classes
    below. A part returns this from `__prepare_scriptable__`.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes that are constants, such as those of weights
        states, spec = tree_flatten(part(example)[1:])
        causal = bool(part.causal)
        calls: dict[str, Any] = {"first": example, "later": (example, states)}
        if not causal:
            calls = {"alone": example}
            if view is EncoderView:
                calls["padded"] = (example, example.new_ones(len(example)))
        traced = torch.jit.trace_module(_Calls(part, spec), calls, check_trace=False, strict=False)
    return view(part, traced, tree_unflatten(states, spec), causal)


class _Calls(nn.Module):
    """Calls of a part, with one list of all its states."""

    def __init__(self, part: nn.Module, spec: TreeSpec) -> None:
        super().__init__()
        self.part = part
        self.spec = spec

    def first(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._flat(self.part(x))

    def later(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self._flat(self.part(x, *tree_unflatten(states, self.spec)))

    def alone(self, x: Tensor) -> Tensor:
        return self.part(x)[0]

    def padded(self, x: Tensor, length: Tensor) -> Tensor:
        return self.part(x, length=length)[0]

    def _flat(self, result: tuple[Any, ...]) -> tuple[Tensor, list[Tensor]]:
        return result[0], tree_leaves(result[1:])


class _View(nn.Module):
    """A part for TorchScript: its traced calls, and those of its attributes that are values."""

    __constants__ = ["causal"]

    def __init__(self, part: nn.Module, traced: Any, states: Any, causal: bool) -> None:
        super().__init__()
        for name, value in vars(part).items():
            if isinstance(value, (bool, int, float, str)) and not name.startswith("_"):
                setattr(self, name, value)
        self.traced = traced
        self.causal = causal
        groups = states[0] if isinstance(self, CompressorView) else states
        # states in each list
        self.counts = [len(group) for group in groups if isinstance(group, list)]


class EncoderView(_View):
    """View of an encoder, whose states are a position and two lists."""

    def forward(
        self,
        input: Tensor,
        curr_pos: Tensor | None = None,
        left_contexts: list[Tensor | None] | None = None,
        kv_caches: list[Tensor | None] | None = None,
        length: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor | None], list[Tensor | None]]:
        """Encode as the official encoder."""
        if not self.causal:
            if length is None:
                x = self.traced.alone(input)
            else:
                x = self.traced.padded(input, length)
            position = torch.zeros((), dtype=torch.int64, device=input.device)
            return x, position, _nothing(self.counts[0]), _nothing(self.counts[1])
        if curr_pos is None or left_contexts is None or kv_caches is None:
            x, states = self.traced.first(input)
        else:
            x, states = self.traced.later(
                input, [curr_pos] + _given(left_contexts) + _given(kv_caches)
            )
        end = 1 + self.counts[0]
        return x, states[0], _optional(states[1:end]), _optional(states[end:])


class CompressorView(_View):
    """View of a compressor or decompressor, whose states are a list a layer."""

    def forward(
        self, input: Tensor, left_contexts: list[list[Tensor | None]] | None = None
    ) -> tuple[Tensor, list[list[Tensor | None]]]:
        """Compress or decompress as the official part."""
        layers: list[list[Tensor | None]] = []
        if not self.causal:
            for count in self.counts:
                layers.append(_nothing(count))
            return self.traced.alone(input), layers
        if left_contexts is None or len(left_contexts) == 0:
            x, states = self.traced.first(input)
        else:
            given: list[Tensor] = []
            for layer in left_contexts:
                given += _given(layer)
            x, states = self.traced.later(input, given)
        start = 0
        for count in self.counts:
            layers.append(_optional(states[start : start + count]))
            start += count
        return x, layers


class DecoderView(_View):
    """View of a decoder, whose states are one list."""

    def forward(
        self, input: Tensor, left_contexts: list[Tensor | None] | None = None
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Decode as the official decoder."""
        if not self.causal:
            return self.traced.alone(input), _nothing(self.counts[0])
        if left_contexts is None or len(left_contexts) == 0:
            x, states = self.traced.first(input)
        else:
            x, states = self.traced.later(input, _given(left_contexts))
        return x, _optional(states)


class QuantizerView(nn.Module):
    """View of a quantizer: its methods, traced with these lats and toks."""

    def __init__(self, quantizer: Any, lats: Tensor, toks: Tensor) -> None:
        super().__init__()
        names = ("forward", "lats_to_codes", "lats_to_toks", "codes_to_toks")
        calls = {**dict.fromkeys(names, lats), "toks_to_codes": toks}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.traced: Any = torch.jit.trace_module(quantizer, calls, check_trace=False)
        self.codebook_size, self.dim = quantizer.codebook_size, quantizer.dim
        self.register_buffer("codebook", quantizer.codebook, persistent=False)

    def forward(self, lats: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize lats (..., L): toks (...) and codes (..., L)."""
        return self.traced(lats)

    @torch.jit.export
    def lats_to_codes(self, lats: Tensor) -> Tensor:
        """Round lats (..., L) to codes."""
        return self.traced.lats_to_codes(lats)

    @torch.jit.export
    def lats_to_toks(self, lats: Tensor) -> Tensor:
        """Map lats (..., L) to toks (...)."""
        return self.traced.lats_to_toks(lats)

    @torch.jit.export
    def codes_to_toks(self, codes: Tensor) -> Tensor:
        """Map codes (..., L) to toks (...)."""
        return self.traced.codes_to_toks(codes)

    @torch.jit.export
    def toks_to_codes(self, toks: Tensor) -> Tensor:
        """Map toks (...) to codes (..., L)."""
        return self.traced.toks_to_codes(toks)


# TorchScript has no conversion between lists of `Tensor` and of `Tensor | None`.
def _given(states: list[Tensor | None]) -> list[Tensor]:
    given: list[Tensor] = []
    for state in states:
        if state is not None:
            given.append(state)
    return given


def _optional(states: list[Tensor]) -> list[Tensor | None]:
    result: list[Tensor | None] = []
    for state in states:
        result.append(state)
    return result


def _nothing(count: int) -> list[Tensor | None]:
    result: list[Tensor | None] = []
    for _ in range(count):
        result.append(None)
    return result
