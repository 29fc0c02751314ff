"""The binary layer of token files: tokens as bits, packed or entropy-coded, and bytes with a check.

For entropy coding, each bit of a token has a frequency of ones, which depends on the bit at the
same position of the token before. These frequencies take 2 bytes per bit, so a file can contain
them even with a few seconds of speech; frequencies of all 8192 tokens would be larger than the
tokens. Frequencies are multiples of 1/256 and the coder (`constriction`) computes with integers, so
a file is the same on all machines (docs/token_files.md).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO
from zlib import crc32

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError
from focalcodec.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_TOKENS = 8192  # a multiple of 8, so blocks of any width begin and end at whole bytes
CRC_BYTES = 4
CHUNK_BYTES = 1 << 16


class TruncatedError(UserError):
    """A token file ends before its end."""


def toks_array(toks: Tensor | npt.NDArray[Any], bits: int) -> npt.NDArray[np.int64]:
    """Check tokens (N,), integers in [0, 2^bits) on any device, and return them as (N,) int64.

    Raises
    ------
    UserError
        Not (N,), empty, not integers, or out of range.
    """
    if toks.ndim != 1 or 0 in toks.shape:
        raise UserError(f"toks: shape {tuple(toks.shape)}; give (tokens,), not empty")
    if not str(toks.dtype).removeprefix("torch.").startswith(("int", "uint")):
        raise UserError(f"toks: {toks.dtype}; give integers, e.g. int64")
    given = toks if isinstance(toks, np.ndarray) else toks.detach().cpu().long().numpy()
    array = given.astype(np.int64)
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


def pack_blocks(toks: npt.NDArray[np.int64], bits: int) -> Iterator[bytes]:
    """Bytes of any number of tokens (N,), block by block."""
    for start in range(0, len(toks), BLOCK_TOKENS):
        yield pack_block(toks[start : start + BLOCK_TOKENS], bits)


def unpack_blocks(
    reader: ByteReader, num_tokens: int, bits: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Read what `pack_blocks` wrote: tokens in blocks; errors as in `unpack_block`."""
    for start in range(0, num_tokens, BLOCK_TOKENS):
        count = min(BLOCK_TOKENS, num_tokens - start)
        yield unpack_block(reader.read(packed_bytes(count, bits), "tokens"), count, bits)


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
                raise TruncatedError(
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


# -- entropy coding --------------------------------------------------------------------------------


if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"FCF"
VERSION = 1
ID_BYTES = 8
TOTAL = 256
# A bit costs at least log2(256 / 255) bits, so a word of 32 bits holds fewer bits than this.
MAX_BITS_PER_WORD = 6000


@dataclass(frozen=True)
class TokenTable:
    """Frequencies of the bits of tokens, of one file or of a whole corpus.

    `ones` are the 2 * bits frequencies of a one, each 1..255 of 256: for each bit, the most
    significant first, its frequency after a zero; then for each bit that after a one. Another
    number of frequencies, or a frequency of 0, is a `UserError`.

    Example
    -------
    >>> table = TokenTable.from_toks([torch.tensor([5, 5, 5, 2])], bits=3)
    >>> list(table.ones), table.id.hex()
    ([192, 77, 192, 160, 128, 160], 'f06011fbae4f2c94')
    """

    bits: int  # per token, 1..32
    ones: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32 or len(self.ones) != 2 * self.bits or 0 in self.ones:
            raise UserError(
                f"frequencies: {len(self.ones)}, the smallest {min(self.ones, default=0)}, for"
                f" {self.bits} bits per token; give 2 per bit, each in 1..255"
            )

    @property
    def id(self) -> bytes:
        """First 8 bytes of the SHA-256 of bits and frequencies; token files name a table by it."""
        return hashlib.sha256(bytes([self.bits]) + self.ones).digest()[:ID_BYTES]

    @classmethod
    def from_toks(cls, clips: Iterable[Tensor], bits: int) -> TokenTable:
        """Count the bits of a corpus, tokens (N,) per clip; without clips every frequency is 1/2.

        Tokens that are not integers in [0, 2^bits) are a `UserError`.
        """
        return cls.from_arrays((toks_array(clip, bits) for clip in clips), bits)

    @classmethod
    def from_arrays(cls, clips: Iterable[npt.NDArray[np.int64]], bits: int) -> TokenTable:
        """Count as `from_toks` does, tokens that were checked."""
        counts = np.zeros((2, 2, bits), np.int64)  # bit before, bit, position
        for clip in clips:
            before = np.zeros((1, bits), np.uint8)  # zeros stand before the first token
            for rows in bit_blocks(clip, bits):
                previous = np.concatenate([before, rows[:-1]])
                for index in np.ndindex(2, 2):
                    counts[index] += ((previous == index[0]) & (rows == index[1])).sum(axis=0)
                before = rows[-1:]
        # Half a count is added to zeros and ones, so that no bit is impossible. Integers are
        # rounded in the same way on all machines.
        both = counts.sum(axis=1) + 1
        ones = ((2 * counts[:, 1] + 1) * TOTAL + both) // (2 * both)
        return cls(bits, ones.clip(1, TOTAL - 1).astype(np.uint8).tobytes())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table atomically, by convention as `.fcf`; 39 bytes for 13 bits per token."""
        with atomic_path(path) as temporary:
            data = MAGIC + bytes([VERSION, self.bits]) + self.ones
            temporary.write_bytes(data + self.id)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TokenTable:
        """Read a table that `save` wrote; `UserError` if that fails."""
        try:
            with open(path, "rb") as stream:
                reader = ByteReader(stream, str(path))
                magic, version, bits = reader.read(3, "head"), *reader.read(2, "head")
                if magic != MAGIC:
                    raise UserError(f"{path}: not a table of token frequencies; give a .fcf file")
                if version != VERSION or not 1 <= bits <= 32:
                    raise UserError(
                        f"{path}: version {version}, {bits} bits per token, but only version"
                        f" {VERSION} with 1..32 can be read; update focalcodec, or make the table"
                        " again"
                    )
                ones, id = reader.read(2 * bits, "frequencies"), reader.read(ID_BYTES, "hash")
                reader.check_end()
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error
        if 0 in ones or cls(bits, ones).id != id:
            raise UserError(f"{path}: corrupted, its hash differs; make the table again")
        return cls(bits, ones)


def encode_toks(toks: npt.NDArray[np.int64], table: TokenTable) -> bytes:
    """Code tokens (N,) with a range coder; returns whole 32-bit words, little-endian.

    Example
    -------
    >>> table = TokenTable(2, bytes([250, 6, 250, 6]))
    >>> data = encode_toks(np.array([2] * 100), table)
    >>> len(data), [int(block.sum()) for block in decode_toks(data, 100, table)]
    (4, [200])
    """
    coder = _range_coder()
    encoder, model = coder.queue.RangeEncoder(), coder.model.Bernoulli(perfect=False)
    frequencies, columns = _frequencies(table), np.arange(table.bits)
    before = np.zeros((1, table.bits), np.uint8)
    for rows in bit_blocks(toks, table.bits):
        previous = np.concatenate([before, rows[:-1]])  # (n, bits), bits of the token before
        # each bit is coded with the frequency of its position and of the bit before
        encoder.encode(rows.astype(np.int32).ravel(), model, frequencies[previous, columns].ravel())
        before = rows[-1:]
    return encoder.get_compressed().astype("<u4").tobytes()


def decode_toks(data: bytes, num_tokens: int, table: TokenTable) -> Iterator[npt.NDArray[np.int64]]:
    """Undo `encode_toks`: yield tokens (n,) int64, at most `BLOCK_TOKENS` at a time.

    `ValueError`: `encode_toks` can't have written `data` for that many tokens and this table.
    """
    if num_tokens * table.bits > len(data) // 4 * MAX_BITS_PER_WORD:
        raise ValueError(f"{len(data)} bytes can't hold {num_tokens} tokens")
    coder = _range_coder()
    decoder = coder.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    model = coder.model.Bernoulli(perfect=False)
    frequencies, columns = _frequencies(table), np.arange(table.bits)
    row = np.zeros(table.bits, np.int32)  # bits of the token before
    for start in range(0, num_tokens, BLOCK_TOKENS):
        rows = np.empty((min(BLOCK_TOKENS, num_tokens - start), table.bits), np.uint8)
        try:
            # token by token, because each token selects the frequencies of the next one
            for index in range(len(rows)):
                row = decoder.decode(model, frequencies[row, columns])
                rows[index] = row
        except AssertionError as error:  # how constriction reports impossible data
            raise ValueError("the range coder finds impossible data") from error
        yield bits_to_toks(rows)
    if not decoder.maybe_exhausted():
        raise ValueError(f"{len(data)} bytes are more than {num_tokens} tokens need")


def _frequencies(table: TokenTable) -> npt.NDArray[np.float64]:
    """Frequencies of a one, (2, bits): binary fractions, which no machine rounds."""
    return np.frombuffer(table.ones, np.uint8).reshape(2, table.bits) / TOTAL


def _range_coder() -> ModuleType:
    try:
        import constriction
    except ImportError as error:
        raise UserError(
            "entropy-coded token files need a range coder; pip install constriction"
        ) from error
    return constriction.stream
