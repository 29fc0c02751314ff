"""The table of ablations: seeds of a row, intervals, differences to the base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from focalcodec.errors import UserError
from focalcodec.evaluation.ablations import ablation_tables, ablations, read_cards
from focalcodec.evaluation.card import FORMAT, figures


def card(name: str, values: list[float], used: float = 50.0) -> dict[str, Any]:
    clips = [
        {"id": f"c{index}", "sha256": "", "scores": {"dwer": [value, 10]}, "transcripts": {}}
        for index, value in enumerate(values)
    ]
    return {
        "format": FORMAT,
        "task": "resynthesis",
        "set": {"name": "test", "count": len(values), "seconds": 9.0, "kind": "real"},
        "codec": {"name": name, "source": "no/such/folder", "kbps": 0.5},
        "columns": [
            {"key": "dwer", "title": "dWER", "unit": "%", "better": "lower", "judge": "Ear"}
        ],
        "judges": {"Ear": {}},
        "figures": figures(clips, 0, 200),
        "splits": {},
        "clips": clips,
        "usage": {"usage_percent": used, "entropy_seen": 90.0},
        "seed": 0,
        "bootstrap_samples": 200,
    }


def cards() -> list[dict[str, Any]]:
    return [
        card("base-1", [1.0, 2.0, 3.0], 40.0),
        card("base-2", [3.0, 4.0, 5.0], 60.0),
        card("linear-1", [12.0, 13.0, 15.0]),
        card("opus", [2.0, 3.0, 9.0]),
    ]


def test_seeds_of_a_row_are_averaged_and_shown() -> None:
    (one,) = ablations(cards())
    base, linear, opus = one["rows"]
    assert [row["row"] for row in one["rows"]] == ["base", "linear", "opus"]
    assert base["seeds"] == [1, 2] and opus["seeds"] == [None]
    figure = base["figures"]["dwer"]
    assert figure["value"] == 3.0 and figure["seeds"] == [2.0, 4.0]
    assert figure["low"] < 3.0 < figure["high"]
    assert base["usage"]["usage_percent"]["value"] == 50.0
    assert base["against"] == {} and base["cost"] == {}
    against = linear["against"]["dwer"]
    assert against["value"] == pytest.approx(31 / 3) and against["low"] > 0
    assert opus["against"]["dwer"]["low"] <= 0  # one clip alone differs


def test_the_table_marks_what_an_interval_shows() -> None:
    text = ablation_tables(ablations(cards()))
    (base,) = [line for line in text.splitlines() if line.startswith("| base")]
    assert "3.00 [" in base and "(2.00 to 4.00)" in base and "50.0" in base
    (linear,) = [line for line in text.splitlines() if line.startswith("| linear") and "+" in line]
    assert linear.endswith("* |") or "] *" in linear
    assert "difference to base" in text
    # another base, and one that is not there
    assert "difference to linear" in ablation_tables(ablations(cards(), "linear"))
    assert "difference" not in ablation_tables(ablations(cards(), "mamba"))


def test_cards_are_read_below_folders(tmp_path: Path) -> None:
    for each in cards():
        folder = tmp_path / "eval" / "test" / each["codec"]["name"]
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(json.dumps(each))
    (tmp_path / "card.json").write_text(json.dumps({**cards()[0], "probe": {}}))
    assert len(read_cards([tmp_path])) == 4
    with pytest.raises(UserError, match="nothing: no card.json of an evaluation"):
        read_cards([tmp_path / "nothing"])
