"""The frames of an MP3: whether the first one has the length, and where a second MP3 begins."""

from __future__ import annotations

import re
from typing import BinaryIO

from focalcodec.audio_files.view import matches

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
