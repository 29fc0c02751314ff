"""Bytes of a token file as they come, from a disk or a pipe: counted, checked, never too many."""

from __future__ import annotations

from typing import BinaryIO
from zlib import crc32

from focalcodec.errors import UserError

CRC_BYTES = 4
CHUNK_BYTES = 1 << 16


class ByteReader:
    """Reads exactly what is asked for, and keeps the CRC-32 of it.

    Parameters
    ----------
    stream : binary file
        It need not be seekable.
    name : str
        What messages call it.

    Example
    -------
    >>> import io
    >>> reader = ByteReader(io.BytesIO(b"FCT"), "a.fct")
    >>> reader.read(4, "header")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: a.fct: truncated in its header, after 3 bytes; copy it again
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name
        self.num_bytes = 0
        self._crc = 0

    def read(self, count: int, part: str) -> bytes:
        """`count` bytes of the part of this name.

        No more memory is taken than bytes come, whatever `count` a damaged file asks for.

        Raises
        ------
        UserError
            The stream ends before them, can't be read, or is not binary.
        """
        data = bytearray()
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
        """Compare the bytes since the last check with the CRC-32 that follows them.

        Raises
        ------
        UserError
            They differ.
        """
        found = self._crc
        stored = int.from_bytes(self.read(CRC_BYTES, part), "little")
        self._crc = 0
        if stored != found:
            raise UserError(
                f"{self.name}: corrupted, the CRC of its {part} is {found:08x} and should be"
                f" {stored:08x}; copy it again or encode the audio again"
            )

    def check_end(self) -> None:
        """Make sure that nothing follows.

        Raises
        ------
        UserError
            There are bytes left.
        """
        end = self.num_bytes
        if self._read_some(1):
            raise UserError(
                f"{self.name}: bytes behind its end at {end}; give one token file, not several"
                " joined, or copy it again"
            )

    def _read_some(self, count: int) -> bytes:
        chunk: bytes | str | None
        try:
            chunk = self.stream.read(count)
        except OSError as error:
            raise UserError(f"{self.name}: can't be read ({error.strerror}); check it") from error
        except UnicodeDecodeError:
            chunk = ""
        if chunk is None or isinstance(chunk, str):
            raise UserError(
                f"{self.name}: gives {type(chunk).__name__}, not bytes; open it in binary mode"
                " (and blocking)"
            )
        self.num_bytes += len(chunk)
        return chunk
