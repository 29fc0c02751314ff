"""Tables of a run's cards, and the comparison of two cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focalcodec.errors import UserError
from focalcodec.evaluation.run import evaluate
from focalcodec.evaluation.summary import card_tables, compare_cards, comparison_text
from tests.unit.evaluation.runs import fake_judges, small_plan, write_clips

NAMES = ("tiny", "original")
COUNT = 60


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done")
    clips = write_clips(tmp_path_factory.mktemp("corpus") / "talks")
    assert evaluate(small_plan(out, clips), fake_judges).cards is not None
    return out


def test_tables_have_the_codes_used_of_the_whole_set(done: Path) -> None:
    cards = [json.loads((done / "talks" / name / "card.json").read_text()) for name in NAMES]
    usage = cards[0]["usage"]
    low, high = usage["intervals"]["usage_reachable"]
    (row,) = [line for line in card_tables(cards).splitlines() if "reachable" in line]
    value, nothing = (cell.strip() for cell in row.strip("|").split("|")[1:])
    assert value == f"{usage['usage_reachable']:.1f} [{low:.1f}, {high:.1f}]" and not nothing
    for card in cards:
        card["usage"] = None
    assert "reachable" not in card_tables(cards)


def test_tables_note_clips_with_more_errors_than_words(done: Path) -> None:
    cards = [json.loads((done / "talks" / name / "card.json").read_text()) for name in NAMES]
    assert "transcripts.csv" not in card_tables(cards)
    for card in cards:
        card["columns"] += [{**card["columns"][0], "key": "dwer_ear", "judge": "Ear"}]
    for clip, value in zip(cards[0]["clips"], (743.0, 100.0), strict=False):
        clip["scores"]["dwer_ear"] = [value, 7.0]
    assert "over 100 %, see transcripts.csv: tiny: 1 of 2 by Ear" in card_tables(cards)


# -- comparison ------------------------------------------------------------------------------------


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


def test_a_difference_is_found_and_noise_is_not() -> None:
    false, found = 0, 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        clips = random.normal(3, 1, COUNT)
        noise = random.normal(0, 0.3, (2, COUNT))
        same = compare_cards(card(clips + noise[0]), card(clips + noise[1]))
        better = compare_cards(card(clips + noise[0] + 0.3), card(clips + noise[1]))
        false += same.differences[0].verdict == "real"
        found += better.differences[0].verdict == "real"
    assert false <= 11 and found == 100


def test_text_names_the_better_codec() -> None:
    clips = np.random.default_rng(0).normal(3, 1, COUNT)
    first, second = card(clips + 0.5), card(clips, "theirs")
    second["columns"][0]["better"] = first["columns"][0]["better"] = "lower"
    text = comparison_text(first, second, compare_cards(first, second))
    row = text.splitlines()[-1]
    assert "| real" in row and row.rstrip(" |").endswith("theirs")


def test_judges_of_other_versions_are_not_compared() -> None:
    with pytest.raises(UserError, match="different versions"):
        compare_cards(card([1, 2, 3]), card([1, 2, 3], version="2"))


def test_only_shared_clips_are_compared_with_a_note() -> None:
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
