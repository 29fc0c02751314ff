"""The binary layer of token files: converts tokens to bits, and reads and checks bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_TOKENS = 8192  # a multiple of 8, so blocks of any width begin and end at whole bytes
CRC_BYTES = 4
CHUNK_BYTES = 1 << 16


def toks_array(toks: Tensor, bits: int) -> npt.NDArray[np.int64]:
    """Check tokens (N,), integers in [0, 2^bits) on any device, and return them as (N,) int64.

    Raises
    ------
    UserError
        Not (N,), empty, not integers, or out of range.
    """
    if toks.dim() != 1 or toks.numel() == 0:
        raise UserError(f"toks: shape {tuple(toks.shape)}; give (tokens,), not empty")
    if toks.is_floating_point() or toks.is_complex() or str(toks.dtype) == "torch.bool":
        raise UserError(f"toks: {toks.dtype}; give integers, e.g. torch.int64")
    array = toks.detach().cpu().long().numpy()
    smallest, largest = int(array.min()), int(array.max())
    if smallest < 0 or largest >> bits:
        raise UserError(f"toks: {smallest}..{largest}; {bits} bits hold 0..{2**bits - 1}")
    return array


def packed_bytes(num_tokens: int, bits: int) -> int:
    """Count the bytes of packed tokens; the last byte may be filled only in part."""
    return (num_tokens * bits + 7) // 8


def pack_block(toks: npt.NDArray[np.int64], bits: int) -> bytes:
    """Pack tokens (N,), most significant bit first; zero bits fill the last byte.

    Packing takes 32 bytes of memory per token, so give one block at a time.

    Example
    -------
    >>> pack_block(np.array([1, 2, 8191]), bits=13).hex(" ")
    '00 08 00 bf fe'
    """
    return np.packbits(toks_to_bits(toks, bits)).tobytes()


def unpack_block(data: bytes, num_tokens: int, bits: int) -> npt.NDArray[np.int64]:
    """Undo `pack_block`: (num_tokens,) int64; `ValueError` if the fill bits are not zero."""
    row = np.unpackbits(np.frombuffer(data, np.uint8))  # (8 * bytes,)
    if row[num_tokens * bits :].any():
        raise ValueError("the bits that fill the last byte are not zero")
    return bits_to_toks(row[: num_tokens * bits].reshape(num_tokens, bits))


def toks_to_bits(toks: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.uint8]:
    """Return the bits of tokens, (N,) int64 -> (N, bits) uint8, most significant bit first."""
    octets = toks.astype(">u4").view(np.uint8).reshape(-1, 4)  # big-endian: the top byte first
    return np.unpackbits(octets, axis=1)[:, 32 - bits :]


def bits_to_toks(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Undo `toks_to_bits`, (N, bits) uint8 -> (N,) int64."""
    full = np.zeros((len(rows), 32), np.uint8)
    full[:, 32 - rows.shape[1] :] = rows
    return np.packbits(full, axis=1).view(">u4")[:, 0].astype(np.int64)


def bit_blocks(toks: npt.NDArray[np.int64], bits: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the bits of tokens (N,) as (n, bits) uint8, `BLOCK_TOKENS` tokens at a time."""
    for start in range(0, len(toks), BLOCK_TOKENS):
        yield toks_to_bits(toks[start : start + BLOCK_TOKENS], bits)


class ByteReader:
    """Reads exactly as many bytes as requested from a file or a pipe, and computes their CRC-32.

    `name` is the name of the file in messages.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name
        self.num_bytes = 0
        self._crc = 0

    def read(self, count: int, part: str) -> bytes:
        """Read `count` bytes; `part` names this part of the file in messages."""
        data = bytearray()  # grows with the bytes that arrive: a damaged file may claim any size
        while len(data) < count:
            chunk = self._read_some(min(count - len(data), CHUNK_BYTES))
            if not chunk:
                raise UserError(
                    f"{self.name}: truncated in its {part}, after {self.num_bytes} bytes;"
                    " copy it again"
                )
            data += chunk
        self._crc = crc32(data, self._crc)
        return bytes(data)

    def check_crc(self, part: str) -> None:
        """Compare the bytes since the last check with the stored CRC-32 that follows them."""
        found = self._crc
        stored = int.from_bytes(self.read(CRC_BYTES, part), "little")
        self._crc = 0
        if stored != found:
            raise UserError(
                f"{self.name}: corrupted, the CRC of its {part} is {found:08x} and should be"
                f" {stored:08x}; copy it again or encode the audio again"
            )

    def check_end(self) -> None:
        """Raise `UserError` if the stream has more bytes."""
        end = self.num_bytes
        if self._read_some(1):
            raise UserError(
                f"{self.name}: has bytes after its end at {end}; give one token file, not several"
                " joined, or copy it again"
            )

    def _read_some(self, count: int) -> bytes:
        chunk: bytes | str | None
        try:
            chunk = self.stream.read(count)
        except OSError as error:
            raise UserError(f"{self.name}: can't be read ({error.strerror}); check it") from error
        except UnicodeDecodeError:  # a text file
            chunk = ""
        if chunk is None or isinstance(chunk, str):
            raise UserError(
                f"{self.name}: gives {type(chunk).__name__}, not bytes; open it in binary mode"
                " (and blocking)"
            )
        self.num_bytes += len(chunk)
        return chunk
