"""Token files, `.fct`: a small header and packed or entropy-coded tokens, readable as a stream.

docs/token_files.md specifies the format byte by byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError
from focalcodec.fct.binary import (
    BLOCK_TOKENS,
    CRC_BYTES,
    ID_BYTES,
    ByteReader,
    TokenTable,
    decode_toks,
    encode_toks,
    pack_blocks,
    packed_bytes,
    toks_array,
    unpack_blocks,
)
from focalcodec.fct.header import (
    REPEAT_BODY,
    STREAM_BODIES,
    TokenHeader,
    check_duration,
    check_model,
    header_bytes,
    header_for,
    read_header,
)
from focalcodec.fct.packets import PacketWriter, read_packets
from focalcodec.fct.voiced import read_voiced, voiced_bytes
from focalcodec.files import atomic_path

__all__ = [
    "PacketWriter",
    "TokenHeader",
    "TokenReader",
    "TokenTable",
    "Tokens",
    "check_model",
    "header_for",
    "read_toks",
    "write_toks",
]


if TYPE_CHECKING:
    from torch import Tensor

Body = Literal["packed", "smallest", "runs"]
# the index is its number in a file
BODIES = ("packed", "own", "table", "packets", "voiced", "repeated packets")
SIZE_BYTES = 4


def write_toks(
    target: str | os.PathLike[str] | BinaryIO,
    toks: Tensor | npt.NDArray[np.int64],
    header: TokenHeader,
    body: Body = "packed",
    table: TokenTable | None = None,
    *,
    voice: Tensor | None = None,
) -> int:
    """Write a token file and return its number of bytes.

    Parameters
    ----------
    target : path or binary file
        A path is written atomically; a file need not be seekable.
    toks : Tensor or array
        (N,) integer in [0, 2^bits).
    header : TokenHeader
    body : {"packed", "smallest", "runs"}
        "packed" stores the bits as they are. "smallest" takes the smallest of packed bits, bits
        coded with the file's own frequencies, and bits coded with `table`; it needs `constriction`.
        "runs" stores equal neighbours once, with a length of 3 bits, where that is smaller.
    table : TokenTable, optional
        Frequencies of a corpus. Reading the file needs the same table.
    voice : Tensor, optional
        (V,) tokens of the vector of the utterance; not with "smallest".

    Raises
    ------
    UserError
        Tokens that are not (N,) integers in range, or too few for the audio's length in the header;
        a table of other bits; `constriction` is not installed.

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
    _check_body(body, table, header.bits, voice)
    array = toks_array(toks, header.bits)
    if body == "smallest":
        number, parts = _smallest(array, header.bits, table)
    elif body == "runs" or voice is not None:
        import torch

        number = BODIES.index("voiced")
        parts = [*voiced_bytes(torch.from_numpy(array), header.bits, voice, body == "runs")]
    else:
        number, parts = BODIES.index("packed"), pack_blocks(array, header.bits)
    head = header_bytes(header, len(array), number)
    if isinstance(target, str | os.PathLike):
        with atomic_path(target) as temporary, open(temporary, "wb") as stream:
            return _write_parts(stream, head, parts)
    return _write_parts(target, head, parts)


