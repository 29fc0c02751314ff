"""What the header of a file promises: where its samples end, and where a second file may follow.

libsndfile reads a truncated file as a shorter one, so the sizes in headers are compared with the
file. A program that writes to a pipe can't go back to its header and leaves a wrong size there,
such as 0, -1 or about 2^31: such a size promises nothing, and the samples go on to the end.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of each chunk's GUID but the first


class Promise(NamedTuple):
    """Places in a file, in bytes from its beginning; None where the header does not say."""

    samples_end: int | None = None
    file_end: int | None = None  # joined files: the next one begins here
    samples_begin: int = 0
    patch: tuple[int, bytes] | None = None  # a place, and the size that belongs there


class _Chunks(NamedTuple):
    """Layout of the chunks of a format: a name of `name` bytes, a size, and the content."""

    first: int
    name: int
    size: str  # of `struct`
    samples: bytes  # begin of the name of the chunk with the samples
    align: int = 2
    inclusive: bool = False  # a size includes name and size


_CHUNKS = {
    b"RIFF": _Chunks(12, 4, "<I", b"data"),
    b"RIFX": _Chunks(12, 4, ">I", b"data"),
    b"RF64": _Chunks(12, 4, "<I", b"data"),
    b"FORM": _Chunks(12, 4, ">I", b"SSND"),
    b"riff": _Chunks(40, 16, "<Q", b"data" + _W64_TAIL, 8, inclusive=True),
    b"caff": _Chunks(8, 4, ">Q", b"data", 1),
}


def read_promise(file: BinaryIO, start: int, size: int) -> Promise:
    """Read the header of the file that begins at byte `start` of a file of `size` bytes."""
    file.seek(start)
    head = file.read(64)
    read = _READERS.get(head[:4])
    if head[:4] in _CHUNKS:
        return _chunked(file, start, size, head)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _movie(file, start, size)
    return Promise() if read is None else read(file, start, size)


def _unknown(size: int, width: int) -> bool:
    """Whether a size of `width` bytes is what programs write that do not know it."""
    if width == 8:
        return size == 0 or size >= 2**62
    # 0x7f000000 and 0x7ffff000: sox; 0x7fff0000: GStreamer; 0x80000000: arecord
    near = (0x7F000000, 0x7FFF0000, 0x7FFFF000, 0x80000000)
    return size == 0 or size >= 2**32 - 256 or any(abs(size - each) <= 256 for each in near)


def _chunked(file: BinaryIO, start: int, size: int, head: bytes) -> Promise:
    layout, kind = _CHUNKS[head[:4]], head[:4]
    samples = b"BODY" if head[8:12] in (b"8SVX", b"16SV") else layout.samples
    width = struct.calcsize(layout.size)
    extra = layout.name + width if layout.inclusive else 0  # counted in the size of a chunk
    whole_at = layout.name  # of the size of the file; an inclusive one counts all
    (whole,) = struct.unpack_from(layout.size, head.ljust(64, b"\0"), whole_at)
    whole += 0 if layout.inclusive else 8
    place, long_size = start + layout.first, (0, 0)
    while place + layout.name + width <= size:
        file.seek(place)
        chunk = file.read(layout.name + width)
        (content,) = struct.unpack(layout.size, chunk[layout.name :])
        field, begin = place + layout.name, place + layout.name + width
        if chunk.startswith(b"ds64"):  # of RF64
            long_size = (begin + 8, int.from_bytes(file.read(16)[8:], "little"))
        if chunk.startswith(samples):
            if kind == b"RF64":
                field, content, width = *long_size, 8
            known_whole = start + whole == size and kind != b"caff"
            if _unknown(content, width) and not (content == extra and known_whole):
                found = size - begin + extra
                patch = (field, found.to_bytes(width, "big" if layout.size[0] == ">" else "little"))
                return Promise(None, None, begin, patch if found < 2**31 or width == 8 else None)
            end = begin + content - extra
            if kind in (b"caff", b"RF64"):  # without the size of the file
                return Promise(end, _skip_chunks(file, layout, kind, end, size), begin)
            return Promise(end, max(end, start + whole), begin)
        content = max(0, content - extra)  # never back, whatever a damaged size says
        place = begin + content + -content % layout.align
    return Promise(start + whole if head[8:12] == b"AVI " and not _unknown(whole - 8, 4) else None)


def _skip_chunks(file: BinaryIO, layout: _Chunks, kind: bytes, place: int, size: int) -> int:
    """Go on over chunks behind the samples, to the next file or to the end."""
    place += -place % layout.align
    width = struct.calcsize(layout.size)
    while place + layout.name + width <= size:
        file.seek(place)
        chunk = file.read(layout.name + width)
        if kind in (chunk[:4], chunk[1:5]):  # perhaps after a pad byte
            break
        (content,) = struct.unpack(layout.size, chunk[layout.name :])
        place += len(chunk) + content + -content % layout.align
    return place


def _movie(file: BinaryIO, start: int, size: int) -> Promise:
    """MP4, M4A, QuickTime: boxes of a size and a name."""
    place = start
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        box = int.from_bytes(head[:4], "big")
        box = int.from_bytes(head[8:16], "big") if box == 1 else box
        if box < 8:  # 0: to the end of the file
            return Promise()
        if head[4:8] == b"ftyp" and place > start:
            return Promise(place, place)
        place += box
    return Promise(place)


def _au(file: BinaryIO, start: int, size: int) -> Promise:
    file.seek(start)
    head = file.read(12)
    order = ">" if head[:4] == b".snd" else "<"
    begin, samples = struct.unpack(order + "II", head[4:12].ljust(8, b"\0"))
    if _unknown(samples, 4):
        found = size - start - begin
        patch = (start + 8, struct.pack(order + "I", found)) if 0 < found < 2**31 else None
        return Promise(patch=patch)
    end = start + begin + samples
    return Promise(end, end)


def _sphere(file: BinaryIO, start: int, size: int) -> Promise:
    """NIST SPHERE: lines of text; compressed samples have another size."""
    file.seek(start)
    text = file.read(1024).decode("latin-1")
    found = {name: int(value) for name, value in re.findall(r"(?m)^(\w+) -i (\d{1,18})\s*$", text)}
    names = ("sample_count", "channel_count", "sample_n_bytes")
    length = text[8:16].strip()
    if not all(name in found for name in names) or not length.isdigit() or "embedded" in text:
        return Promise()
    end = start + int(length) + found[names[0]] * found[names[1]] * found[names[2]]
    return Promise(end, end)


def _voc(file: BinaryIO, start: int, size: int) -> Promise:
    """Creative Voice: blocks of a type, a size of three bytes, and the content."""
    file.seek(start)
    place, end = start + int.from_bytes(file.read(22)[20:22], "little"), start
    while place + 4 <= size:
        file.seek(place)
        kind, *length = file.read(4)
        if kind == 0:
            break
        content = int.from_bytes(bytes(length), "little")
        if kind in (1, 2, 9) and content <= 12:
            return Promise()  # the size of one that was written to a pipe
        place = end = place + 4 + content
    return Promise(end)


def _matroska(file: BinaryIO, start: int, size: int) -> Promise:
    """Matroska, WebM: a header, and a segment with everything else; sizes are EBML's."""
    place = start
    for wanted in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        file.seek(min(place, size))
        head = file.read(12)
        if head[:4] != wanted or not head[4:5]:
            return Promise()
        count = 9 - head[4].bit_length()  # leading zeros give the number of bytes
        value = int.from_bytes(head[4 : 4 + count], "big") & (1 << 7 * count) - 1
        if value == (1 << 7 * count) - 1:  # written while it was recorded
            return Promise()
        place += 4 + count + value
    return Promise(place, place)


