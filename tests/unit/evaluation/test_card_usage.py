"""Code usage in cards, and its intervals."""

from __future__ import annotations

import numpy as np

from focalcodec.evaluation.card import WITH_INTERVALS, usage_figure, usage_of
from focalcodec.metrics.codes import CodebookUsage

CODER = {"codebook_size": 64}


def records(random: np.random.Generator, clips: int) -> dict[str, dict[str, list[int]]]:
    """Clips of 20 tokens; half of the codes are four times as likely as the others."""
    chances = np.repeat([4.0, 1.0], 32) / 160
    return {str(k): {"toks": random.choice(64, 20, p=chances).tolist()} for k in range(clips)}


def test_intervals_cover_the_mean_of_such_sets() -> None:
    random = np.random.default_rng(0)
    found = [usage_of(records(random, 6), CODER) for _ in range(200)]
    for name in ("usage_reachable", "entropy_reachable"):
        mean = np.mean([usage[name] for usage in found])
        covered = [
            usage["intervals"][name][0] <= mean <= usage["intervals"][name][1] for usage in found
        ]
        assert 0.8 < np.mean(covered) <= 1


def test_usage_does_not_depend_on_clips_without_tokens_or_on_their_number() -> None:
    coded = records(np.random.default_rng(1), 300)
    usage = usage_of(coded, CODER)
    assert usage is not None and usage["num_toks"] == 6000
    assert set(CodebookUsage.__dataclass_fields__) < usage.keys()
    assert usage_of({**coded, "none": {"toks": []}}, CODER) == usage
    low, high = usage["intervals"]["entropy_reachable"]
    assert low < usage["entropy_reachable"] < high < low + 2


def test_no_figure_and_no_interval_passes_100_percent() -> None:
    """Each code once: more than equally likely codes have on average."""
    coded = {str(k): {"toks": list(range(8 * k, 8 * k + 8))} for k in range(8)}
    usage = usage_of(coded, CODER)
    assert usage["codes_used"] == 64 and usage["reachable_codes"] < 64
    for name in WITH_INTERVALS:
        assert usage[name] == 100.0 and usage["intervals"][name][1] == 100.0
    old = {"usage_reachable": 98.8, "intervals": {"usage_reachable": [97.5, 100.2]}}
    figure = usage_figure(old, "usage_reachable")
    assert figure is not None and (figure.low, figure.high) == (97.5, 100.0)


def test_one_clip_has_no_interval_and_no_tokens_no_usage() -> None:
    assert usage_of({"a": {"toks": [1, 2]}}, CODER)["intervals"] == {}
    assert usage_of({"a": {}}, CODER) is None
    assert usage_of({"a": {"toks": [1]}}, {"codebook_size": None}) is None
