"""Reading token files as they come (docs/token_files.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct.bytes import ByteReader
from focalcodec.fct.entropy import decode_toks
from focalcodec.fct.header import TokenHeader, read_header
from focalcodec.fct.packing import BLOCK_TOKENS, packed_bytes, unpack_block
from focalcodec.fct.table import ID_BYTES, TokenTable
from focalcodec.fct.writer import BODIES, SIZE_BYTES


def read_toks(
    source: str | os.PathLike[str] | BinaryIO, table: TokenTable | None = None
) -> tuple[TokenHeader, Tensor]:
    """Read a token file whole.

    Parameters
    ----------
    source : path or binary file
        A file need not be seekable; it is read to its end.
    table : TokenTable, optional
        The one that the file was written with, where there was one.

    Returns
    -------
    header : TokenHeader
        What the tokens mean.
    toks : Tensor
        (N,) int64.

    Raises
    ------
    UserError
        As `TokenReader`.

    Example
    -------
    >>> import io
    >>> read_toks(io.BytesIO(b"RIFF"))
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: token stream: not a token file, it begins with b'RIF'; give a \
.fct file
    """
    with TokenReader(source, table) as reader:
        return reader.header, torch.cat(list(reader))


class TokenReader:
    """Reads a token file as it comes: the header at once, then tokens in blocks.

    Packed tokens are given before the CRC at the end is seen: what was made of them is to be
    thrown away when the last step raises. Entropy-coded tokens are checked first.

    Parameters
    ----------
    source : path or binary file
        A file need not be seekable. It holds one token file and nothing else; it stays open.
    table : TokenTable, optional
        The one that the file was written with, where there was one.

    Attributes
    ----------
    name : str
        What messages call the file.
    header : TokenHeader
        What the tokens mean.
    num_tokens : int
        Tokens in the file.
    body : str
        "packed", "own" (frequencies of the file) or "table".
    num_bytes : int
        Bytes read so far; of the file, once all tokens are read.

    Raises
    ------
    UserError
        Here: no such file, not a token file, of a later version, a damaged header. From the
        iteration: truncated, corrupted, bytes behind the end, another table, or `constriction`
        is needed and not installed.

    Example
    -------
    >>> import io
    >>> from focalcodec.fct import TokenHeader, write_toks
    >>> header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 1000)
    >>> pipe = io.BytesIO()
    >>> _ = write_toks(pipe, torch.tensor([1, 2, 8191]), header)
    >>> _ = pipe.seek(0)
    >>> with TokenReader(pipe) as reader:
    ...     print(reader.header.token_rate, reader.num_tokens)
    ...     for block in reader:
    ...         print(block)
    50.0 3
    tensor([   1,    2, 8191])
    """

    def __init__(
        self, source: str | os.PathLike[str] | BinaryIO, table: TokenTable | None = None
    ) -> None:
        self._table = table
        self._started = False
        with ExitStack() as stack:
            stream, self.name = _open_source(source, stack)
            self._bytes = ByteReader(stream, self.name)
            self.header, self.num_tokens, number = read_header(self._bytes)
            if number >= len(BODIES):
                raise UserError(
                    f"{self.name}: body {number} is not known, 0..{len(BODIES) - 1} are;"
                    " update focalcodec"
                )
            self.body = BODIES[number]
            self._files = stack.pop_all()

    @property
    def num_bytes(self) -> int:
        """Bytes read so far."""
        return self._bytes.num_bytes

    @property
    def bits_per_second(self) -> float:
        """Bits a second as sent, header and CRC included, once all tokens are read."""
        return 8 * self.num_bytes / self.header.seconds

    def __enter__(self) -> TokenReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def __iter__(self) -> Iterator[Tensor]:
        """Yield tokens in blocks of at most 8192, (N,) int64, and check the end."""
        if self._started:
            raise UserError(f"{self.name}: read already; open it again")
        self._started = True
        try:
            for block in self._packed() if self.body == "packed" else self._coded():
                yield torch.from_numpy(block)
        except UserError:
            raise
        except ValueError as error:  # bits that no writer gives, though the CRC is right
            raise UserError(f"{self.name}: corrupted, {error}; encode the audio again") from error

    def _packed(self) -> Iterator[npt.NDArray[np.int64]]:
        bits = self.header.bits
        for start in range(0, self.num_tokens, BLOCK_TOKENS):
            count = min(BLOCK_TOKENS, self.num_tokens - start)
            data = self._bytes.read(packed_bytes(count, bits), "tokens")
            yield unpack_block(data, count, bits)
        self._bytes.check_crc("tokens")
        self._bytes.check_end()

    def _coded(self) -> Iterator[npt.NDArray[np.int64]]:
        size = int.from_bytes(self._bytes.read(SIZE_BYTES, "tokens"), "little")
        if SIZE_BYTES + size > packed_bytes(self.num_tokens, self.header.bits):
            raise ValueError(f"{size} bytes are more than {self.num_tokens} packed tokens take")
        data = self._bytes.read(size, "tokens")
        self._bytes.check_crc("tokens")
        self._bytes.check_end()
        table, words = self._split(data)
        if len(words) % 4:
            raise ValueError(f"{len(words)} bytes are not whole words of 4")
        yield from decode_toks(words, self.num_tokens, table)

    def _split(self, data: bytes) -> tuple[TokenTable, bytes]:
        """Frequencies of a body, and its words."""
        bits = self.header.bits
        if self.body == "own":
            try:
                return TokenTable(bits, data[: 2 * bits]), data[2 * bits :]
            except UserError as error:
                raise UserError(f"{self.name}: corrupted, {error}") from error
        id = data[:ID_BYTES]
        if self._table is None or self._table.bits != bits or self._table.id != id:
            given = "none" if self._table is None else self._table.id.hex()
            raise UserError(
                f"{self.name}: written with the table of frequencies {id.hex()}, and {given} is"
                " given; give the table that it was written with"
            )
        return self._table, data[ID_BYTES:]


def _open_source(
    source: str | os.PathLike[str] | BinaryIO, files: ExitStack
) -> tuple[BinaryIO, str]:
    """A binary file and its name; what is opened here is closed with `files`."""
    if not isinstance(source, str | os.PathLike):
        name = getattr(source, "name", None)
        return source, name if isinstance(name, str) else "token stream"
    try:
        return files.enter_context(open(source, "rb")), str(source)
    except OSError as error:
        raise UserError(f"{source}: can't be read ({error.strerror}); check the path") from error
