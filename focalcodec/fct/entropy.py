"""Entropy-coded tokens: a range coder that knows how often each bit is one.

Frequencies are multiples of 1/256 and the coder (`constriction`) works on integers, so a file is
the same on all machines (docs/token_files.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError
from focalcodec.fct.packing import BLOCK_TOKENS, bit_blocks, bits_to_toks
from focalcodec.fct.table import TOTAL, TokenTable

# A bit costs at least log2(256 / 255), so no more bits of tokens come out of a word of 32 bits.
MOST_BITS_A_WORD = 6000


def encode_toks(toks: npt.NDArray[np.int64], table: TokenTable) -> bytes:
    """Range-code tokens.

    Parameters
    ----------
    toks : ndarray
        (N,) int64 in [0, 2^bits).
    table : TokenTable
        Frequencies of their bits.

    Returns
    -------
    bytes
        Whole 32-bit words, little-endian.

    Raises
    ------
    UserError
        The package constriction is not installed.

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
        previous = np.concatenate([before, rows[:-1]])
        encoder.encode(rows.astype(np.int32).ravel(), model, frequencies[previous, columns].ravel())
        before = rows[-1:]
    return encoder.get_compressed().astype("<u4").tobytes()


def decode_toks(data: bytes, num_tokens: int, table: TokenTable) -> Iterator[npt.NDArray[np.int64]]:
    """Give back what `encode_toks` coded, in blocks.

    Parameters
    ----------
    data : bytes
        Whole 32-bit words, little-endian.
    num_tokens : int
        Tokens in `data`.
    table : TokenTable
        Frequencies that they were coded with.

    Yields
    ------
    ndarray
        (N,) int64, at most `BLOCK_TOKENS` tokens.

    Raises
    ------
    ValueError
        `data` is nothing that `encode_toks` gives for so many tokens and these frequencies.
    UserError
        The package constriction is not installed.
    """
    if num_tokens * table.bits > len(data) // 4 * MOST_BITS_A_WORD:
        raise ValueError(f"{len(data)} bytes can't hold {num_tokens} tokens")
    coder = _range_coder()
    decoder = coder.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    model = coder.model.Bernoulli(perfect=False)
    frequencies, columns = _frequencies(table), np.arange(table.bits)
    row = np.zeros(table.bits, np.int32)
    for start in range(0, num_tokens, BLOCK_TOKENS):
        rows = np.empty((min(BLOCK_TOKENS, num_tokens - start), table.bits), np.uint8)
        try:
            for index in range(len(rows)):
                row = decoder.decode(model, frequencies[row, columns])
                rows[index] = row
        except AssertionError as error:  # what constriction raises for impossible data
            raise ValueError("the range coder finds impossible data") from error
        yield bits_to_toks(rows)
    if not decoder.maybe_exhausted():
        raise ValueError(f"{len(data)} bytes are more than {num_tokens} tokens need")


def _frequencies(table: TokenTable) -> npt.NDArray[np.float64]:
    """Frequencies of a one, (2, bits): binary fractions, so no machine rounds them."""
    return np.frombuffer(table.ones, np.uint8).reshape(2, table.bits) / TOTAL


def _range_coder() -> ModuleType:
    try:
        import constriction
    except ImportError as error:
        raise UserError(
            "entropy-coded token files need a range coder; pip install constriction"
        ) from error
    return constriction.stream
