"""What the two sessions share: rows that start and end, checks, and a state that can be saved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.nn.masking import as_tensor
from focalcodec.streaming.engines import State, StepEngine, Window, WindowEngine
from focalcodec.streaming.resampler import Resampler


class Session:
    """Base of `EncoderSession` and `DecoderSession`."""

    _unit: str  # of what is pushed
    _engine: StepEngine | WindowEngine
    _resamplers: list[Resampler]

    def __init__(self, codec: FocalCodec, batch_size: int) -> None:
        if not isinstance(codec, FocalCodec):
            raise UserError(f"codec: {type(codec).__name__}; give a FocalCodec")
        if codec.voice_tokens:
            raise UserError(
                f"codec: its utterances have a vector (voice_tokens={codec.voice_tokens}), which a"
                " stream does not have; use encode and decode, or a codec without it"
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size: {batch_size!r}; give a number of streams, at least 1")
        self.codec, self.batch_size = codec.eval(), batch_size
        self._ended = [False] * batch_size
        self._taken = [0] * batch_size  # items of each row

    def reset(self, rows: Tensor | Sequence[bool] | None = None) -> None:
        """Begin new streams in all rows, or where `rows` (batch,) bool is True."""
        chosen = [row for row, yes in enumerate(self._mask(rows)) if yes]
        self._engine.reset(chosen)
        for row in chosen:
            self._ended[row], self._taken[row] = False, 0
            self._resamplers[row].reset()

    def state_dict(self) -> State:
        """State as tensors on the CPU, and a hash of the codec: for a file, or another machine."""
        return {name: value.to("cpu", copy=True) for name, value in self._state().items()}

    def load_state_dict(self, state: State) -> None:
        """Continue where `state_dict` was called: the outputs are equal bit by bit.

        Raises a `UserError` for the state of another model, batch size, rate or kind of session;
        the session is unchanged then.
        """
        present = self._state()
        same = "make the session in the same way"
        session = state.get("session")
        if not isinstance(session, Tensor) or not torch.equal(session, self._identity):
            raise UserError(
                f"state: not of a {type(self).__name__} of this model with these rates; {same}"
            )
        shapes = {key: value.shape for key, value in present.items() if "engine.ring" in key}
        if set(present) != set(state) or any(state[key].shape != shapes[key] for key in shapes):
            raise UserError(f"state: not of {self.batch_size} rows; {same}")
        self._engine.load_state(_under("engine.", state))
        for row, resampler in enumerate(self._resamplers):
            resampler.load_state(_under(f"resampler{row}.", state))
        self._taken, self._ended = state["rows"][0].tolist(), state["rows"][1].bool().tolist()
        self._load_more(state)

    def _state(self) -> State:
        """The tensors of the state, not copied."""
        state = {f"engine.{name}": value for name, value in self._engine.state().items()}
        for row, resampler in enumerate(self._resamplers):
            state |= {f"resampler{row}.{k}": value for k, value in resampler.state().items()}
        return state | {
            "rows": torch.tensor([self._taken, self._ended]),
            "session": self._identity,
        }

    def _load_more(self, state: State) -> None:
        pass

    @cached_property
    def _identity(self) -> Tensor:
        """Hash of the codec, the rates and the window, as bytes."""
        text = f"{type(self).__name__} {self._resamplers[0].rates} {self._engine.chunk}"
        digest = bytes.fromhex(weights_sha256(self.codec)) + text.encode()
        return torch.tensor(list(digest), dtype=torch.uint8)

    def _mask(self, rows: Tensor | Sequence[bool] | None) -> list[bool]:
        if rows is None:
            return [True] * self.batch_size
        mask = as_tensor("rows", rows)
        if mask.dtype != torch.bool or mask.shape != (self.batch_size,):
            raise UserError(
                f"rows: {mask.dtype} {tuple(mask.shape)}; give a bool for each of the"
                f" {self.batch_size} rows"
            )
        return mask.tolist()

    def _ending(self, rows: Tensor | Sequence[bool] | None) -> list[bool]:
        """Rows that `flush(rows)` ends: those that did not end before."""
        if rows is None:
            self._check_together()
        return [yes and not ended for yes, ended in zip(self._mask(rows), self._ended, strict=True)]

    def _end(self, ends: list[bool]) -> None:
        self._ended = [end or ended for end, ended in zip(ends, self._ended, strict=True)]

    def _check(self, x: Tensor, lengths: Any) -> list[int]:
        """Number of new items of each row of x (B, T)."""
        if x.dim() != 2 or len(x) != self.batch_size:
            raise UserError(
                f"{self._unit}: shape {tuple(x.shape)}; give (batch, time) with {self.batch_size}"
                " rows"
            )
        if lengths is None:
            self._check_together()
            sizes = [x.shape[1]] * self.batch_size
        else:
            given = as_tensor("lengths", lengths)
            if given.dtype != torch.int64 or given.shape != (self.batch_size,):
                raise UserError(
                    f"lengths: {given.dtype} {tuple(given.shape)}; give int64 ({self.batch_size},)"
                )
            sizes = given.tolist()
            if not all(0 <= size <= x.shape[1] for size in sizes):
                raise UserError(f"lengths: {sizes}; each must be in 0..{x.shape[1]}")
        ended = [row for row, size in enumerate(sizes) if size and self._ended[row]]
        if ended:
            raise UserError(
                f"push: row {ended[0]} was flushed; call reset(), or reset(rows), to begin a new"
                " stream"
            )
        return sizes

    def _check_together(self) -> None:
        if len(set(self._taken)) > 1:
            raise UserError(
                f"rows: they have {self._taken} {self._unit} so far, so they give different"
                " numbers; push with lengths=, flush with rows="
            )

    def _result(self, outputs: list[Tensor], ragged: bool) -> Any:
        """One tensor (B, N), and the lengths (B,) where rows may differ."""
        x = pad_sequence(outputs, batch_first=True).to(self.codec.device)
        lengths = torch.tensor([len(output) for output in outputs], device=x.device)
        return (x, lengths) if ragged else x


def _under(prefix: str, state: State) -> State:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def plan_window(
    codec: FocalCodec, items: int, chunk_seconds: float, left_seconds: float, right_seconds: float
) -> Window:
    """Window of a codec that is not causal, in whole tokens of `items` items each.

    Raises a `UserError` if a length is negative, or a chunk has no token.
    """
    given = {"chunk": chunk_seconds, "left": left_seconds, "right": right_seconds}
    sizes = {name: round(seconds * codec.token_rate) for name, seconds in given.items()}
    for name, size in sizes.items():
        if size < (name == "chunk"):
            raise UserError(
                f"{name}_seconds: {given[name]}; a token lasts {1 / codec.token_rate:g} s, give"
                f" {'at least one' if name == 'chunk' else 'no less than 0'}"
            )
    return Window(sizes["left"] * items, sizes["chunk"] * items, sizes["right"] * items)
