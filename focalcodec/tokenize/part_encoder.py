"""From the clips of a part to their tokens: in batches of like length, broken files told apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from focalcodec.audio import AudioInfo, audio_info, read_audio
from focalcodec.audio_stream import AudioStream
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from focalcodec.tokenize.plan import TokenizeOptions
from focalcodec.tokenize.sources import Clip, Source
from focalcodec.tokenize.tokenizer import Tokenizer

_READ_AHEAD = 2  # batches
_T = TypeVar("_T")


@dataclass(frozen=True)
class EncodedClip:
    """What became of a clip: tokens, or the reason why there are none.

    Parameters
    ----------
    toks : Tensor
        (N * Q,) int64, on the CPU; empty where the clip failed.
    num_samples, sample_rate : int
        Of its audio file; 0 where the clip failed.
    reason : str
        Why it failed; empty where it did not.
    """

    toks: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    num_samples: int = 0
    sample_rate: int = 0
    reason: str = ""

    @property
    def seconds(self) -> float:
        """Audio encoded."""
        return 0.0 if self.reason else self.num_samples / self.sample_rate


class PartEncoder:
    """Encodes parts of a corpus.

    Parameters
    ----------
    tokenizer : Tokenizer
        Who encodes.
    source : Source
        Where the audio is.
    options : TokenizeOptions
        Channels, and lengths of batches and windows.
    pool : Executor
        Threads that read audio while the codec works.
    """

    def __init__(
        self, tokenizer: Tokenizer, source: Source, options: TokenizeOptions, pool: Executor
    ) -> None:
        self.tokenizer, self.source = tokenizer, source
        self.options, self.pool = options, pool

    def encode(
        self, clips: Sequence[Clip], on_seconds: Callable[[float], None] = lambda seconds: None
    ) -> list[EncodedClip]:
        """Encode the clips of a part.

        Which clips share a batch depends on the part alone, so the tokens do not depend on who
        encodes it, or when.

        Parameters
        ----------
        clips : sequence of Clip
            Of the part.
        on_seconds : callable
            Told of audio as it is done.

        Returns
        -------
        list of EncodedClip
            One for each clip, in their order.
        """
        headers = dict(enumerate(self.pool.map(self._header, clips)))
        infos = {index: info for index, info in headers.items() if not isinstance(info, str)}
        done = {index: EncodedClip(reason=x) for index, x in headers.items() if isinstance(x, str)}
        for indices, toks in self._toks(clips, infos):
            for index, found in zip(indices, toks, strict=True):
                if isinstance(found, str):
                    done[index] = EncodedClip(reason=found)
                else:
                    done[index] = EncodedClip(
                        found, infos[index].num_samples, infos[index].sample_rate
                    )
            on_seconds(sum(done[index].seconds for index in indices))
        return [done[index] for index in range(len(clips))]

    def _toks(
        self, clips: Sequence[Clip], infos: Mapping[int, AudioInfo]
    ) -> Iterator[tuple[list[int], list[Tensor | str]]]:
        """Clips of each batch, and their tokens or the reason why there are none."""
        limit = self.options.window_seconds
        short = {index: info.seconds for index, info in infos.items() if info.seconds <= limit}
        batches = plan_batches(short, self.options.batch_seconds)
        for indices, sigs in self._read_ahead(clips, batches):
            yield indices, encode_batch(self.tokenizer, sigs)
        for index in infos.keys() - short.keys():
            yield [index], [self._encode_long(clips[index])]

    def _read_ahead(
        self, clips: Sequence[Clip], batches: Iterable[list[int]]
    ) -> Iterator[tuple[list[int], list[Tensor | str]]]:
        waiting: deque[tuple[list[int], list[Future[Tensor | str]]]] = deque()
        for batch in batches:
            waiting.append((batch, [self.pool.submit(self._read, clips[i]) for i in batch]))
            if len(waiting) > _READ_AHEAD:
                indices, futures = waiting.popleft()
                yield indices, [future.result() for future in futures]
        for indices, futures in waiting:
            yield indices, [future.result() for future in futures]

    def _header(self, clip: Clip) -> AudioInfo | str:
        return _or_reason(lambda: audio_info(self.source.audio(clip)))

    def _read(self, clip: Clip) -> Tensor | str:
        rate, channels = self.tokenizer.sample_rate_input, self.options.channels
        return _or_reason(lambda: read_audio(self.source.audio(clip), rate, channels=channels))

    def _encode_long(self, clip: Clip) -> Tensor | str:
        def encode() -> Tensor:
            rate, channels = self.tokenizer.sample_rate_input, self.options.channels
            with AudioStream(self.source.audio(clip), rate, channels) as stream:
                return self.tokenizer.encode_long(stream, self.options.window_seconds)

        return _or_reason(encode)


def plan_batches(seconds: Mapping[int, float], batch_seconds: float) -> list[list[int]]:
    """Put clips of like length together.

    Parameters
    ----------
    seconds : mapping
        Length of each clip.
    batch_seconds : float
        Of a batch, padding included; at least the longest clip.

    Returns
    -------
    list of list
        Keys of `seconds`, longest clips first.

    Example
    -------
    >>> plan_batches({3: 1.0, 5: 4.0, 8: 3.0, 9: 7.0}, batch_seconds=8.0)
    [[9], [5, 8], [3]]
    """
    if not seconds:
        return []
    keys, durations = list(seconds), list(seconds.values())
    limit = max(batch_seconds, *durations)
    sampler = EpochBatchSampler(durations, max_batch_seconds=limit, sorting="descending")
    return [[keys[place] for place in batch] for batch in sampler]


def encode_batch(tokenizer: Tokenizer, sigs: Sequence[Tensor | str]) -> list[Tensor | str]:
    """Encode what could be read of a batch.

    Parameters
    ----------
    tokenizer : Tokenizer
        Who encodes.
    sigs : sequence of Tensor or str
        (T,) each at the tokenizer's rate, or the reason why there is none.

    Returns
    -------
    list of Tensor or str
        toks (N * Q,) int64 on the CPU, or the reason as it came.

    Raises
    ------
    UserError
        The device's memory is too small for the batch.
    """
    read = [sig for sig in sigs if not isinstance(sig, str)]
    if not read:
        return list(sigs)
    try:
        rows = iter(tokenizer.encode(read))
    except torch.OutOfMemoryError as error:
        seconds = len(read) * max(map(len, read)) / tokenizer.sample_rate_input
        raise UserError(
            f"{seconds:.0f} s of audio in a batch: more than the device's memory holds; lower"
            " batch_seconds and window_seconds"
        ) from error
    return [sig if isinstance(sig, str) else next(rows) for sig in sigs]


def _or_reason(read: Callable[[], _T]) -> _T | str:
    """What a function gives, or, where the file is at fault, the line that says so."""
    try:
        return read()
    except (UserError, OSError) as error:
        return str(error)
