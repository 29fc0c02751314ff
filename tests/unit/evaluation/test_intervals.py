"""Intervals have the coverage that they claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.evaluation import intervals
from focalcodec.evaluation.intervals import figure, jackknife, paired_difference

CLIPS = 60


def test_interval_covers_the_true_rate_in_95_percent() -> None:
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


def test_clips_have_weights() -> None:
    assert figure([1.0, 0.0], [1.0, 3.0]).value == 0.25
    with pytest.raises(UserError, match="weight above 0"):
        figure([1.0], [0.0])
    # most draws do not contain the one clip with words: they are ignored
    assert figure([7.0, 0.0, 0.0], [2.0, 0.0, 0.0]).high == 7.0


def test_draws_in_parts_give_nearly_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values, ones = np.random.default_rng(2).normal(size=50), np.ones(50)
    whole = figure(values, ones)
    assert figure(values, ones) == whole != figure(values, ones, seed=1)
    monkeypatch.setattr(intervals, "_DRAWS_AT_ONCE", 1000)
    parts = figure(values, ones)
    assert parts.low == pytest.approx(whole.low, abs=0.05)


def test_pairing_cancels_the_difficulty_of_clips() -> None:
    random = np.random.default_rng(3)
    hard, ones = random.normal(0, 10, CLIPS), np.ones(CLIPS)
    found = paired_difference((hard + 1 + random.normal(0, 0.5, CLIPS), ones), (hard, ones))
    assert 0.5 < found.low < found.high < 1.5


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(2).normal(size=30)
    without = [np.delete(values, k).mean() for k in range(30)]
    low, high = jackknife(values.mean(), without)
    assert high - low == pytest.approx(2 * 1.96 * values.std(ddof=1) / 30**0.5)


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.1, 50.0)), min_size=1, max_size=12))
def test_the_interval_of_a_share_is_within_0_and_100(clips: list[tuple[float, float]]) -> None:
    values, weights = zip(*clips, strict=True)
    made = figure(values, weights, resamples=50)
    assert 0.0 <= made.low <= made.high <= 100.0 and 0.0 <= made.value <= 100.0


def test_speakers_are_drawn_with_all_their_clips() -> None:
    """Speakers differ, their clips are alike: an interval over clips would be far too narrow."""
    random = np.random.default_rng(4)
    speakers = [f"s{number}" for number in range(30) for _ in range(10)]
    covered = {"clips": 0, "speakers": 0}
    for _ in range(300):
        levels = np.repeat(random.normal(0, 1, 30), 10)
        values, ones = levels + random.normal(0, 0.2, 300), np.ones(300)
        for unit, known in (("clips", ()), ("speakers", speakers)):
            found = figure(values, ones, resamples=300, speakers=known)
            covered[unit] += found.low <= 0 <= found.high
            assert found.count == 300 and found.speakers == (30 if known else 0)
    assert covered["clips"] / 300 < 0.6
    assert 0.88 < covered["speakers"] / 300 < 0.99


@pytest.mark.parametrize("speakers", [["a"] * 20, list("abcdefg") * 2, [*"abcdefgh", ""], []])
def test_clips_are_drawn_if_speakers_are_few_or_unknown(speakers: list[str]) -> None:
    count = len(speakers) or 5
    values, ones = list(range(count)), [1.0] * count
    assert figure(values, ones, speakers=speakers) == figure(values, ones)
    both = (values, ones), (values[::-1], ones)
    assert paired_difference(*both, speakers=speakers) == paired_difference(*both)


def test_a_paired_difference_is_over_speakers() -> None:
    """Eight speakers with two clips each: the clips of one cancel, so nothing varies."""
    speakers = [name for name in "abcdefgh" for _ in range(2)]
    first, ones = [1.0, 3.0] * 8, [1.0] * 16
    found = paired_difference((first, ones), ([0.0] * 16, ones), speakers=speakers)
    assert (found.value, found.low, found.high, found.count, found.speakers) == (2, 2, 2, 16, 8)
