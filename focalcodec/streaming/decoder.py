"""Tokens to audio while they arrive, and in the place of tokens that are lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.bsq import check_toks
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.nn.masking import as_tensor
from focalcodec.streaming.engines import State, StepEngine, WindowEngine
from focalcodec.streaming.resampler import Resampler
from focalcodec.streaming.session import Session, plan_window
from focalcodec.streaming.steps import DecoderStep

_LOST = -1  # in the place of a lost token
_FALL_SECONDS = 0.08  # of 6 dB, while tokens are missing, after as long at full level
_RISE = 4.0  # largest factor of the level from one token to the next after a loss: 12 dB
_LEAST = 1e-3  # gain from which the level rises


class DecoderSession(Session):
    """Tokens to audio while they arrive, `batch_size` streams at a time.

    Parameters are those of `EncoderSession`; `sample_rate` is that of the output, default
    `codec.sample_rate_output`.

    Example
    -------
    >>> from focalcodec.codec import FocalCodec
    >>> codec = FocalCodec.from_pretrained("demo")
    >>> session = DecoderSession(codec)
    >>> sig = [session.push(torch.zeros(1, 4, dtype=torch.int64)) for _ in range(12)]
    >>> sig.append(session.flush(num_samples=15300))
    >>> torch.cat(sig, dim=1).shape
    torch.Size([1, 15300])
    """

    _unit = "toks"

    def __init__(
        self,
        codec: FocalCodec,
        batch_size: int = 1,
        sample_rate: int | None = None,
        *,
        state_dtype: torch.dtype | None = None,
        chunk_seconds: float = 0.5,
        left_seconds: float = 3.0,
        right_seconds: float = 0.08,
    ) -> None:
        super().__init__(codec, batch_size)
        rate = codec.sample_rate_output if sample_rate is None else sample_rate
        self._resamplers = [Resampler(codec.sample_rate_output, rate) for _ in range(batch_size)]
        self._given = [0] * batch_size  # samples of each row
        self._known = [torch.zeros(0, dtype=torch.int64)] * batch_size  # last tok of each row
        self._missing = [0] * batch_size  # lost toks of each row since then
        # of each row: the gain of the sample before, then of the toks that the engine still has
        self._gains = [torch.ones(1)] * batch_size
        nothing = torch.zeros(0)
        if codec.causal:
            step, like = DecoderStep(codec), codec.codebook.new_zeros(0, dtype=state_dtype)
            self._engine = StepEngine(step, step.chunk_toks, like, nothing, batch_size)
            return
        window, hop = plan_window(codec, 1, chunk_seconds, left_seconds, right_seconds), self._hop
        self._engine = WindowEngine(
            lambda toks: codec.toks_to_sig(_filled(toks)[None].to(codec.device))[0].float().cpu(),
            window,
            lambda toks: toks * hop,
            nothing,
            batch_size,
            fade=min(window.right * hop, codec.sample_rate_output // 50),
        )

    @property
    def _hop(self) -> int:
        """Samples of a token, before resampling."""
        return self.codec.decoder.hop * self.codec.decompressor.factor

    @property
    def latency(self) -> float:
        """From tokens to their audio, ms, without the time to compute it.

        The tokens of a causal encoder come a chunk at a time: then it is that of the resampler
        alone, if the decompressor has no longer chunks.
        """
        waiting = 1000.0 * self._engine.latency / self.codec.token_rate
        if self.codec.latency is not None:
            waiting = max(0.0, waiting - self.codec.latency)
        return waiting + 1000.0 * self._resamplers[0].latency

    def push(self, toks: Tensor, lengths: Any = None) -> Any:
        """Audio (B, T) that is complete after toks (B, N); N and T may be 0.

        `lengths` (B,) are the new toks of each row, 0 for a row that waits; then the result is the
        audio, padded with 0, and its lengths (B,). Raises a `UserError` for another shape or type,
        toks out of range, and a row that was flushed; the session is unchanged then.
        """
        new = self._checked(toks, lengths)
        return self._result(self._run(new), lengths is not None)

    def conceal(
        self,
        num_toks: int,
        rows: Tensor | Sequence[bool] | None = None,
        following: Tensor | None = None,
    ) -> Any:
        """Audio in the place of `num_toks` lost toks, of all rows or where `rows` is True.

        Each becomes the nearest tok that is known: the last one before, or, with `following`
        (B, N), the first of those that arrived after the loss. These are not decoded here: push
        them next. A codec that is not causal waits for later toks, and needs no `following`. After
        80 ms the level falls by 6 dB in 80 ms; after the loss it rises by at most 12 dB a token.
        The result is as that of `push`.
        """
        if not isinstance(num_toks, int) or num_toks < 0:
            raise UserError(f"num_toks: {num_toks!r}; give the number of toks that are missing")
        lost = torch.zeros(self.batch_size, num_toks, dtype=torch.int64)
        chosen = self._mask(rows)
        new = self._checked(lost, None if rows is None else [num_toks * yes for yes in chosen])
        after = [lost[0, :0]] * self.batch_size
        if following is not None:
            following = as_tensor("following", following)
            size = following.shape[-1] if following.dim() else 0
            after = self._checked(following, [size * yes for yes in chosen])
        for row, (toks, later) in enumerate(zip(new, after, strict=True)):
            new[row] = torch.full_like(toks, _LOST)
            if self.codec.causal:  # decoded at once: later toks can't change it
                known = self._known[row]
                both = _filled(torch.cat([known, new[row], later[:1]]))
                new[row] = both[len(known) : len(known) + len(toks)]
        return self._result(self._run(new, are_lost=True), rows is not None)

    def flush(
        self,
        num_samples: int | None = None,
        toks: Tensor | None = None,
        rows: Tensor | Sequence[bool] | None = None,
    ) -> Any:
        """Audio (B, T) of the toks that are left, at the end of all streams, or of `rows` (B,).

        `toks` (B, N) are the last ones, if they were not pushed. With `num_samples`, the audio of a
        whole stream has so many: its end is cut, or filled with zeros. A `UserError`, and the
        session is unchanged, if more samples were given before: so give the last toks here. With
        `rows` the lengths are given too.
        """
        ends = self._ending(rows)
        if toks is None:
            new = [torch.zeros(0, dtype=torch.int64)] * self.batch_size
        else:
            new = self._checked(toks, None if rows is None else [toks.shape[1] * e for e in ends])
        if num_samples is not None and not isinstance(num_samples, int):
            raise UserError(f"num_samples: {num_samples!r}; give a whole number of samples")
        wanted = [0 if num_samples is None else num_samples - given for given in self._given]
        if any(end and size < 0 for end, size in zip(ends, wanted, strict=True)):
            raise UserError(
                f"num_samples: {num_samples}, but {max(self._given)} were given before; flush"
                " without it, or leave the last toks to flush(num_samples, toks=...)"
            )
        outputs = self._run(new, ends)
        for row, end in enumerate(ends):
            if end and num_samples is not None:
                outputs[row] = F.pad(outputs[row], (0, wanted[row]))[: wanted[row]]
        self._end(ends)
        return self._result(outputs, rows is not None)

    def reset(self, rows: Tensor | Sequence[bool] | None = None) -> None:
        """Begin new streams in all rows, or where `rows` (batch,) bool is True."""
        super().reset(rows)
        for row, yes in enumerate(self._mask(rows)):
            if yes:
                self._given[row], self._gains[row] = 0, torch.ones(1)
                self._known[row], self._missing[row] = self._known[row][:0], 0

    def _checked(self, toks: Any, lengths: Any) -> list[Tensor]:
        """New toks of each row."""
        toks = as_tensor("toks", toks)
        sizes = self._check(toks, lengths)
        if toks.numel():
            check_toks(toks)
            # the quantizer refuses tokens that are not its own; in a step it would be too late
            self.codec.quantizer.toks_to_codes(toks.to(self.codec.device))
        return [row[:size].long() for row, size in zip(toks.cpu(), sizes, strict=True)]

    def _run(
        self, new: list[Tensor], ends: list[bool] | None = None, are_lost: bool = False
    ) -> list[Tensor]:
        """Audio after new toks, or toks in the place of lost ones."""
        ends = [False] * self.batch_size if ends is None else ends
        outputs = self._engine.run(new, ends)
        for row, (toks, resampler) in enumerate(zip(new, self._resamplers, strict=True)):
            self._taken[row] += len(toks)
            self._add_gains(row, len(toks), are_lost)
            if len(toks) and not are_lost:
                self._known[row] = toks[-1:].clone()
            audio = resampler.push(self._with_gains(row, outputs[row].float()))
            outputs[row] = torch.cat([audio, resampler.flush()]) if ends[row] else audio
            self._given[row] += len(outputs[row])
        return outputs

    def _add_gains(self, row: int, count: int, are_lost: bool) -> None:
        """Gains of `count` new toks: they fall during a loss, and rise after it."""
        if not count:
            return
        places, last = torch.arange(1, count + 1), self._gains[row][-1]
        if not are_lost:
            gains = (last.clamp(min=_LEAST) * _RISE**places).clamp(max=1.0)
            self._missing[row] = 0
        elif len(self._known[row]):
            span = _FALL_SECONDS * self.codec.token_rate
            falls = (self._missing[row] + places - span).clamp(min=0.0) / span
            gains = torch.minimum(0.5**falls, last)
            self._missing[row] += count
        else:  # nothing was known before
            self._gains[row] = torch.zeros_like(self._gains[row])
            gains = torch.zeros(count)
        self._gains[row] = torch.cat([self._gains[row], gains])

    def _with_gains(self, row: int, audio: Tensor) -> Tensor:
        """Audio (T,) of whole toks times their gains: from each to the next along a line."""
        count = len(audio) // self._hop
        gains, self._gains[row] = self._gains[row][: count + 1], self._gains[row][count:].clone()
        if bool((gains == 1.0).all()):
            return audio
        weight = torch.arange(1, self._hop + 1) / self._hop
        return (
            audio.view(count, self._hop) * torch.lerp(gains[:-1, None], gains[1:, None], weight)
        ).flatten()

    def _state(self) -> State:
        state = super()._state() | {"given": torch.tensor([self._given, self._missing])}
        state |= {f"gains{row}": gains for row, gains in enumerate(self._gains)}
        return state | {f"known{row}": toks for row, toks in enumerate(self._known)}

    def _load_more(self, state: State) -> None:
        self._given, self._missing = state["given"].tolist()
        for row in range(self.batch_size):
            self._gains[row] = state[f"gains{row}"].clone()
            self._known[row] = state[f"known{row}"].clone()


def _filled(toks: Tensor) -> Tensor:
    """Toks (N,) with the nearest known one in the place of each lost one, 0 if none is known."""
    is_known = toks != _LOST
    if bool(is_known.all()):
        return toks
    known = is_known.nonzero().flatten()
    if not len(known):
        return torch.zeros_like(toks)
    place = torch.arange(len(toks), device=toks.device)
    after = torch.searchsorted(known, place)  # the first known one that is not before
    before = known[(after - 1).clamp(min=0)]
    after = known[after.clamp(max=len(known) - 1)]
    is_nearer = (after - place).abs() < (place - before).abs()
    return toks[torch.where(is_nearer, after, before)]
