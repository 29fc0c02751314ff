"""The body of a token file that has more than tokens: runs with their lengths, and a voice.

It is read and written whole; docs/token_files.md specifies it byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError
from focalcodec.fct.binary import (
    ByteReader,
    pack_block,
    pack_blocks,
    toks_array,
    unpack_blocks,
)

if TYPE_CHECKING:
    from torch import Tensor

LENGTH_BITS = 3  # as in focalcodec.nn.merging, which needs torch
VOICE_BITS = 12  # of a token of the voice
COUNT_BYTES = 4
Toks = npt.NDArray[np.int64]


def voiced_bytes(toks: Tensor, bits: int, voice: Tensor | None, runs: bool) -> Iterable[bytes]:
    """Bytes of a body, without its CRC: toks (N,), a voice (V,) or None; `runs` where they help.

    Raises a `UserError` for tokens that are out of range, or a voice of more than 255.
    """
    from focalcodec.nn.merging import runs_bits, to_runs

    marks = np.zeros(0, np.int64) if voice is None else toks_array(voice, VOICE_BITS)
    if len(marks) > 255:
        raise UserError(f"voice: {len(marks)} tokens; a file holds at most 255")
    runs = runs and runs_bits(toks, bits) < len(toks) * bits
    values, lengths = to_runs(toks.cpu()) if runs else (toks, None)
    array = toks_array(values, bits)
    yield bytes([len(marks), LENGTH_BITS * runs]) + len(array).to_bytes(COUNT_BYTES, "little")
    yield pack_block(marks, VOICE_BITS)
    yield from pack_blocks(array, bits)
    if lengths is not None:
        yield from pack_blocks(lengths.numpy() - 1, LENGTH_BITS)


def read_voiced(reader: ByteReader, num_tokens: int, bits: int) -> tuple[Toks, Toks | None]:
    """Read such a body and its CRC: tokens (N,), as many as the header says, and a voice or None.

    Raises a `UserError` if the file is truncated or corrupted.
    """
    num_voice, length_bits = reader.read(2, "tokens")
    count = int.from_bytes(reader.read(COUNT_BYTES, "tokens"), "little")
    if length_bits not in (0, LENGTH_BITS):
        raise UserError(f"{reader.name}: lengths of {length_bits} bits; update focalcodec")
    try:
        voice = np.concatenate(
            [*unpack_blocks(reader, num_voice, VOICE_BITS), np.zeros(0, np.int64)]
        )
        toks = np.concatenate([*unpack_blocks(reader, count, bits), np.zeros(0, np.int64)])
        lengths = np.ones(len(toks), np.int64)
        if length_bits:
            lengths = np.concatenate([*unpack_blocks(reader, count, length_bits)]) + 1
        reader.check_crc("tokens")
        reader.check_end()
        if lengths.sum() != num_tokens:
            raise ValueError(f"runs of {lengths.sum()} tokens, the header has {num_tokens}")
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{reader.name}: corrupted, {error}; encode the audio again") from error
    return np.repeat(toks, lengths), voice if num_voice else None
