"""A second reader of token files, written from docs/token_files.md in plain Python.

It checks nothing: it returns what the bytes of a valid file mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from focalcodec.fct import TokenHeader, TokenTable

EXAMPLE = TokenHeader(
    model="lucadellalib/focalcodec_50hz",
    weights_sha256="0123456789abcdef",
    bits=13,
    samples_per_token=320,
    sample_rate_input=16000,
    sample_rate_output=16000,
    sample_rate=48000,
    num_samples=2880,
    id="a-1",
)


@dataclass
class Parsed:
    """A token file."""

    header: TokenHeader
    body: int
    toks: list[int]


def number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "little")


def parse(data: bytes, table: TokenTable | None = None) -> Parsed:
    """Read a whole file."""
    model_bytes, id_bytes = data[6], data[7]
    body_offset = 36 + model_bytes + id_bytes + 4
    header = TokenHeader(
        model=data[36 : 36 + model_bytes].decode(),
        weights_sha256=data[8:16].hex(),
        bits=data[5],
        samples_per_token=number(data, 16, 2),
        sample_rate_input=number(data, 18, 3),
        sample_rate_output=number(data, 21, 3),
        sample_rate=number(data, 24, 3),
        num_samples=number(data, 27, 5),
        id=data[36 + model_bytes : 36 + model_bytes + id_bytes].decode(),
    )
    num_toks, body, bits = number(data, 32, 4), data[4], data[5]
    stored = data[body_offset:-4]
    if body == 0:
        return Parsed(header, 0, values(stored, num_toks, bits))
    if body == 4:  # voice, tokens of runs, their lengths: each begins with a whole byte
        num_voice, length_bits, count = stored[0], stored[1], number(stored, 2, 4)
        sizes = [(num_voice * 12 + 7) // 8, (count * bits + 7) // 8]
        toks = values(stored[6 + sizes[0] :], count, bits)
        lengths = [1] * count
        if length_bits:
            lengths = [1 + x for x in values(stored[6 + sum(sizes) :], count, length_bits)]
        return Parsed(header, 4, [t for t, n in zip(toks, lengths, strict=True) for _ in range(n)])
    if body == 1:
        ones, words = stored[4 : 4 + 2 * bits], stored[4 + 2 * bits :]
    else:
        assert table is not None
        ones, words = table.ones, stored[12:]
    return Parsed(header, body, decode(words, num_toks, bits, ones))


def values(data: bytes, count: int, bits: int) -> list[int]:
    """Packed values."""
    row = "".join(f"{octet:08b}" for octet in data)
    return [int(row[i * bits : (i + 1) * bits], 2) for i in range(count)]


def decode(data: bytes, num_toks: int, bits: int, ones: bytes) -> list[int]:
    """Tokens of a range-coded body."""
    words = [number(data, offset, 4) for offset in range(0, len(data), 4)] + [0, 0]
    point, used = words[0] << 32 | words[1], 2
    lower, width, mask = 0, 2**64 - 1, 2**64 - 1
    toks, before = [], 0
    for _ in range(num_toks):
        tok = 0
        for place in range(bits):
            after_one = before >> (bits - 1 - place) & 1
            zeros = ((256 - ones[after_one * bits + place]) * (2**24 - 2) >> 8) + 1
            scale = width >> 24
            bit = int((point - lower & mask) // scale >= zeros)
            lower = lower + scale * zeros * bit & mask
            width = scale * (2**24 - zeros if bit else zeros)
            if width < 2**32:
                word = words[used] if used < len(words) else 0
                lower, width, used = lower << 32 & mask, width << 32, used + 1
                point = (point << 32 | word) & mask
            tok = tok << 1 | bit
        toks.append(tok)
        before = tok
    return toks
