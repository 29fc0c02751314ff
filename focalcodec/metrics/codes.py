"""Use of a codebook, entropy and bitrates, computed from the tokens of a set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.fct.binary import TokenTable, encode_toks, toks_array


@dataclass(frozen=True)
class CodebookUsage:
    """Use of a codebook; fields are in %, except counts and bits."""

    # Few tokens can't use many codes, so compare only sets of the same size.
    num_toks: int
    codebook_size: int
    codes_used: int  # used at least once
    usage_percent: float  # codes used over the codebook's size
    entropy_bits: float  # of the histogram, bits per token
    entropy_seen: float  # over log2 of the codes used: the papers' normalised entropy; 0 for one
    entropy_codebook: float  # over log2 of the codebook's size
    # Compared with the same number of tokens, if all codes were equally likely:
    reachable_codes: float  # codes that these would use; see `reachable_codes`
    usage_reachable: float  # codes used over that; by chance it can be a little above 100
    entropy_reachable: float  # entropy over theirs; see `reachable_bits`; 0 for one token


def count_codes(clips: Iterable[Tensor], codebook_size: int) -> tuple[Tensor, Tensor]:
    """Histogram of the tokens of a set, (N,) integer per clip: codes seen, ascending, and counts.

    Both are (K,) int64. Codes that were not seen are left out, because a codebook can have up to
    2^32. Raises `UserError` for no token, or a token outside of the codebook.

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


def code_usage(counts: Tensor, codebook_size: int) -> CodebookUsage:
    """Use of a codebook, from the histogram (K,) of a set by `count_codes`.

    Raises `UserError` for no counts, or more codes than the codebook has.

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
    return CodebookUsage(
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
    """Expected number of codes in so many tokens if all codes are equally likely.

    n tokens miss a code of V with the probability (1 - 1/V)^n, so V * (1 - (1 - 1/V)^n) codes
    are used: 3743 of 8192 in 5000 tokens, 100 seconds at 50 Hz. On average no codebook uses more,
    because any other distribution uses fewer.
    """
    if codebook_size == 1 or num_toks == 1:
        return 1.0
    return -codebook_size * math.expm1(num_toks * math.log1p(-1 / codebook_size))


def reachable_bits(num_toks: int, codebook_size: int) -> float:
    """Highest expected entropy of the histogram of so many tokens, in bits.

    If all V codes are equally likely, one of n tokens has the same code as K others, and K is
    binomial (n - 1, 1/V). The histogram then has log2(n) - E[log2(1 + K)] bits, which is near
    log2(V) only if n is many times V. With 5000 tokens and 8192 codes it is 11.75.
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
    """Bitrate of so many bits in so many seconds of audio, kbit/s: 0.65 for 50 * 13 bits in 1 s.

    Bits are num_toks * bits per token as sent, or the sum of `coded_bits` after entropy coding.
    Raises `UserError` unless the duration is positive.
    """
    if not seconds > 0:
        raise UserError(f"seconds: {seconds}; give a positive number")
    return bits / seconds / 1000


def coded_bits(clips: Sequence[Tensor], bits: int, table: TokenTable | None = None) -> list[int]:
    """Bits of each clip's body in a token file with entropy coding, in whole words of 32 bits.

    Clips are (N,) integer, `bits` are per token. The table should come from other clips. By default
    it is made from these clips, and then its 16 * bits are not counted. Raises `UserError` for
    tokens out of range, and if `constriction` is not installed.

    Example
    -------
    >>> coded_bits([torch.zeros(1000, dtype=torch.int64)], bits=13)
    [96]
    """
    table = TokenTable.from_toks(clips, bits) if table is None else table
    return [8 * len(encode_toks(toks_array(clip, bits), table)) for clip in clips]


def _percent(bits: float, codes: int) -> float:
    return 100 * bits / math.log2(codes) if codes > 1 else 0.0
