"""Frequencies of the bits of tokens: of one file, or of a corpus in a file of its own.

Each bit of a token has the frequency of ones at its place, given the bit at the same place of the
token before. That is 2 bytes a bit of a token, small enough to be sent in front of a few seconds
of speech, where frequencies of the 8192 tokens would be larger than the tokens.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct.bytes import ByteReader
from focalcodec.fct.packing import bit_blocks, toks_array
from focalcodec.files import atomic_path

MAGIC = b"FCF"
VERSION = 1
ID_BYTES = 8
TOTAL = 256


@dataclass(frozen=True)
class TokenTable:
    """Frequencies of the bits of tokens, for files that need not carry their own.

    Parameters
    ----------
    bits : int
        Bits a token, 1..32.
    ones : bytes
        2 * bits frequencies of a one, 1..255 of 256: most significant bit first, those after a
        zero before those after a one.

    Raises
    ------
    UserError
        They are not these.

    Example
    -------
    >>> table = TokenTable.from_toks([torch.tensor([5, 5, 5, 2])], bits=3)
    >>> list(table.ones), table.id.hex()
    ([192, 77, 192, 160, 128, 160], 'f06011fbae4f2c94')
    """

    bits: int
    ones: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32 or len(self.ones) != 2 * self.bits or 0 in self.ones:
            raise UserError(
                f"frequencies: {len(self.ones)}, the smallest {min(self.ones, default=0)}, for"
                f" {self.bits} bits a token; give 2 a bit, each in 1..255"
            )

    @property
    def id(self) -> bytes:
        """First 8 bytes of the SHA-256 of bits and frequencies; token files name a table by it."""
        return hashlib.sha256(bytes([self.bits]) + self.ones).digest()[:ID_BYTES]

    @classmethod
    def from_toks(cls, clips: Iterable[Tensor], bits: int) -> TokenTable:
        """Count the tokens of a corpus.

        Parameters
        ----------
        clips : iterable of Tensor
            (N,) integer each, in [0, 2^bits).
        bits : int
            Bits a token, 1..32.

        Returns
        -------
        TokenTable
            One of 1/2 everywhere where there are no clips.

        Raises
        ------
        UserError
            Tokens are not (N,), not integers, or out of range.
        """
        counts = np.zeros((2, 2, bits), np.int64)
        for clip in clips:
            before = np.zeros((1, bits), np.uint8)
            for rows in bit_blocks(toks_array(clip, bits), bits):
                previous = np.concatenate([before, rows[:-1]])
                for index in np.ndindex(2, 2):
                    counts[index] += ((previous == index[0]) & (rows == index[1])).sum(axis=0)
                before = rows[-1:]
        # Half a count is added to either bit, so that none is impossible; in integers, which round
        # alike everywhere.
        both = counts.sum(axis=1) + 1
        ones = ((2 * counts[:, 1] + 1) * TOTAL + both) // (2 * both)
        return cls(bits, ones.clip(1, TOTAL - 1).astype(np.uint8).tobytes())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table, atomically; 39 bytes for 13 bits a token.

        Example
        -------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     TokenTable(1, b"@@").save(f"{folder}/a.fcf")
        ...     TokenTable.load(f"{folder}/a.fcf")
        TokenTable(bits=1, ones=b'@@')
        """
        with atomic_path(path) as temporary:
            data = MAGIC + bytes([VERSION, self.bits]) + self.ones
            temporary.write_bytes(data + self.id)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TokenTable:
        """Read a table that `save` wrote.

        Raises
        ------
        UserError
            No such file, not a table, of a later version, truncated or corrupted.
        """
        try:
            with open(path, "rb") as stream:
                reader = ByteReader(stream, str(path))
                magic, version, bits = reader.read(3, "head"), *reader.read(2, "head")
                if magic != MAGIC:
                    raise UserError(f"{path}: not a table of token frequencies; give a .fcf file")
                if version != VERSION or not 1 <= bits <= 32:
                    raise UserError(
                        f"{path}: version {version}, {bits} bits a token, and version {VERSION}"
                        " with 1..32 can be read; update focalcodec, or make the table again"
                    )
                ones, id = reader.read(2 * bits, "frequencies"), reader.read(ID_BYTES, "hash")
                reader.check_end()
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error
        if 0 in ones or cls(bits, ones).id != id:
            raise UserError(f"{path}: corrupted, its hash differs; make the table again")
        return cls(bits, ones)
