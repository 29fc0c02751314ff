"""Audio to tokens while it arrives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.nn.masking import as_tensor
from focalcodec.streaming.engines import StepEngine, WindowEngine
from focalcodec.streaming.resampler import Resampler
from focalcodec.streaming.session import Session, plan_window
from focalcodec.streaming.steps import EncoderStep


class EncoderSession(Session):
    """Audio to tokens while it arrives, `batch_size` streams at a time.

    Parameters
    ----------
    codec : FocalCodec
        A causal codec gives the tokens of the whole signal. Another one works in windows: its
        tokens differ a little from those of the whole signal.
    batch_size : int
        Number of rows. They may start and end at different times.
    sample_rate : int, optional
        Rate of the audio, Hz; default `codec.sample_rate_input`.
    state_dtype : torch.dtype, optional
        Of the state of a causal codec; default that of its weights. float16 halves the memory, and
        a few tokens differ.
    chunk_seconds, left_seconds, right_seconds : float
        If the codec is not causal: new audio in a window, and the context before and after it.

    Example
    -------
    >>> from focalcodec.codec import FocalCodec
    >>> codec = FocalCodec.from_pretrained("demo")
    >>> session = EncoderSession(codec, sample_rate=24000)
    >>> toks = [session.push(torch.randn(1, 1000)) for _ in range(24)] + [session.flush()]
    >>> torch.cat(toks, dim=1).shape, session.latency
    (torch.Size([1, 50]), 581.625)
    """

    _unit = "samples"

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
        rate = codec.sample_rate_input if sample_rate is None else sample_rate
        self._resamplers = [Resampler(rate, codec.sample_rate_input) for _ in range(batch_size)]
        nothing = torch.zeros(0, dtype=torch.int64)
        if codec.causal:
            step, like = EncoderStep(codec), codec.codebook.new_zeros(0, dtype=state_dtype)
            self._engine = StepEngine(step, step.chunk_samples, like, nothing, batch_size)
            return
        hop = codec.hop_length
        window = plan_window(codec, hop, chunk_seconds, left_seconds, right_seconds)
        self._engine = WindowEngine(
            lambda sig: codec.encode(sig, codec.sample_rate_input)[0][0].cpu(),
            window,
            lambda samples: samples // hop,
            nothing,
            batch_size,
        )

    @property
    def latency(self) -> float:
        """From the first sample of a chunk to its tokens, ms, without the time to compute them."""
        seconds = self._engine.latency / self.codec.sample_rate_input
        return 1000.0 * (seconds + self._resamplers[0].latency)

    def push(self, sig: Tensor, lengths: Any = None) -> Any:
        """Toks (B, N) that are complete after the samples sig (B, T); N and T may be 0.

        `lengths` (B,) are the new samples of each row, 0 for a row that waits; then the result is
        toks, padded with 0, and their lengths (B,). Raises a `UserError` for another shape or type,
        NaN, and a row that was flushed; the session is unchanged then.
        """
        sig = as_tensor("sig", sig)
        if not sig.is_floating_point():
            raise UserError(f"sig: {sig.dtype}; give floats in [-1, 1], e.g. int16 / 32768")
        sizes = self._check(sig, lengths)
        sig = sig.detach().to("cpu", torch.float32)
        clips = [clip[:size] for clip, size in zip(sig, sizes, strict=True)]
        for row, clip in enumerate(clips):
            if not bool(torch.isfinite(clip).all()):
                raise UserError(f"sig: NaN or infinite samples in row {row}; remove or repair them")
        for row, size in enumerate(sizes):
            self._taken[row] += size
        new = [each.push(clip) for each, clip in zip(self._resamplers, clips, strict=True)]
        return self._result(self._engine.run(new, [False] * self.batch_size), lengths is not None)

    def flush(self, rows: Tensor | Sequence[bool] | None = None) -> Any:
        """Toks (B, N) of the samples that are left, at the end of all streams.

        If only some end, `rows` (B,) bool are these; the result is toks and their lengths then.
        """
        ends = self._ending(rows)
        new = [
            each.flush() if end else torch.zeros(0)
            for each, end in zip(self._resamplers, ends, strict=True)
        ]
        self._end(ends)
        return self._result(self._engine.run(new, ends), rows is not None)