def read_toks(
    source: str | os.PathLike[str] | BinaryIO, table: TokenTable | None = None
) -> tuple[TokenHeader, Tensor]:
    """Read a whole token file: its header and its tokens (N,) int64.

    Arguments and errors are those of `TokenReader`.
    """
    tokens = Tokens.load(source, table)
    return tokens.header, tokens.toks


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of a recording and their header, as `FocalCodec.encode_file` makes them.

    `toks` are (N,) int64, on the CPU; `voice` (V,) int64 is the vector of the utterance, of a codec
    that has one. `decode_file` gives the recording back.

    Example
    -------
    >>> import tempfile
    >>> header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 1000)
    >>> tokens = Tokens(torch.tensor([1, 2, 8191]), header)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tokens.save(f"{folder}/a.fct")
    ...     len(Tokens.load(f"{folder}/a.fct"))
    57
    3
    """

    toks: Tensor
    header: TokenHeader
    voice: Tensor | None = None

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.toks)

    def save(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        body: Body = "packed",
        table: TokenTable | None = None,
    ) -> int:
        """Write a token file and return its bytes; arguments are those of `write_toks`."""
        return write_toks(target, self.toks, self.header, body, table, voice=self.voice)

    @classmethod
    def load(
        cls, source: str | os.PathLike[str] | BinaryIO, table: TokenTable | None = None
    ) -> Tokens:
        """Read a whole token file; arguments and errors are those of `TokenReader`."""
        import torch

        with TokenReader(source, table) as reader:
            toks = torch.cat(list(reader))
        voice = None if reader.voice is None else torch.from_numpy(reader.voice)
        return cls(toks, reader.header, voice)


class TokenReader:
    """Reads a token file as a stream: first the header, then the tokens in blocks.

    Packed tokens come before the CRC at the end is checked: discard them if the last step of the
    iteration raises. Entropy-coded tokens are checked first. A file of packets, which was written
    while its tokens arrived, is read to its end first; if its writer was killed, it has the tokens
    and the duration of all whole packets.

    Parameters
    ----------
    source : path or binary file
        One token file and nothing else. A file need not be seekable, and stays open.
    table : TokenTable, optional
        The table with which the file was written, if there was one.

    Raises
    ------
    UserError
        On opening: the file does not exist, is not a token file, has a later version, or a damaged
        header. During the iteration: the file is truncated or corrupted, has bytes after its end,
        needs another table, or needs `constriction`, which is not installed.

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
            stream, self.name = _open_source(source, stack)  # the name is for messages
            self._bytes = ByteReader(stream, self.name)
            self.header, self.num_tokens, number = read_header(self._bytes)
            if number >= len(BODIES):
                raise UserError(
                    f"{self.name}: body {number} is not one of 0..{len(BODIES) - 1};"
                    " update focalcodec"
                )
            self.body = BODIES[number]  # "own": coded with frequencies that the file contains
            self.voice: npt.NDArray[np.int64] | None = None  # vector of the utterance, (V,)
            if number in STREAM_BODIES:
                self._read_packets(number == REPEAT_BODY)
            elif self.body == "voiced":
                self._toks, self.voice = read_voiced(self._bytes, self.num_tokens, self.header.bits)
            self._files = stack.pop_all()

    @property
    def num_bytes(self) -> int:
        """Bytes read so far; the size of the file once all tokens are read."""
        return self._bytes.num_bytes

    @property
    def bits_per_second(self) -> float:
        """Bits per second of the whole file, once all tokens are read."""
        return 8 * self.num_bytes / self.header.seconds

    def __enter__(self) -> TokenReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def __iter__(self) -> Iterator[Tensor]:
        """Yield tokens (n,) int64 in blocks of at most 8192, and check the end."""
        import torch  # takes a second, which `check` does not need

        yield from map(torch.from_numpy, self.arrays())

    def check(self) -> None:
        """Read the file to its end and check its CRC, without importing torch; errors as above."""
        for _ in self.arrays():
            pass

    def arrays(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the blocks as arrays, without importing torch; errors as above."""
        if self._started:
            raise UserError(f"{self.name}: was read already; open it again")
        self._started = True
        try:
            if self.body in ("packets", "voiced", "repeated packets"):
                starts = range(0, self.num_tokens, BLOCK_TOKENS)
                yield from (self._toks[start : start + BLOCK_TOKENS] for start in starts)
                return
            yield from self._packed() if self.body == "packed" else self._coded()
        except UserError:
            raise
        except ValueError as error:  # the CRC is correct, but `write_toks` never writes these bits
            raise UserError(f"{self.name}: corrupted, {error}; encode the audio again") from error

    def _read_packets(self, may_repeat: bool) -> None:
        """Read all tokens; the header gets the duration from the end, or from the tokens."""
        header = self.header
        self._toks, samples = read_packets(self._bytes, header.bits, may_repeat)
        self.num_tokens = len(self._toks)
        if not self.num_tokens:
            raise UserError(f"{self.name}: no tokens, its writer ended early; encode the audio")
        if samples is None:
            encoded = self.num_tokens * header.samples_per_token
            samples = max(1, encoded * header.sample_rate // header.sample_rate_input)
        try:
            self.header = replace(header, num_samples=samples)
            check_duration(self.header, self.num_tokens)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error

    def _packed(self) -> Iterator[npt.NDArray[np.int64]]:
        yield from unpack_blocks(self._bytes, self.num_tokens, self.header.bits)
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
        """Frequencies and words of an entropy-coded body."""
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
                f"{self.name}: written with the table of frequencies {id.hex()}, but {given} is"
                " given; give the table with which it was written"
            )
        return self._table, data[ID_BYTES:]


def _open_source(
    source: str | os.PathLike[str] | BinaryIO, files: ExitStack
) -> tuple[BinaryIO, str]:
    """A binary file and its name; a file that is opened here is closed with `files`."""
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            raise UserError(f"tokens: {type(source).__name__}; give a path or an open binary file")
        name = getattr(source, "name", None)
        return source, name if isinstance(name, str) else "token stream"
    try:
        return files.enter_context(open(source, "rb")), str(source)
    except OSError as error:
        raise UserError(f"{source}: can't be read ({error.strerror}); check the path") from error


def _check_body(body: str, table: TokenTable | None, bits: int, voice: Tensor | None) -> None:
    if body not in ("packed", "smallest", "runs"):
        raise UserError(f"body={body!r}: not one of packed, smallest, runs")
    if body == "smallest" and voice is not None:
        raise UserError("body='smallest': has no place for a voice; take packed or runs")
    if table is not None and (table.bits != bits or body != "smallest"):
        raise UserError(
            f"table: of {table.bits} bits per token, for tokens of {bits} and body={body!r};"
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


def _smallest(
    toks: npt.NDArray[np.int64], bits: int, table: TokenTable | None
) -> tuple[int, Iterable[bytes]]:
    """Number and bytes of the smallest body."""
    own = TokenTable.from_arrays([toks], bits)
    coded = {"own": own.ones + encode_toks(toks, own)}  # the file contains its frequencies
    if table is not None:
        coded["table"] = table.id + encode_toks(toks, table)  # or only names the table
    body, data = min(coded.items(), key=lambda item: len(item[1]))
    if SIZE_BYTES + len(data) >= packed_bytes(len(toks), bits):
        return BODIES.index("packed"), pack_blocks(toks, bits)
    return BODIES.index(body), [len(data).to_bytes(SIZE_BYTES, "little"), data]
