"""Tokens of a stream from a file or through a connection, packet by packet."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct import TokenHeader, TokenReader
from focalcodec.fct.binary import ByteReader, TruncatedError
from focalcodec.fct.header import REPEAT_BODY, STREAM_BODIES, read_header
from focalcodec.fct.packets import read_packet

HOST = "127.0.0.1"
PACKET_SECONDS = 0.08  # so that little is lost with a packet
_TIMEOUT = 10.0  # s, to reach the receiver
_FILE_TOKENS = 4  # of a file at a time


class Received(NamedTuple):
    """Tokens (n,) that arrived, those that are missing before them, and the end's samples."""

    toks: Tensor
    missing: int
    num_samples: int | None


def packet_toks(token_rate: float) -> int:
    """Tokens of a packet of a connection."""
    return max(1, round(PACKET_SECONDS * token_rate))


def read_connection(stream: BinaryIO, name: str) -> tuple[TokenHeader, Iterator[Received]]:
    """Header, and tokens as they arrive."""
    reader = ByteReader(stream, name)
    header, num_tokens, body = read_header(reader)
    if body not in STREAM_BODIES:
        raise UserError(f"{name}: sends a file of {num_tokens} tokens; decode it instead")
    return header, _packets(reader, header.bits, body == REPEAT_BODY)


def _packets(reader: ByteReader, bits: int, may_repeat: bool) -> Iterator[Received]:
    """Tokens of each packet that has new ones."""
    count = 0
    while True:
        try:
            packet = read_packet(reader, bits)
        except TruncatedError:
            return
        except UserError as error:
            if isinstance(error.__cause__, OSError):  # the connection was reset
                return
            raise
        missing = packet.first - count
        if missing < 0 and not may_repeat:
            raise UserError(f"{reader.name}: repeats token {packet.first}; start it again")
        toks = torch.from_numpy(packet.after(count))
        if len(toks) or packet.num_samples is not None:
            yield Received(toks, max(0, missing), packet.num_samples)
            count += max(0, missing) + len(toks)
        if packet.num_samples is not None:
            return


def read_file(path: str) -> tuple[TokenHeader, Iterator[Received]]:
    """The same of a token file, of any kind."""
    reader = TokenReader(path)

    def received() -> Iterator[Received]:
        with reader:
            for block in reader:
                yield from (Received(toks, 0, None) for toks in block.split(_FILE_TOKENS))
        yield Received(torch.zeros(0, dtype=torch.int64), 0, reader.header.num_samples)

    return reader.header, received()


def _address(text: str, option: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"{option} {text}: give HOST:PORT, such as {HOST}:5000")
    return host.strip("[]") or HOST, int(port)


class _Output(io.RawIOBase):
    """Bytes that are sent at once, all of them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, data: Any) -> int:
        self._connection.sendall(data)
        return len(data)


@contextmanager
def connect(address: str, option: str, quiet: bool) -> Iterator[Any]:
    """A connected socket as a file: of the receiver, or of the first sender."""
    host, port = _address(address, option)
    try:
        if option == "--send":
            connection = socket.create_connection((host, port), _TIMEOUT)
        else:
            with socket.create_server((host, port), backlog=1) as server:
                if not quiet:
                    here = ":".join(map(str, server.getsockname()[:2]))
                    print(f"waiting for a sender at {here}", file=sys.stderr, flush=True)
                connection, _ = server.accept()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{option} {address}: no connection ({reason}); check the address"
        ) from error
    with connection:
        connection.settimeout(None)
        with connection.makefile("rb") if option == "--listen" else _Output(connection) as file:
            yield file
