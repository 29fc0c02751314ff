"""Use of a codebook, entropy, and bitrates: what the tokens of a set say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct.entropy import encode_toks
from focalcodec.fct.packing import toks_array
from focalcodec.fct.table import TokenTable


@dataclass(frozen=True)
class CodeUsage:
    """How much of a codebook is used.

    Parameters
    ----------
    num_toks : int
        Tokens counted. Few tokens can't show many codes: compare sets of one size only.
    codebook_size : int
        Codes there are.
    codes_used : int
        Codes seen at least once.
    usage_percent : float
        Codes seen of those there are, %.
    entropy_bits : float
        Of the histogram, bits a token.
    entropy_seen : float
        The same over log2 of the codes seen, %: the papers' normalised entropy. 0 for one code.
    entropy_codebook : float
        The same over log2 of the codebook's size, %.
    """

    num_toks: int
    codebook_size: int
    codes_used: int
    usage_percent: float
    entropy_bits: float
    entropy_seen: float
    entropy_codebook: float


def count_codes(clips: Iterable[Tensor], codebook_size: int) -> tuple[Tensor, Tensor]:
    """Histogram of the tokens of a set.

    Parameters
    ----------
    clips : iterable of Tensor
        (N,) integer each.
    codebook_size : int
        Codes there are, up to 2^32: a histogram of all need not fit.

    Returns
    -------
    codes, counts : Tensor
        (K,) int64: the codes seen, ascending, and how often.

    Raises
    ------
    UserError
        No token, or one outside of the codebook.

    Example
    -------
    >>> count_codes([torch.tensor([3, 1]), torch.tensor([3])], 4)
    (tensor([1, 3]), tensor([1, 2]))
    """
    toks = torch.cat([torch.zeros(0, dtype=torch.int64), *(clip.cpu().long() for clip in clips)])
    if not len(toks):
        raise UserError("toks: none; give at least one clip")
    codes, counts = toks.unique(return_counts=True)
    if codes[0] < 0 or codes[-1] >= codebook_size:
        raise UserError(
            f"toks: {int(codes[0])}..{int(codes[-1])}; a codebook of {codebook_size} has"
            f" 0..{codebook_size - 1}"
        )
    return codes, counts


def code_usage(counts: Tensor, codebook_size: int) -> CodeUsage:
    """Use of a codebook, from the histogram of a set.

    Parameters
    ----------
    counts : Tensor
        (K,) integer, as of `count_codes`; zeros do no harm.
    codebook_size : int
        Codes there are.

    Returns
    -------
    CodeUsage
        All finite.

    Raises
    ------
    UserError
        Nothing was counted, or more codes than there are.

    Example
    -------
    >>> usage = code_usage(torch.tensor([5, 5]), 8)
    >>> usage.usage_percent, usage.entropy_bits, usage.entropy_seen, round(usage.entropy_codebook)
    (25.0, 1.0, 100.0, 33)
    """
    seen = counts[counts > 0].double()
    if not len(seen) or len(seen) > codebook_size:
        raise UserError(f"counts: {len(seen)} codes seen; give 1..{codebook_size}, the codebook's")
    shares = seen / seen.sum()
    bits = max(0.0, float(-(shares * shares.log2()).sum()))
    return CodeUsage(
        num_toks=int(seen.sum()),
        codebook_size=codebook_size,
        codes_used=len(seen),
        usage_percent=100 * len(seen) / codebook_size,
        entropy_bits=bits,
        entropy_seen=_percent(bits, len(seen)),
        entropy_codebook=_percent(bits, codebook_size),
    )


def kbps(bits: float, seconds: float) -> float:
    """Rate of as many bits in as many seconds of audio, kbit/s.

    As sent it is that of num_toks * bits a token, after entropy coding that of `coded_bits`.

    Raises
    ------
    UserError
        No time.

    Example
    -------
    >>> kbps(50 * 13, seconds=1)
    0.65
    """
    if not seconds > 0:
        raise UserError(f"seconds: {seconds}; give a positive number")
    return bits / seconds / 1000


def coded_bits(clips: Sequence[Tensor], bits: int, table: TokenTable | None = None) -> list[int]:
    """Bits that entropy coding of token files really needs, for the body of each clip.

    Parameters
    ----------
    clips : sequence of Tensor
        (N,) integer each.
    bits : int
        Bits a token.
    table : TokenTable, optional
        Of other clips. Default: of these, which flatters them by the 16 * bits of the table.

    Returns
    -------
    list of int
        One a clip, in whole words of 32 bits as in a file.

    Raises
    ------
    UserError
        Tokens out of range; `constriction` is not installed.

    Example
    -------
    >>> coded_bits([torch.zeros(1000, dtype=torch.int64)], bits=13)
    [96]
    """
    table = TokenTable.from_toks(clips, bits) if table is None else table
    return [8 * len(encode_toks(toks_array(clip, bits), table)) for clip in clips]


def _percent(bits: float, codes: int) -> float:
    return 100 * bits / math.log2(codes) if codes > 1 else 0.0
