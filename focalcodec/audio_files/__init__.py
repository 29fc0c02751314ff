"""Read an audio file of any format to its end, whatever its header or a decoder says of its length.

libsndfile decodes. What it does not read is decoded to a temporary file first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np
import soundfile

from focalcodec.audio_files.foreign import decode_foreign, demuxer
from focalcodec.audio_files.headers import read_promise
from focalcodec.audio_files.joined import next_file
from focalcodec.audio_files.sound import AudioSource, Part, following, open_part
from focalcodec.errors import UserError

_BLOCK = 1 << 18  # samples, of a file of unknown length
_LARGEST = 1 << 28  # samples read at once: a damaged header may promise any number
# A frame of MPEG 2 may need the data of 255 frames before it: 6.1 s at 24 kHz.
_MP3_LEAD_SECONDS = 7
# libsndfile seeks to a wrong place on the last page of an Ogg Vorbis file. A page has at most
# 64 KiB; reading on costs a few milliseconds.
_OGG_PAGE_SECONDS = 30


class AudioFile:
    """An open file: `sample_rate` in Hz, `channels`, and its samples; joined files are one.

    Raises a `UserError` if it is missing, empty, not audio, or ends before the samples that its
    header promises; while it is read, also for damaged, NaN or infinite samples.

    Example
    -------
    >>> import io
    >>> file = io.BytesIO()
    >>> soundfile.write(file, np.zeros(800), 8000, format="WAV")
    >>> with AudioFile(file) as audio:
    ...     audio.sample_rate, audio.read(500).shape, audio.read(500).shape, audio.count()
    (8000, (500, 1), (300, 1), 800)
    """

    def __init__(self, source: AudioSource) -> None:
        self.name = source_name(source)
        self._given = not isinstance(source, (str, os.PathLike))
        self._path = None if self._given else Path(cast(str, source))
        if self._given and not hasattr(source, "seek"):
            kind = type(source).__name__
            raise UserError(f"audio file: {kind}; give a path or an open binary file")
        if self._path is not None and not self._path.is_file():
            raise UserError(f"{self.name}: no such file; check the path")
        self._file = cast(BinaryIO, source) if self._path is None else self._path.open("rb")
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._part = cast(Part, None)
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            if self._size == 0:
                raise UserError(f"{self.name}: empty, 0 bytes; copy it again or remove it")
            self._open_part(0)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> AudioFile:
        """Return the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file, unless it was given open."""
        if self._part is not None:
            self._part.sound.close()
        if not self._given:
            self._file.close()
        if self._folder is not None:
            self._folder.cleanup()

    def read(self, count: int | None = None) -> np.ndarray:
        """Read the next samples, all for None: (count, channels) float32; fewer at the end."""
        blocks, missing = [], count
        while missing is None or missing > 0:
            block = self._read_part(missing)
            if len(block):
                blocks.append(block)
                missing = None if missing is None else missing - len(block)
            elif not self._open_next():
                break
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate(blocks or [np.zeros((0, self.channels), np.float32)])

    def seek(self, sample: int) -> None:
        """Go to a sample; what follows is what reading from the beginning gives, up to 1e-7.

        Opus is the exception, up to 0.006. Formats that can't seek are read from the beginning.
        A place after the end is the end.
        """
        if sample < self._place:
            self._open_part(0)
        self._seek_in_part(sample)
        while self._place < sample and len(self.read(min(_BLOCK, sample - self._place))):
            pass

    def count(self) -> int:
        """Go to the end, and return the number of samples before it.

        The samples are read where the header does not say how many there are. The last one is
        always read: that finds most truncated files.
        """
        while True:
            if self._part.length:
                self.seek(self._first + self._part.length - 1)
            elif self._place > self._first:
                self._open_part(self._part.begin, self._first)
            while len(self._read_part(_BLOCK)):
                pass
            if not self._open_next():
                return self._place

    # -- the parts of joined files -------------------------------------------------------------

    def _open_part(self, begin: int, first: int = 0) -> None:
        """Open the part that begins at this byte; `first` is the number of its first sample."""
        if self._part is not None:
            self._part.sound.close()
        try:
            part = open_part(self._file, self._path, begin, self._size, self.name)
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: raw, without a header
            self._decode(error)
            part = open_part(self._file, self._path, begin, self._size, self.name)
        self._part, self._first, self._place = part, first, first
        self.sample_rate: int = part.sound.samplerate
        self.channels: int = part.sound.channels

    def _decode(self, error: Exception) -> None:
        """Go on with a decoded copy of a file that libsndfile refuses with `error`."""
        self._file.seek(0)
        if demuxer(self._file.read(512)) is None or self._folder is not None:
            raise UserError(
                f"{self.name}: not audio that can be read ({_reason(error)}); copy it again, or"
                " convert it to WAV or FLAC"
            ) from error
        if next_file(self._file, 0, self._size, read_promise(self._file, 0, self._size)):
            raise UserError(
                f"{self.name}: several files in one; split it, or convert it to WAV or FLAC"
            ) from error
        self._folder = tempfile.TemporaryDirectory(prefix="focalcodec-")
        path, target = self._path, Path(self._folder.name, "decoded")
        if path is None:
            path = Path(self._folder.name, "given")
            self._file.seek(0)
            with path.open("wb") as copy:
                shutil.copyfileobj(self._file, copy)
        decode_foreign(path, self.name, target)
        if not self._given:
            self._file.close()
        self._given, self._path, self._file = False, target, target.open("rb")
        self._size = target.stat().st_size

    def _open_next(self) -> bool:
        """Go on with the next of joined files; False if there is none."""
        begin = following(self._part, self._file, self._path, self._size)
        if begin is None:
            return False
        kind = (self.sample_rate, self.channels)
        self._open_part(begin, self._place)
        if (self.sample_rate, self.channels) != kind:
            raise UserError(
                f"{self.name}: joined files of {kind[0]} and {self.sample_rate} Hz, {kind[1]} and"
                f" {self.channels} channels; convert it to WAV or FLAC, or split it"
            )
        return True

    def _read_part(self, count: int | None) -> np.ndarray:
        """Read at most `count` samples; none at the end of the part."""
        length, done = self._part.length, self._place - self._first
        if length is not None:
            left = min(length - done, _LARGEST)
            count = left if count is None else min(count, left)
        else:
            count = _BLOCK if count is None else min(count, _BLOCK)
        try:
            samples = self._part.sound.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{self.name}: truncated or damaged ({_reason(error)}); copy it again or remove it"
            ) from error
        view = self._part.view
        if length is None and not len(samples) and view is not None and view.rest > 0:
            raise UserError(
                f"{self.name}: sample rate or channels change after {self._place} samples; split"
                " it, or convert it to WAV or FLAC"
            )
        if length is not None and len(samples) < count:
            raise UserError(
                f"{self.name}: truncated, {self._place + len(samples)} of"
                f" {self._first + length} samples can be read; copy it again or remove it"
            )
        if len(samples) == self._place == 0:
            raise UserError(f"{self.name}: no samples; copy it again or remove it")
        if not np.isfinite(samples).all():
            raise UserError(f"{self.name}: NaN or infinite samples; remove or repair the file")
        self._place += len(samples)
        return samples

    def _seek_in_part(self, sample: int) -> None:
        """Go to the sample before `sample` from which decoding must go on."""
        part, target = self._part, sample - self._first
        if part.sound.format == "MP3":
            target -= _MP3_LEAD_SECONDS * self.sample_rate
        elif part.sound.format == "OGG":
            target = min(target, (part.length or 0) - _OGG_PAGE_SECONDS * self.sample_rate)
        ends_before = part.length is not None and target > part.length
        if ends_before or (part.length is None and part.stop < self._size):
            return  # perhaps in the next part
        if target <= self._place - self._first or not part.sound.can_seek():
            return
        try:
            part.sound.seek(target)
            self._place = self._first + target
        except soundfile.LibsndfileError:  # it may have gone elsewhere
            self._open_part(self._part.begin, self._first)


def source_name(source: AudioSource) -> str:
    """Name of a source in messages: its path, or the name that a file object has."""
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    return str(getattr(source, "name", "audio in memory"))


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(". ")
