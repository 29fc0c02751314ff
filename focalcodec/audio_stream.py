"""Read, resample and write audio of any length in blocks, with little memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from focalcodec.audio import (
    Channels,
    check_channels,
    check_rates,
    resampled_length,
)
from focalcodec.audio_files import AudioFile
from focalcodec.audio_files.sound import AudioSource, any_name
from focalcodec.choices import WRITTEN_FORMATS
from focalcodec.errors import UserError
from focalcodec.files import atomic_path


class AudioStream:
    """A recording in blocks (T,) float32, which together equal the result of `read_audio`.

    `source`, `channels` and errors are those of `read_audio`; damaged samples are found while the
    stream is read. `sample_rate` is the rate of the blocks, Hz, default the file's own, and
    `block_seconds` their length.

    Example
    -------
    >>> import io
    >>> file = io.BytesIO()
    >>> _ = write_blocks(file, [torch.zeros(8000), torch.zeros(4000)], 8000)
    >>> with AudioStream(file, sample_rate=16000, block_seconds=1.0) as stream:
    ...     sum(len(block) for block in stream), stream.num_samples, stream.source_rate
    (24000, 12000, 8000)
    """

    def __init__(
        self,
        source: AudioSource,
        sample_rate: int | None = None,
        channels: Channels = "error",
        block_seconds: float = 10.0,
    ) -> None:
        self._file = AudioFile(source)
        try:
            check_channels(self._file.name, self._file.channels, channels)
        except UserError:
            self._file.close()
            raise
        self._channels = channels
        self.source_rate = self._file.sample_rate  # Hz
        self._num_samples: int | None = None
        self.sample_rate = self.source_rate if sample_rate is None else sample_rate
        self._block = max(1, round(block_seconds * self.source_rate))

    def __enter__(self) -> AudioStream:
        """Return the stream."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    @property
    def num_samples(self) -> int:
        """Number of samples at `source_rate`; read to be counted if the header does not say it."""
        if self._num_samples is None:
            self._num_samples = self._file.count()
        return self._num_samples

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the blocks from the beginning."""
        yield from resample_blocks(self._blocks(), self.source_rate, self.sample_rate)

    def _blocks(self) -> Iterator[Tensor]:
        done = 0
        self._file.seek(0)
        while len(samples := self._file.read(self._block)):  # (T, channels)
            done += len(samples)
            mono = samples.mean(axis=1) if self._channels == "mix" else samples[:, 0].copy()
            yield torch.from_numpy(mono)
            self._file.seek(done)  # `num_samples` may have gone elsewhere
        self._num_samples = done


def resample_blocks(blocks: Iterable[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    """Resample blocks (T,) float32 on the CPU to exactly the samples of `resample` for the whole.

    Rates are in Hz.
    """
    check_rates(from_rate, to_rate)
    if from_rate == to_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    read = made = 0
    for block in blocks:
        samples = resampler.resample_chunk(block.numpy())
        read, made = read + len(block), made + len(samples)
        yield torch.from_numpy(samples)
    missing = resampled_length(read, from_rate, to_rate) - made
    tail = torch.from_numpy(resampler.resample_chunk(np.zeros(0, np.float32), last=True))[:missing]
    yield torch.cat([tail, torch.zeros(missing - len(tail))])


def write_blocks(
    target: str | os.PathLike[str] | BinaryIO,
    blocks: Iterable[Tensor],
    sample_rate: int,
    file_format: str | None = None,
) -> int:
    """Write blocks (T,) float of a mono recording, 16 bits, and return the number of samples.

    Values beyond [-1, 1] are clipped. A path is written atomically; a file object must be seekable.
    `file_format` is "wav" or "flac", else a `UserError`; default by the suffix of a path, "wav" for
    a file object.
    """
    to_path = isinstance(target, (str, os.PathLike))
    if file_format is None:
        file_format = Path(target).suffix[1:].lower() if to_path else "wav"  # type: ignore[arg-type]
    if file_format not in WRITTEN_FORMATS:
        raise UserError(f"{target}: {file_format!r} can't be written; use .wav or .flac")
    check_rates(sample_rate)
    count = 0
    place = atomic_path(target) if to_path else nullcontext(target)  # type: ignore[arg-type]
    with (
        place as opened,
        soundfile.SoundFile(
            any_name(opened), "w", sample_rate, 1, format=file_format.upper()
        ) as file,
    ):
        for block in blocks:
            file.write(block.detach().to("cpu", torch.float32).clamp(-1.0, 1.0).numpy())
            count += len(block)
    return count


class Head:
    """Keeps the first samples, at most `limit`, of blocks that pass."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._blocks: list[Tensor] = []

    def of(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the blocks."""
        for block in blocks:
            left = int(self.limit) - sum(map(len, self._blocks))
            self._blocks += [block[:left]] if left > 0 else []
            yield block

    def sig(self) -> Tensor:
        """The samples, (T,)."""
        return torch.cat(self._blocks)
