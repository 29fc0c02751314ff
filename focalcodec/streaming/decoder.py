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

_FALL_SECONDS = 0.08  # of 6 dB, while tokens are missing


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
        self._recent = [torch.zeros(0, dtype=torch.int64)] * batch_size  # last toks of each row
        # of each row: the gain of the sample before, then of the toks that the engine still has
        self._gains = [torch.ones(1)] * batch_size
        nothing = torch.zeros(0)
        if codec.causal:
            step, like = DecoderStep(codec), codec.codebook.new_zeros(0, dtype=state_dtype)
            self._engine = StepEngine(step, step.chunk_toks, like, nothing, batch_size)
            return
        window, hop = plan_window(codec, 1, chunk_seconds, left_seconds, right_seconds), self._hop
        self._engine = WindowEngine(
            lambda toks: codec.toks_to_sig(toks[None].to(codec.device))[0].float().cpu(),
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
        return self._result(self._run(new, 1.0), lengths is not None)

    def conceal(self, num_toks: int, rows: Tensor | Sequence[bool] | None = None) -> Any:
        """Audio in the place of `num_toks` lost toks, of all rows or where `rows` is True.

        The last chunk is repeated; the level falls by 6 dB in 80 ms, and rises again in the
        duration of a token after the loss. The result is as that of `push`.
        """
        if not isinstance(num_toks, int) or num_toks < 0:
            raise UserError(f"num_toks: {num_toks!r}; give the number of toks that are missing")
        lost = torch.zeros(self.batch_size, num_toks, dtype=torch.int64)
        lengths = None if rows is None else [num_toks * yes for yes in self._mask(rows)]
        new = self._checked(lost, lengths)
        for row, missing in enumerate(new):
            if len(self._recent[row]):
                place = torch.arange(len(missing)) % len(self._recent[row])
                new[row] = self._recent[row][place]
        falling = 0.5 ** (1 / (_FALL_SECONDS * self.codec.token_rate))
        return self._result(self._run(new, falling), rows is not None)

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
        outputs = self._run(new, 1.0, ends)
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
                self._recent[row] = self._recent[row][:0]

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
        self, new: list[Tensor], factor: float, ends: list[bool] | None = None
    ) -> list[Tensor]:
        """Audio after new toks, each of which multiplies the gain by `factor`; 1 is full again."""
        ends = [False] * self.batch_size if ends is None else ends
        outputs = self._engine.run(new, ends)
        for row, (toks, resampler) in enumerate(zip(new, self._resamplers, strict=True)):
            self._taken[row] += len(toks)
            self._recent[row] = torch.cat([self._recent[row], toks])[-self._engine.chunk :]
            powers = factor ** torch.arange(1, len(toks) + 1)
            gains = powers if factor == 1.0 else powers * self._gains[row][-1]
            self._gains[row] = torch.cat([self._gains[row], gains])
            audio = resampler.push(self._with_gains(row, outputs[row].float()))
            outputs[row] = torch.cat([audio, resampler.flush()]) if ends[row] else audio
            self._given[row] += len(outputs[row])
        return outputs

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
        state = super()._state() | {"given": torch.tensor(self._given)}
        state |= {f"gains{row}": gains for row, gains in enumerate(self._gains)}
        return state | {f"recent{row}": toks for row, toks in enumerate(self._recent)}

    def _load_more(self, state: State) -> None:
        self._given = state["given"].tolist()
        for row in range(self.batch_size):
            self._gains[row] = state[f"gains{row}"].clone()
            self._recent[row] = state[f"recent{row}"].clone()
