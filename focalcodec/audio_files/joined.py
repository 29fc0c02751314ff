"""Joined files: where in a file the next one begins (`cat a.mp3 b.mp3`, chained Ogg).

Decoders stop after the first one, or take the length of one for the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from focalcodec.audio_files.headers import Promise

_OGG_BEGIN = re.compile(rb"OggS\0[\2\6]")
_BLOCK = 1 << 20
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


def matches(file: BinaryIO, pattern: re.Pattern[bytes], start: int, size: int) -> Iterator[int]:
    """Places of a pattern of less than 16 bytes."""
    for place in range(start, size, _BLOCK):
        file.seek(place)
        for match in pattern.finditer(file.read(min(_BLOCK + 16, size - place))):
            if match.start() < _BLOCK:
                yield place + match.start()


# -- frames of an MP3 ------------------------------------------------------------------------------


# Layers II and III of MPEG 1, 2 and 2.5.
_SYNC = re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]")
_KBPS = {
    "1, III": (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    "1, II": (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0),
    "2": (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_HZ = (44100, 48000, 32000, 0)
_FRAMES = 8  # in a row: data that is no audio looks like one or two
_TAIL = 1 << 18
_TAGS = (re.compile(rb"Xing"), re.compile(rb"Info"))


def is_mp3(file: BinaryIO, start: int) -> bool:
    """Whether an MP3 begins at byte `start`."""
    return _frame_bytes(_first_frame(file, start)[1]) > 0


def has_length(file: BinaryIO, start: int) -> bool:
    """Whether the MP3 that begins at `start` has its number of frames, in a tag Xing or Info."""
    frame = _first_frame(file, start)[1]
    tag = _tag_place(frame)
    return tag > 0 and bool(frame[tag + 7] & 1)


def next_mp3(file: BinaryIO, start: int, size: int) -> int | None:
    """First byte of the MP3 after the one that begins at `start`; None if there is none.

    The tag has the size of its file. Without it, only an MP3 with a tag is found; the others are
    read as one.
    """
    first, frame = _first_frame(file, start)
    tag = _tag_place(frame)
    if tag and frame[tag + 7] & 2:
        place = tag + 8 + 4 * (frame[tag + 7] & 1)
        rest = first + int.from_bytes(frame[place : place + 4], "big")
        found = matches(file, _SYNC, rest, size)
        return next((place for place in found if _has_frames(file, place)), None)
    rest = first + len(frame)
    places = sorted(place for tag in _TAGS for place in matches(file, tag, rest, size))
    found = (place - offset for place in places for offset in (13, 21, 36))
    return next((at for at in found if _tag_place(_read(file, at)) + at in places), None)


def frames_end(file: BinaryIO, start: int, size: int) -> int:
    """First byte after the last whole frame, before tags or half a frame; mpg123 fails on these."""
    end = 0
    for place in matches(file, _SYNC, max(start, size - _TAIL), size):
        if place >= end and _has_frames(file, place):
            end = place
            while (length := _frame_bytes(_read(file, end))) and end + length <= size:
                end += length
    return end or size


def _has_frames(file: BinaryIO, place: int) -> bool:
    for _ in range(_FRAMES):
        length = _frame_bytes(_read(file, place))
        if not length:
            return False
        place += length
    return True


def _first_frame(file: BinaryIO, place: int) -> tuple[int, bytes]:
    """Place of what follows the tags ID3v2, and its beginning."""
    while (head := _read(file, place))[:3] == b"ID3" and len(head) > 9:
        place += 10 + sum(byte << 7 * (9 - at) for at, byte in enumerate(head[6:10], 6))
    return place, head


def _read(file: BinaryIO, place: int) -> bytes:
    file.seek(place)
    return file.read(256)


def _frame_bytes(head: bytes) -> int:
    """Length of a frame; 0 if this is none."""
    if len(head) < 4 or not _SYNC.match(head):
        return 0
    version, layer_3 = head[1] >> 3 & 3, head[1] >> 1 & 3 == 1  # 3: MPEG 1; 2: MPEG 2; 0: MPEG 2.5
    kbps = _KBPS["2" if version != 3 else "1, III" if layer_3 else "1, II"][head[2] >> 4]
    hertz = _HZ[head[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
    if not kbps or not hertz:
        return 0
    half = version != 3 and layer_3  # samples a frame
    return (72 if half else 144) * 1000 * kbps // hertz + (head[2] >> 1 & 1)


def _tag_place(frame: bytes) -> int:
    """Place of the tag Xing or Info in a frame; 0 if there is none."""
    if not _frame_bytes(frame):
        return 0
    first_version, mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3
    place = 4 + ((17 if mono else 32) if first_version else (9 if mono else 17))
    tagged = frame[place : place + 4] in (b"Xing", b"Info") and not any(frame[6:place])
    return place if tagged and len(frame) >= place + 16 else 0
