"""Tokens as a row of bits: 13 bits take 13 bits, the most significant one first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from focalcodec.errors import UserError

BLOCK_TOKENS = 8192  # a multiple of 8: blocks of any width begin and end at whole bytes


def packed_bytes(num_tokens: int, bits: int) -> int:
    """Count the bytes that packed tokens take; the last one may be filled in part.

    Parameters
    ----------
    num_tokens : int
        Tokens.
    bits : int
        Bits a token.

    Returns
    -------
    int
        Bytes.

    Example
    -------
    >>> packed_bytes(500, bits=13)
    813
    """
    return (num_tokens * bits + 7) // 8


def pack_block(toks: npt.NDArray[np.int64], bits: int) -> bytes:
    """Pack tokens, most significant bit first; the last byte is filled with zero bits.

    Parameters
    ----------
    toks : ndarray
        (N,) int64 in [0, 2^bits), one block: 32 bytes a token are taken while it is packed.
    bits : int
        Bits a token, 1..32.

    Returns
    -------
    bytes
        `packed_bytes(N, bits)` bytes.

    Example
    -------
    >>> pack_block(np.array([1, 2, 8191]), bits=13).hex(" ")
    '00 08 00 bf fe'
    """
    return np.packbits(toks_to_bits(toks, bits)).tobytes()


def unpack_block(data: bytes, num_tokens: int, bits: int) -> npt.NDArray[np.int64]:
    """Give back what `pack_block` packed.

    Parameters
    ----------
    data : bytes
        `packed_bytes(num_tokens, bits)` bytes.
    num_tokens : int
        Tokens in `data`.
    bits : int
        Bits a token, 1..32.

    Returns
    -------
    ndarray
        (num_tokens,) int64.

    Raises
    ------
    ValueError
        The bits that fill the last byte are not zero.

    Example
    -------
    >>> unpack_block(bytes.fromhex("00 08 00 bf fe"), num_tokens=3, bits=13)
    array([   1,    2, 8191])
    """
    row = np.unpackbits(np.frombuffer(data, np.uint8))
    if row[num_tokens * bits :].any():
        raise ValueError("the bits that fill the last byte are not zero")
    return bits_to_toks(row[: num_tokens * bits].reshape(num_tokens, bits))


def toks_to_bits(toks: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.uint8]:
    """Bits of each token, (N,) int64 -> (N, bits) uint8, the most significant first.

    Example
    -------
    >>> toks_to_bits(np.array([6]), bits=4)
    array([[0, 1, 1, 0]], dtype=uint8)
    """
    octets = toks.astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.unpackbits(octets, axis=1)[:, 32 - bits :]


def bits_to_toks(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Tokens from their bits, (N, bits) uint8, most significant first -> (N,) int64.

    Example
    -------
    >>> bits_to_toks(np.array([[0, 1, 1, 0]], dtype=np.uint8))
    array([6])
    """
    full = np.zeros((len(rows), 32), np.uint8)
    full[:, 32 - rows.shape[1] :] = rows
    return np.packbits(full, axis=1).view(">u4")[:, 0].astype(np.int64)


def bit_blocks(toks: npt.NDArray[np.int64], bits: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Bits of many tokens, (N,) int64 -> (n, bits) uint8, `BLOCK_TOKENS` tokens at a time.

    Example
    -------
    >>> [rows.shape for rows in bit_blocks(np.arange(8193), bits=14)]
    [(8192, 14), (1, 14)]
    """
    for start in range(0, len(toks), BLOCK_TOKENS):
        yield toks_to_bits(toks[start : start + BLOCK_TOKENS], bits)


def toks_array(toks: Tensor, bits: int) -> npt.NDArray[np.int64]:
    """Tokens as an array, once they are found right.

    Parameters
    ----------
    toks : Tensor
        (N,) integer in [0, 2^bits), on any device.
    bits : int
        Bits a token, 1..32.

    Returns
    -------
    ndarray
        (N,) int64.

    Raises
    ------
    UserError
        Not (N,), empty, not integers, or out of range.

    Example
    -------
    >>> toks_array(torch.tensor([1, 8192]), bits=13)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: toks: 1..8192; 13 bits hold 0..8191
    """
    if toks.dim() != 1 or toks.numel() == 0:
        raise UserError(f"toks: shape {tuple(toks.shape)}; give (tokens,), not empty")
    if toks.is_floating_point() or toks.is_complex() or toks.dtype == torch.bool:
        raise UserError(f"toks: {toks.dtype}; give integers, e.g. torch.int64")
    array = toks.detach().cpu().long().numpy()
    smallest, largest = int(array.min()), int(array.max())
    if smallest < 0 or largest >> bits:
        raise UserError(f"toks: {smallest}..{largest}; {bits} bits hold 0..{2**bits - 1}")
    return array
