"""The command that makes the table of improvements: what it runs, and its figures."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from focalcodec.evaluation.ablations import clip_scores, scores_difference
from focalcodec.evaluation.card import FORMAT
from tests.recipes.demo import small

FAKE = """
import json, sys
with open("{folder}/calls.jsonl", "a") as file:
    print(json.dumps(sys.argv), file=file)
"""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(small.RECIPE))
    return importlib.import_module("improvements")


def write_card(folder: Path, values: list[float], speakers: int = 0) -> dict[str, Any]:
    folder.mkdir(parents=True)
    clips = [{"id": str(i), "scores": {"wer": [v, 1.0]}} for i, v in enumerate(values)]
    if speakers:
        clips = [{**clip, "speaker": f"s{i % speakers}"} for i, clip in enumerate(clips)]
    columns = [{"key": "wer", "title": "word errors", "unit": "%", "better": "lower"}]
    draws = {"seed": 0, "bootstrap_samples": 200}
    card = {"format": FORMAT, "clips": clips, "columns": columns, **draws}
    (folder / "card.json").write_text(json.dumps(card))
    return card


def test_each_row_trains_exports_and_evaluates_both_sides(
    command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    for name in ("train", "evaluate", "focalcodec"):
        (tmp_path / f"{name}.py").write_text(FAKE.replace("{folder}", str(tmp_path)))
    monkeypatch.setattr("demo_chain.FOLDER", tmp_path)
    out = tmp_path / "out"
    for seed, shift in ((1, 0.0), (2, 2.0)):
        figures = out / "voice" / "figures" / str(seed) / "test-real"
        write_card(figures / "base", [1.0, 3.0])
        write_card(figures / "delta", [2.0 + shift, 4.0 + shift])
    words = [str(out), "--only", "voice", "--seeds", "1", "2", "--data_folder=/data"]
    assert command.main(words) == 0
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    trained = [Path(words[1]).stem for words in calls if words[0].endswith("train.py")]
    row = ["demo_25hz", "demo_25hz_voice", "vocos_25hz_voice"]
    assert trained[0] == "demo_vocos" and sorted(trained[1:]) == sorted(2 * row)
    assert all(words[-1] == "--data_folder=/data" for words in calls if "train.py" in words[0])
    for words in calls:
        if "train.py" in words[0]:
            assert (small.RECIPE / words[1]).is_file() and command.ENCODER in words
    # the same command resumes: a codec that is there is written again
    assert all("--overwrite" in words for words in calls if "export" in words)
    evaluated = [words[2] for words in calls if "evaluate.py" in words[0]]
    assert len(evaluated) == 4 and sum("voice:" in words for words in evaluated) == 2
    lines = (out / "improvements.md").read_text().splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["voice", "test-real", "word errors, % ↓", "2", "4", "2 [2, 2]", "2 clips"]
    assert capsys.readouterr().out.splitlines()[-1] == lines[-1]


def test_intervals_are_over_speakers_as_in_cards(command: Any, tmp_path: Path) -> None:
    """Sixteen clips of eight speakers: the clips of a speaker are drawn together."""
    folder = tmp_path / "masked" / "figures" / "1" / "test"
    base = write_card(folder / "base", [0.0] * 16, speakers=8)
    delta = write_card(folder / "delta", [float(i % 8) for i in range(16)], speakers=8)
    wanted = scores_difference(*(clip_scores([each])["wer"] for each in (delta, base)), base)
    assert wanted is not None and wanted.speakers == 8
    text = command.table(tmp_path, ["masked"], [1])
    assert f"| 3.5 [{wanted.low:.3g}, {wanted.high:.3g}] | 8 speakers |" in text
