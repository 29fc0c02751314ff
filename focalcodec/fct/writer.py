"""Writing token files (docs/token_files.md)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct.bytes import CRC_BYTES
from focalcodec.fct.entropy import encode_toks
from focalcodec.fct.header import TokenHeader, header_bytes
from focalcodec.fct.packing import BLOCK_TOKENS, pack_block, packed_bytes, toks_array
from focalcodec.fct.table import TokenTable
from focalcodec.files import atomic_path

Body = Literal["packed", "smallest"]
BODIES = ("packed", "own", "table")  # the place of each is its number in a file
SIZE_BYTES = 4


def write_toks(
    target: str | os.PathLike[str] | BinaryIO,
    toks: Tensor,
    header: TokenHeader,
    body: Body = "packed",
    table: TokenTable | None = None,
) -> int:
    """Write a token file.

    Parameters
    ----------
    target : path or binary file
        A path is never left half-written; a file need not be seekable.
    toks : Tensor
        (N,) integer in [0, 2^bits).
    header : TokenHeader
        What they mean.
    body : {"packed", "smallest"}
        Packed bits; or the smallest of these, of bits coded by the file's own frequencies, and of
        bits coded by `table`, which needs the package `constriction`.
    table : TokenTable, optional
        Frequencies of a corpus. Who reads the file needs the same table.

    Returns
    -------
    int
        Bytes written.

    Raises
    ------
    UserError
        Tokens are not (N,), not integers, out of range, or too few for the audio that the header
        promises; the table has other bits; `constriction` is not installed.

    Example
    -------
    >>> import tempfile
    >>> from focalcodec.fct import read_toks
    >>> header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 1000)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_toks(f"{folder}/a.fct", torch.tensor([1, 2, 8191]), header)
    ...     read_toks(f"{folder}/a.fct")[1]
    57
    tensor([   1,    2, 8191])
    """
    if body not in ("packed", "smallest"):
        raise UserError(f"body={body!r}: not one of packed, smallest")
    _check_table(table, header.bits, body)
    array = toks_array(toks, header.bits)
    number = BODIES.index("packed")
    parts: Iterable[bytes] = _packed(array, header.bits)
    if body == "smallest":
        number, parts = _smallest(array, header.bits, table)
    head = header_bytes(header, len(array), number)
    if isinstance(target, str | os.PathLike):
        with atomic_path(target) as temporary, open(temporary, "wb") as stream:
            return _write_parts(stream, head, parts)
    return _write_parts(target, head, parts)


def _check_table(table: TokenTable | None, bits: int, body: Body) -> None:
    if table is not None and (table.bits != bits or body == "packed"):
        raise UserError(
            f"table: of {table.bits} bits a token, for tokens of {bits} and body={body!r};"
            " give a table of the same model and body='smallest'"
        )


def _write_parts(stream: BinaryIO, head: bytes, parts: Iterable[bytes]) -> int:
    stream.write(head)
    size, crc = len(head), 0
    for part in parts:
        stream.write(part)
        size, crc = size + len(part), crc32(part, crc)
    stream.write(crc.to_bytes(CRC_BYTES, "little"))
    return size + CRC_BYTES


def _packed(toks: npt.NDArray[np.int64], bits: int) -> Iterator[bytes]:
    for start in range(0, len(toks), BLOCK_TOKENS):
        yield pack_block(toks[start : start + BLOCK_TOKENS], bits)


def _smallest(
    toks: npt.NDArray[np.int64], bits: int, table: TokenTable | None
) -> tuple[int, Iterable[bytes]]:
    """Number and bytes of the smallest body."""
    own = TokenTable.from_toks([torch.from_numpy(toks)], bits)
    coded = {"own": own.ones + encode_toks(toks, own)}
    if table is not None:
        coded["table"] = table.id + encode_toks(toks, table)
    body, data = min(coded.items(), key=lambda item: len(item[1]))
    if SIZE_BYTES + len(data) >= packed_bytes(len(toks), bits):
        return BODIES.index("packed"), _packed(toks, bits)
    return BODIES.index(body), [len(data).to_bytes(SIZE_BYTES, "little"), data]
