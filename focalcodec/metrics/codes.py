"""Use of a codebook, entropy, and bitrates: what the tokens of a set say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct.binary import toks_array
from focalcodec.fct.entropy import TokenTable, encode_toks


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
    reachable_codes : float
        Codes that as many tokens show if all codes are as likely; see `reachable_codes`.
    usage_reachable : float
        Codes seen of these, %. A little over 100 can happen by chance.
    entropy_reachable : float
        The entropy over that of as many tokens if all codes are as likely, %; see
        `reachable_bits`. 0 for one token.
    """

    num_toks: int
    codebook_size: int
    codes_used: int
    usage_percent: float
    entropy_bits: float
    entropy_seen: float
    entropy_codebook: float
    reachable_codes: float
    usage_reachable: float
    entropy_reachable: float


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
    num_toks = int(seen.sum())
    codes, most = reachable_codes(num_toks, codebook_size), reachable_bits(num_toks, codebook_size)
    return CodeUsage(
        num_toks=num_toks,
        codebook_size=codebook_size,
        codes_used=len(seen),
        usage_percent=100 * len(seen) / codebook_size,
        entropy_bits=bits,
        entropy_seen=_percent(bits, len(seen)),
        entropy_codebook=_percent(bits, codebook_size),
        reachable_codes=codes,
        usage_reachable=100 * len(seen) / codes,
        entropy_reachable=100 * bits / most if most > 0 else 0.0,
    )


def reachable_codes(num_toks: int, codebook_size: int) -> float:
    """Codes that can be expected from so many tokens when all codes are as likely.

    n tokens miss a code of V with the probability (1 - 1/V)^n, so V * (1 - (1 - 1/V)^n) codes
    are seen: 3743 of 8192 in 5000 tokens, 100 seconds at 50 Hz. No codebook can be expected to
    show more, since any other distribution shows fewer.

    Parameters
    ----------
    num_toks : int
        Tokens, n.
    codebook_size : int
        Codes there are, V.

    Returns
    -------
    float
        From 1 to the smaller of both.

    Example
    -------
    >>> reachable_codes(1, 8192), reachable_codes(2, 4), round(reachable_codes(5000, 8192))
    (1.0, 1.75, 3743)
    """
    if codebook_size == 1 or num_toks == 1:
        return 1.0
    return -codebook_size * math.expm1(num_toks * math.log1p(-1 / codebook_size))


def reachable_bits(num_toks: int, codebook_size: int) -> float:
    """Entropy that the histogram of so many tokens can be expected to have at most, bits.

    Of n tokens with all codes of V as likely, a token shares its code with K of the others, K
    being binomial (n - 1, 1/V), and the histogram has log2(n) - E[log2(1 + K)] bits: it can't
    reach log2(V) before n is many times V.

    Parameters
    ----------
    num_toks : int
        Tokens, n.
    codebook_size : int
        Codes there are, V.

    Returns
    -------
    float
        From 0 to the logarithm of the smaller of both.

    Example
    -------
    >>> reachable_bits(1, 8192), reachable_bits(2, 4), round(reachable_bits(5000, 8192), 2)
    (0.0, 0.75, 11.75)
    """
    others, share = num_toks - 1, 1 / codebook_size
    if codebook_size == 1 or not others:
        return 0.0
    mean = others * share
    low, high = (mean + sign * (12 * math.sqrt(mean) + 24) for sign in (-1, 1))
    lost = 0.0
    for k in range(max(0, int(low)), min(others, int(high)) + 1):
        log_chance = (
            math.lgamma(others + 1)
            - math.lgamma(k + 1)
            - math.lgamma(others - k + 1)
            + k * math.log(share)
            + (others - k) * math.log1p(-share)
        )
        lost += math.exp(log_chance) * math.log2(1 + k)
    return math.log2(num_toks) - lost


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
