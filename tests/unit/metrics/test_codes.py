"""Code usage, entropies and rates."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.fct.binary import TokenTable
from focalcodec.metrics.codes import (
    code_usage,
    coded_bits,
    count_codes,
    kbps,
    reachable_bits,
    reachable_codes,
)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=60), st.integers(1, 59))
def test_usage_follows_from_its_definition(toks, cut) -> None:
    clips = [torch.tensor(part, dtype=torch.int64) for part in (toks[:cut], toks[cut:])]
    codes, counts = count_codes(clips, 16)
    assert codes.tolist() == sorted(set(toks))
    usage = code_usage(counts, 16)
    shares = [toks.count(code) / len(toks) for code in set(toks)]
    bits = -sum(share * math.log2(share) for share in shares)
    assert usage.num_toks == len(toks) and usage.codes_used == len(shares)
    assert usage.usage_percent == 100 * len(shares) / 16
    assert usage.entropy_bits == pytest.approx(bits, abs=1e-9)
    assert usage.entropy_codebook == pytest.approx(100 * bits / 4, abs=1e-6)
    seen = 100 * bits / math.log2(len(shares)) if len(shares) > 1 else 0
    assert usage.entropy_seen == pytest.approx(seen, abs=1e-6)


def test_a_uniform_codebook_is_used_fully_and_a_lone_code_has_no_entropy() -> None:
    full = code_usage(torch.ones(8192, dtype=torch.int64), 8192)
    assert (full.usage_percent, full.entropy_bits) == (100, 13)
    assert full.entropy_seen == full.entropy_codebook == 100
    lone = code_usage(torch.tensor([7]), 8192)
    assert (lone.entropy_bits, lone.entropy_seen, lone.entropy_codebook) == (0, 0, 0)


def test_a_codebook_of_32_bits_needs_no_histogram_of_its_size() -> None:
    codes, counts = count_codes([torch.tensor([2**32 - 1, 0, 0])], 2**32)
    assert codes.tolist() == [0, 2**32 - 1] and counts.tolist() == [2, 1]


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(UserError, match="toks: none"):
        count_codes([], 16)
    for tok in (-1, 16):
        with pytest.raises(UserError, match=r"a codebook of 16 has 0\.\.15"):
            count_codes([torch.tensor([tok])], 16)
    with pytest.raises(UserError, match="0 codes seen"):
        code_usage(torch.zeros(4), 16)
    with pytest.raises(UserError, match="17 codes seen"):
        code_usage(torch.ones(17), 16)
    with pytest.raises(UserError, match="seconds: 0"):
        kbps(13, 0)


def test_rates() -> None:
    assert kbps(50 * 13 * 2, seconds=2) == pytest.approx(0.65)


def test_entropy_coding_helps_repeated_tokens_and_hardly_harms_others() -> None:
    pytest.importorskip("constriction", reason="pip install constriction")
    generator = torch.Generator().manual_seed(0)
    even = torch.randint(8192, (4000,), generator=generator)
    few = torch.randint(2, (4000,), generator=generator)  # 1 bit of entropy, 13 as sent
    sent = 4000 * 13
    (even_bits,), (few_bits,) = coded_bits([even], 13), coded_bits([few], 13)
    assert 0.99 * sent < even_bits < 1.01 * sent
    assert 4000 < few_bits < 1.3 * 4000
    # frequencies of other clips cost more
    assert coded_bits([even], 13, TokenTable.from_toks([few], 13))[0] > sent


@pytest.mark.parametrize(("num_toks", "size"), [(3, 2), (40, 16), (700, 16)])
def test_reachable_codes_are_those_of_a_uniform_codebook(num_toks: int, size: int) -> None:
    drawn = torch.randint(size, (4000, num_toks), generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(4000, size).scatter_add_(1, drawn, torch.ones(4000, num_toks))
    codes = (counts > 0).sum(1).double().mean()
    shares = counts.double() / num_toks
    bits = -torch.special.xlogy(shares, shares).sum(1).mean() / math.log(2)
    assert reachable_codes(num_toks, size) == pytest.approx(float(codes), rel=0.01)
    assert reachable_bits(num_toks, size) == pytest.approx(float(bits), rel=0.01)


def test_reachable_codes_of_one_and_of_many_tokens() -> None:
    assert (reachable_codes(1, 8192), reachable_bits(1, 8192)) == (1, 0)
    assert (reachable_codes(9, 1), reachable_bits(9, 1)) == (1, 0)
    assert reachable_codes(2, 2**32) == pytest.approx(2)
    assert reachable_bits(1000, 2**32) == pytest.approx(math.log2(1000), abs=1e-4)
    assert reachable_bits(10**7, 8192) == pytest.approx(13, abs=1e-3)
    usage = code_usage(torch.ones(8192, dtype=torch.int64), 8192)
    assert usage.usage_reachable == pytest.approx(100 / (1 - math.exp(-1)), rel=1e-3)
    assert code_usage(torch.tensor([1]), 8192).entropy_reachable == 0
