"""Token files and connections whose length is not known yet: packets after the header.

The same bytes are a file that is written while its tokens arrive, valid at every moment, and what
`focalcodec stream` sends through a connection (docs/token_files.md). A packet may begin with the
tokens of those before it, so that a receiver without these packets lacks nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError
from focalcodec.fct.binary import (
    CRC_BYTES,
    ByteReader,
    TruncatedError,
    pack_block,
    packed_bytes,
    toks_array,
    unpack_block,
)
from focalcodec.fct.header import (
    NUMBERS,
    REPEAT_BODY,
    STREAM_BODY,
    TOKENS_BYTES,
    TokenHeader,
    header_bytes,
)

if TYPE_CHECKING:
    from torch import Tensor

COUNT_BYTES = 2
SAMPLES_BYTES = dict(NUMBERS)["num_samples"]
MOST = 256**COUNT_BYTES - 1  # tokens in a packet
MOST_REPEATS = 8


class Packet(NamedTuple):
    """Tokens, or the end of a stream, which gives the number of samples of the audio."""

    first: int  # number of tokens before it
    toks: npt.NDArray[np.int64]  # (n,), none at the end
    num_samples: int | None = None  # at `header.sample_rate`; None: not the end

    def after(self, count: int) -> npt.NDArray[np.int64]:
        """Tokens of this packet without the first `count` ones of the stream."""
        return self.toks[max(0, count - self.first) :]


class PacketWriter:
    """Writes tokens as they arrive, to a file or a connection, each packet at once.

    `num_samples` of the header is not used: `finish` gives it. Without `finish`, such as after a
    kill, readers give the tokens of all whole packets.

    Parameters
    ----------
    stream : binary file
        It need not be seekable.
    header : TokenHeader
    repeat : int
        Each packet has the tokens of so many packets before it again: where packets may be lost.

    Example
    -------
    >>> import io
    >>> import torch
    >>> from focalcodec.fct import read_toks
    >>> header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 1)
    >>> file = io.BytesIO()
    >>> writer = PacketWriter(file, header)
    >>> writer.write(torch.tensor([1, 2]))
    >>> writer.write(torch.tensor([8191]))
    >>> writer.finish(num_samples=900)
    >>> _ = file.seek(0)
    >>> header, toks = read_toks(file)
    >>> toks, header.num_samples
    (tensor([   1,    2, 8191]), 900)
    """

    def __init__(self, stream: BinaryIO, header: TokenHeader, repeat: int = 0) -> None:
        if not isinstance(repeat, int) or not 0 <= repeat <= MOST_REPEATS:
            raise UserError(f"repeat: {repeat!r}; give a number of packets, 0..{MOST_REPEATS}")
        self._stream, self._bits = stream, header.bits
        self.num_tokens, self.num_bytes = 0, 0
        self._before: deque[npt.NDArray[np.int64]] = deque(maxlen=repeat)
        self._most = MOST // (1 + repeat)  # new tokens in a packet
        self._send(header_bytes(header, 0, REPEAT_BODY if repeat else STREAM_BODY))

    def write(self, toks: Tensor, most: int | None = None) -> None:
        """Write toks (N,) integer in [0, 2^bits), N may be 0; a `UserError` if they are not.

        They become one packet, or several of at most `most` new tokens.
        """
        for block in toks.split(min(most or self._most, self._most)):
            if len(block):
                array = toks_array(block, self._bits)
                again = np.concatenate([*self._before, array])
                first = self.num_tokens + len(array) - len(again)
                self._packet(first, len(again), pack_block(again, self._bits))
                self._before.append(array)
                self.num_tokens += len(array)

    def finish(self, num_samples: int) -> None:
        """Write the end: the number of samples of the audio, at the header's `sample_rate`."""
        self._packet(self.num_tokens, 0, num_samples.to_bytes(SAMPLES_BYTES, "little"))

    def _packet(self, first: int, count: int, body: bytes) -> None:
        data = first.to_bytes(TOKENS_BYTES, "little")
        data += count.to_bytes(COUNT_BYTES, "little") + body
        self._send(data + crc32(data).to_bytes(CRC_BYTES, "little"))

    def _send(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()
        self.num_bytes += len(data)


def read_packet(reader: ByteReader, bits: int) -> Packet:
    """Read the next packet; a `TruncatedError` if the stream ends before its end.

    A damaged packet is a `UserError`.
    """
    first = int.from_bytes(reader.read(TOKENS_BYTES, "packet"), "little")
    count = int.from_bytes(reader.read(COUNT_BYTES, "packet"), "little")
    size = packed_bytes(count, bits) if count else SAMPLES_BYTES
    body = reader.read(size, "packet")
    reader.check_crc("packet")
    if not count:
        return Packet(first, np.zeros(0, np.int64), int.from_bytes(body, "little"))
    try:
        return Packet(first, unpack_block(body, count, bits))
    except ValueError as error:
        raise UserError(f"{reader.name}: corrupted, {error}; encode the audio again") from error


def read_packets(
    reader: ByteReader, bits: int, may_repeat: bool
) -> tuple[npt.NDArray[np.int64], int | None]:
    """Read all packets of a file: toks (N,) int64 and the number of samples, None without an end.

    Raises a `UserError` if tokens are missing between packets, or bytes follow the end, or tokens
    are there again but not `may_repeat`.
    """
    parts, count = [np.zeros(0, np.int64)], 0
    while True:
        try:
            packet = read_packet(reader, bits)
        except TruncatedError:  # its writer was killed
            return np.concatenate(parts), None
        if packet.first > count or (packet.first < count and not may_repeat):
            raise UserError(
                f"{reader.name}: a packet begins at token {packet.first}, but {count} were read;"
                " encode the audio again"
            )
        if packet.num_samples is not None:
            reader.check_end()
            return np.concatenate(parts), packet.num_samples
        parts.append(packet.after(count))
        count += len(parts[-1])
