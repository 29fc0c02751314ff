"""Open one recording in a file with libsndfile, and find out whether its length is known.

libsndfile gets a view of the file if the file has others too, or a wrong header.
"""

from __future__ import annotations

import io
import logging
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import soundfile

from focalcodec.audio_files.headers import Promise, read_promise
from focalcodec.audio_files.joined import frames_end, has_length, next_file
from focalcodec.errors import UserError

AudioSource: TypeAlias = "str | os.PathLike[str] | BinaryIO"

# Samples. Where a header does not say, libsndfile gives 2^63 - 1, or estimates from `ENDLESS`.
_UNKNOWN = 1 << 40
_logger = logging.getLogger(__name__)


class Sound(soundfile.SoundFile):
    """Reads on; soundfile seeks after each block, and some decoders lose their state then."""

    def seekable(self) -> bool:
        """Return False."""
        return False

    def can_seek(self) -> bool:
        """Whether libsndfile can go to another sample."""
        return bool(super().seekable())


class Part(NamedTuple):
    """One recording; `begin` and `stop` are bytes, `stop` of joined files only, else of the file.

    `view` is that of an MP3 without its length, and `promise` is what the header says.
    """

    sound: Sound
    begin: int
    stop: int
    promise: Promise
    view: FileView | None = None

    @property
    def length(self) -> int | None:
        """Number of samples; None if only reading gives it."""
        return self.sound.frames if self.sound.frames < _UNKNOWN else None


def open_part(file: BinaryIO, path: Path | None, begin: int, size: int, name: str) -> Part:
    """Open the recording that begins at byte `begin` of a file of `size` bytes.

    `path` is that of the file, if it has one. Raises a `UserError` if the file ends before the
    samples that the header promises, and `soundfile.LibsndfileError` or TypeError for what
    libsndfile does not read.
    """
    promise = read_promise(file, begin, size)
    if promise.samples_end is not None and promise.samples_end > size:
        raise UserError(
            f"{name}: truncated, {size} of {promise.samples_end} bytes; copy it again or remove it"
        )
    if promise.patch is not None and not any(_read(file, promise.patch)):
        _warn(f"{name}: its header gives no length; read to the end of the file")
    # a FLAC file is searched after its last sample, because all of it is read then
    flac = _read(file, (begin, b"fLaC")) == b"fLaC"
    stop = (None if flac else _next(file, path, begin, size, promise)) or size
    whole = (begin, stop, promise.patch) == (0, size, None)
    view = FileView(file, begin, stop, promise.patch)
    sound = Sound(any_name(path) if path is not None and whole else view)
    if not sound.subtype.startswith("MPEG") or (sound.format == "MP3" and has_length(file, begin)):
        return Part(sound, begin, stop, promise)
    sound.close()
    first, end = begin, stop
    if sound.format != "MP3":  # in a WAV file
        first, end = promise.samples_begin, promise.samples_end or size
    view = FileView(file, first, frames_end(file, first, end), endless=True)
    return Part(Sound(view), begin, stop, promise, view)


def following(part: Part, file: BinaryIO, path: Path | None, size: int) -> int | None:
    """First byte of the recording after `part`; None for the last one."""
    if part.stop < size:
        return part.stop
    flac = part.sound.format == "FLAC" and part.length is not None
    return _next(file, path, part.begin, size, part.promise) if flac else None


def _next(file: BinaryIO, path: Path | None, begin: int, size: int, promise: Promise) -> int | None:
    if path is None:
        return next_file(file, begin, size, promise)
    return _next_in(path, path.stat().st_mtime_ns, begin, size, promise)


@lru_cache(maxsize=4096)
def _next_in(path: Path, modified_ns: int, begin: int, size: int, promise: Promise) -> int | None:
    """Search a file once: training opens it for each of its parts."""
    with path.open("rb") as file:
        return next_file(file, begin, size, promise)


def _read(file: BinaryIO, place: tuple[int, bytes]) -> bytes:
    """Read as many bytes as are given, from their place."""
    file.seek(place[0])
    return file.read(len(place[1]))


def any_name(source: AudioSource) -> AudioSource | bytes:
    """Return the path as bytes for soundfile, which accepts names as text only in UTF-8."""
    if isinstance(source, (str, os.PathLike)) and os.name != "nt":
        return os.fsencode(source)
    return source


@cache
def _warn(message: str) -> None:
    """Warn once of each file."""
    _logger.warning(message)


_ID3V1 = 128  # bytes at the end of an MP3; mpg123 looks for this tag first
ENDLESS = 1 << 50


class FileView(io.RawIOBase):
    """Bytes `start` to `stop` of a file, which `patch`, a place and its bytes, changes.

    With `endless` it says that it is `ENDLESS` bytes long: a length that a decoder then estimates
    is as absurd, and reading ends where the bytes end.
    """

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        stop: int,
        patch: tuple[int, bytes] | None = None,
        endless: bool = False,
    ) -> None:
        self._file, self._start, self._stop, self._patch = file, start, stop, patch
        self._size = ENDLESS if endless else stop - start
        self._place = 0

    @property
    def rest(self) -> int:
        """Number of bytes that were not read."""
        return self._stop - self._start - self._place

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place in the view."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which may be after the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, origin + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer; return the number of bytes."""
        place, view = self._start + self._place, memoryview(buffer)
        count = min(len(view), self._stop - place)
        if count > 0:
            self._file.seek(place)
            count = self._file.readinto(view[:count])  # type: ignore[attr-defined]
        elif self._size == ENDLESS and self._place >= ENDLESS - _ID3V1:
            count = min(len(view), ENDLESS - self._place)
            view[:count] = bytes(count)
        count = max(0, count)
        if self._patch is not None:
            _patch(view[:count], place, *self._patch)
        self._place += count
        return count


def _patch(view: memoryview, place: int, at: int, content: bytes) -> None:
    """Write into a view of the bytes from `place` on what `content`, at `at`, covers of them."""
    for number, byte in enumerate(content, at - place):
        if 0 <= number < len(view):
            view[number : number + 1] = bytes([byte])
