"""Cards of probes, and the table of many cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from focalcodec.cli.main import main
from focalcodec.probes.cards import make_card, probe_table, read_cards, write_card

COLUMN = {"key": "wer", "title": "WER", "unit": "%", "better": "lower", "judge": "probe"}


def card_of(codec: str = "ours", seed: int = 1, wer: float = 10.0, **probe: Any) -> dict[str, Any]:
    rows = [
        {"ID": name, "duration": 2.0, "wrd": "A", "language": language}
        for name, language in [("a", "en"), ("b", "de")]
    ]
    clips = {
        "a": {"id": "a", "scores": {"wer": [wer, 2.0]}, "prediction": ""},
        "b": {"id": "b", "scores": {"wer": [0.0, 8.0]}, "prediction": ""},
    }
    about = {
        "task": "asr",
        "set": "test",
        "codec": {"name": codec, "weights_sha256": "f00", "kbps": 0.65},
        "probe": {"name": "asr", "inputs": "toks", **probe},
        "seed": seed,
        "bootstrap_samples": 50,
        "group_by": "language",
        "device": "cpu",
        "command": "",
    }
    return make_card(about, clips, rows, [COLUMN])


def test_a_card_weighs_clips_and_splits_groups() -> None:
    card = card_of()
    assert card["figures"]["wer"]["value"] == pytest.approx(2.0)
    assert card["splits"]["language"]["en"]["wer"]["value"] == 10.0
    about = {"name": "test", "count": 2, "seconds": 4.0, "kind": ""}
    assert about.items() <= card["set"].items() and len(card["set"]["sha256"]) == 64
    json.dumps(card)


def test_table_has_codecs_across_and_seeds_in_a_cell(tmp_path: Path) -> None:
    cards = {"1": card_of(), "2": card_of(seed=2, wer=20.0), "3": card_of("dac:4")}
    for name, card in {**cards, "4": card_of(inputs="qfeats")}.items():
        write_card(tmp_path / name / "test", card)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "card.json").write_text("{}")  # of an evaluation
    table = probe_table(read_cards(tmp_path))
    lines = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    assert lines[0][2:5] == ["ours", "dac:4", "ours, qfeats"]
    assert lines[3][1] == "asr, test: WER, % ↓"
    assert lines[3][2:5] == ["3.00 (2.00 to 4.00, n=2)", "2.00 [0, 10.0]", "2.00 [0, 10.0]"]
    assert lines[4][1] == "asr, test, de: WER, % ↓"


def test_chance_is_the_last_column() -> None:
    cards = [card_of(), card_of("dac:4")]
    cards[1]["chance"] = {"wer": 75.0}
    lines = [line.split("|") for line in probe_table(cards).splitlines()]
    assert lines[0][-2].strip() == "chance"
    assert [line[-2].strip() for line in lines[2:5]] == ["", "75.0", ""]


def test_codecs_of_one_name_are_distinguished() -> None:
    other = card_of()
    other["codec"]["weights_sha256"] = "bad"
    assert {"ours f00", "ours bad"} <= {
        cell.strip() for cell in probe_table([card_of(), other]).splitlines()[0].split("|")
    }


def test_sets_of_one_name_are_distinguished() -> None:
    other = card_of(wer=50.0)
    other["set"]["sha256"] = "bad" + other["set"]["sha256"][3:]
    lines = probe_table([card_of(), other]).splitlines()[3:]
    heads = [line.split("|")[1].strip() for line in lines if "test" in line]
    assert len(heads) == len(set(heads)) == 6
    assert sum("test bad" in head for head in heads) == 3


def test_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probes", str(tmp_path)]) == 2
    write_card(tmp_path / "test", card_of())
    assert main(["probes", str(tmp_path)]) == 0
    assert "asr, test: WER" in capsys.readouterr().out


def test_figures_of_two_versions_of_a_judge_have_two_lines() -> None:
    cards = [card_of(seed=seed) for seed in (1, 2)]
    for card, version in zip(cards, "12", strict=True):
        card["columns"] = [{**COLUMN, "judge": "Ear"}]
        card["judges"] = {"Ear": {"version": version}}
    lines = [line for line in probe_table(cards).splitlines() if line.startswith("| asr, test: ")]
    assert ["WER, %" in lines[0], "WER (version 2), %" in lines[1]] == [True, True]
    assert all("[" in line for line in lines), "one seed each"