def _asf(file: BinaryIO, start: int, size: int) -> Promise:
    """WMA, WMV: the object of file properties has the size of the file; 0 in a live stream."""
    file.seek(start)
    head = file.read(1 << 16)
    place = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    whole = int.from_bytes(head[place + 40 : place + 48], "little")
    end = start + whole if place > 0 and whole else None
    return Promise(end, end)


def _ogg(file: BinaryIO, start: int, size: int) -> Promise:
    """The last page gives the sizes of its packets."""
    first = max(start, size - 65307 - 27)  # a page has at most 65307 bytes
    file.seek(first)
    tail = file.read(size - first)
    page = tail.rfind(b"OggS")
    if page < 0:
        return Promise()
    lacing = tail[page + 27 : page + 27 + tail[page + 26]] if page + 26 < len(tail) else b""
    complete = page + 26 < len(tail) and len(lacing) == tail[page + 26]
    return Promise(first + page + 27 + len(lacing) + sum(lacing) if complete else size + 27)


_READERS: dict[bytes, Callable[[BinaryIO, int, int], Promise]] = {
    b".snd": _au,
    b"dns.": _au,
    b"NIST": _sphere,
    b"Crea": _voc,
    b"\x1a\x45\xdf\xa3": _matroska,
    b"\x30\x26\xb2\x75": _asf,
    b"OggS": _ogg,
}
