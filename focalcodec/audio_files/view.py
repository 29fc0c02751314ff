"""A part of a file as a file of its own, for libsndfile, and a search in a file."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

_ID3V1 = 128  # bytes at the end of an MP3; mpg123 looks for this tag first
ENDLESS = 1 << 50
_BLOCK = 1 << 20


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


def matches(file: BinaryIO, pattern: re.Pattern[bytes], start: int, size: int) -> Iterator[int]:
    """Places of a pattern of less than 16 bytes."""
    for place in range(start, size, _BLOCK):
        file.seek(place)
        for match in pattern.finditer(file.read(min(_BLOCK + 16, size - place))):
            if match.start() < _BLOCK:
                yield place + match.start()
