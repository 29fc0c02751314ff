"""Joined files: where in a file the next one begins (`cat a.mp3 b.mp3`, chained Ogg).

Decoders stop after the first one, or take the length of one for the other.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from focalcodec.audio_files.headers import Promise
from focalcodec.audio_files.mp3 import is_mp3, next_mp3
from focalcodec.audio_files.view import matches

_OGG_BEGIN = re.compile(rb"OggS\0[\2\6]")
_FLAC_BEGIN = re.compile(rb"fLaC[\0\x80]\0\0\x22")


def next_file(file: BinaryIO, start: int, size: int, promise: Promise) -> int | None:
    """First byte of the file after the one that begins at `start`; None if that is the last."""
    file.seek(start)
    head = file.read(12)
    if head[:4] == b"OggS":
        return _next_ogg(file, start, size)
    if head[:4] == b"fLaC":
        return next(matches(file, _FLAC_BEGIN, start + 4, size), None)
    if is_mp3(file, start):
        return next_mp3(file, start, size)
    place = promise.file_end
    if place is None or place + 12 > size:
        return None
    file.seek(place)
    again = file.read(8)
    if again[1:5] == head[:4]:  # after a pad byte
        return place + 1
    return place if again[:4] == head[:4] or again[4:] == head[4:8] == b"ftyp" else None


def _next_ogg(file: BinaryIO, start: int, size: int) -> int | None:
    """Streams side by side, such as sound and picture, all begin before the first other page."""
    place = start
    while True:
        file.seek(place)
        page = file.read(27 + 255)
        if not _OGG_BEGIN.match(page):
            break
        place += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return next(matches(file, _OGG_BEGIN, place, size), None)
