"""How a set of clips uses the codebook."""

from __future__ import annotations

import math

import pytest
import torch

from focalcodec.training.code_usage import CodeUsage, code_statistics


def test_code_statistics() -> None:
    assert code_statistics(torch.tensor([8, 0, 0, 0])) == {
        "code_usage": 25.0,
        "normalized_entropy": 0.0,
        "toks": 8.0,
    }
    even = code_statistics(torch.ones(1024, dtype=torch.int64))
    assert even["code_usage"] == 100.0 and even["normalized_entropy"] == pytest.approx(100.0)
    skewed = code_statistics(torch.tensor([3, 1]))
    assert skewed["normalized_entropy"] == pytest.approx(81.1278, abs=1e-3)


def test_entropy_is_of_all_batches_by_the_tokens_that_they_have() -> None:
    usage = CodeUsage(2)
    usage.add(torch.tensor([3, 0]), torch.tensor([1.0, 0.0]), toks_seen=3)
    assert usage.entropy() == pytest.approx(0.0, abs=1e-9)
    usage.add(torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), toks_seen=1)
    assert usage.entropy() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert usage.counts.tolist() == [3, 1] and usage.statistics()["toks"] == 4.0
