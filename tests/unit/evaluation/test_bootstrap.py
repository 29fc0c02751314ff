"""Intervals that hold what they promise, and comparisons that believe in no noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from focalcodec.errors import UserError
from focalcodec.evaluation import bootstrap
from focalcodec.evaluation.bootstrap import figure, paired_difference
from focalcodec.evaluation.compare import compare_cards, comparison_text

CLIPS = 60


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Errors of clips of different length, all at a rate of 10 %."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        words = random.integers(5, 40, CLIPS)
        found = figure(100 * random.binomial(words, 0.1) / words, words, resamples=400)
        covered += found.low <= 10 <= found.high
    assert 0.91 < covered / 400 < 0.98


def test_interval_narrows_with_the_level_and_the_clips() -> None:
    values = np.random.default_rng(1).normal(size=400)
    wide, narrow = figure(values, np.ones(400)), figure(values, np.ones(400), level=0.5)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    few = figure(values[:100], np.ones(100))
    assert few.high - few.low == pytest.approx(2 * (wide.high - wide.low), rel=0.3)
    assert wide.high - wide.low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_weights_count() -> None:
    assert figure([1.0, 0.0], [1.0, 3.0]).value == 0.25
    with pytest.raises(UserError, match="weight above 0"):
        figure([1.0], [0.0])
    # most draws of three clips of which one has words have none of it: they count for nothing
    assert figure([7.0, 0.0, 0.0], [2.0, 0.0, 0.0]).high == 7.0


def test_draws_do_not_hang_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values, ones = np.random.default_rng(2).normal(size=50), np.ones(50)
    whole = figure(values, ones)
    assert figure(values, ones) == whole != figure(values, ones, seed=1)
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 1000)
    parts = figure(values, ones)
    assert parts.low == pytest.approx(whole.low, abs=0.05)


def test_pairing_takes_out_what_clips_share() -> None:
    random = np.random.default_rng(3)
    hard, ones = random.normal(0, 10, CLIPS), np.ones(CLIPS)
    found = paired_difference((hard + 1 + random.normal(0, 0.5, CLIPS), ones), (hard, ones))
    assert 0.5 < found.low < found.high < 1.5


# -- cards -----------------------------------------------------------------------------------------


def card(values: Any, name: str = "ours", version: str = "1", first: int = 0) -> dict[str, Any]:
    column = {"key": "mos", "title": "MOS", "unit": "", "better": "higher", "judge": "ear"}
    clips = [
        {"id": str(i), "sha256": f"{i:064}", "scores": {"mos": [float(v), 1.0]}}
        for i, v in enumerate(values, first)
    ]
    return {
        "task": "resynthesis",
        "set": {"name": "test", "kind": "real", "sha256": f"{first} {len(clips)}"},
        "codec": {"name": name},
        "columns": [column],
        "judges": {"ear": {"version": version}},
        "clips": clips,
        "seed": 0,
        "bootstrap_samples": 500,
    }


def test_planted_difference_is_found_and_noise_is_not_believed() -> None:
    believed, found = 0, 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        clips = random.normal(3, 1, CLIPS)
        noise = random.normal(0, 0.3, (2, CLIPS))
        same = compare_cards(card(clips + noise[0]), card(clips + noise[1]))
        better = compare_cards(card(clips + noise[0] + 0.3), card(clips + noise[1]))
        believed += same.differences[0].verdict == "real"
        found += better.differences[0].verdict == "real"
    assert believed <= 11 and found == 100


def test_text_says_who_is_better() -> None:
    clips = np.random.default_rng(0).normal(3, 1, CLIPS)
    first, second = card(clips + 0.5), card(clips, "theirs")
    second["columns"][0]["better"] = first["columns"][0]["better"] = "lower"
    text = comparison_text(first, second, compare_cards(first, second))
    row = text.splitlines()[-1]
    assert "| real" in row and row.rstrip(" |").endswith("theirs")


def test_other_judges_are_not_compared() -> None:
    with pytest.raises(UserError, match="different versions"):
        compare_cards(card([1, 2, 3]), card([1, 2, 3], version="2"))


def test_only_shared_clips_are_compared_and_it_is_said() -> None:
    found = compare_cards(card([1, 2, 3, 9]), card([2, 3, 4, 5], first=1))
    assert found.notes == ["other clips: only the 3 that both have, of 4 and 4"]
    assert found.differences[0].difference.value == pytest.approx((2 + 3 + 9) / 3 - 3)
    with pytest.raises(UserError, match="0 clips are the same"):
        compare_cards(card([1, 2]), card([1, 2], first=5))


def test_tasks_and_kinds_of_speech_are_not_mixed() -> None:
    other = card([1, 2])
    other["set"]["kind"] = "synthetic"
    with pytest.raises(UserError, match="real and synthetic"):
        compare_cards(card([1, 2]), other)
    other = card([1, 2]) | {"task": "denoising"}
    with pytest.raises(UserError, match="one task"):
        compare_cards(card([1, 2]), other)
