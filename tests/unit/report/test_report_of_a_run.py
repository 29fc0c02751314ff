"""The page of a real evaluation: everything that a run writes is found by the report."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from focalcodec.evaluation.run import evaluate
from focalcodec.report import write_report
from focalcodec.report.run_folder import read_run
from tests.unit.evaluation.runs import FakeJudge, fake_judges, small_plan, write_clips
from tests.unit.report.markup import Element, parse

# Two ids with one file name, a name like a member of toks.npz, and one too long for a file.
# Linux has names of bytes that are no text.
_BYTES = ("caf\udce9",) if sys.platform == "linux" else ()
NAMES = (*_BYTES, "7/1/7-1", "7/1_7-1", "a b/x.npy", "a b/x", "ü/<b>&", f"{'deep/' * 60}end")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    seconds = {f"clip-{k}": 0.3 + 0.05 * k for k in range(len(NAMES))}
    clips = write_clips(folder / "nested", seconds)
    for wav, name in zip(seconds, NAMES, strict=True):
        path = clips / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        (clips / f"{wav}.wav").rename(path)
    out = folder / "out"
    assert evaluate(small_plan(out, clips), fake_judges).cards is not None
    return out


@pytest.fixture(scope="module")
def page(run: Path) -> Element:
    path = write_report(run, run.parent / "page.html", max_clips=len(NAMES))
    return parse(path.read_text(encoding="utf-8"))


def test_every_clip_has_its_tokens(run: Path, page: Element) -> None:
    (found,) = read_run(run)
    tiny = next(codec for codec in found.codecs if codec.name == "tiny")
    lines = (tiny.folder / "records" / "coded.0.jsonl").read_text().splitlines()
    coded = {record["id"]: record["toks"] for record in map(json.loads, lines)}
    for clip in found.clips:
        toks = tiny.toks(clip)
        assert toks is not None and toks.tolist() == coded[clip.id]
    assert sorted(clip.id for clip in found.clips) == sorted(NAMES)
    rasters = [each for each in page.all("img") if each["class"] == "raster"]
    assert len(rasters) == len(NAMES)
    (usage,) = (each for each in page.all("details") if "Codes of tiny" in each.text[:20])
    assert f"in {sum(map(len, coded.values()))} tokens" in usage.text
    assert [each["class"] for each in usage.all("img")] == ["map", "map"], "codes and their scale"


def test_every_clip_has_its_audio_and_scores(run: Path, page: Element) -> None:
    assert len(page.all("audio")) == len(NAMES) * 3
    scores = json.loads(str(page.one(id="set0-scores").parts[0]))
    for figure in scores.values():
        assert all(None not in row for row in figure["rows"])


def test_first_screen_has_figures_and_players(page: Element) -> None:
    answer = page.one(id="answer")
    (table,) = answer.all("table")
    heads = [each.text for each in table.all("thead")[0].all("th")]
    assert heads[0] == "Codec" and heads[1] == "bitrate, kbit/s"
    assert any("distance, level meter ↓ (lower is better)" in head for head in heads)
    ids = {each["id"] for each in page.all("li")}
    players = answer.all("button")
    assert len(players) == 3 * 3 and all(each["data-version"] in ids for each in players)


def test_a_card_of_other_clips_is_left_out_with_a_note(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    card = copy / "nested" / "original" / "card.json"
    about = json.loads(card.read_text())
    card.write_text(json.dumps(about | {"set": about["set"] | {"sha256": "0" * 64}}))
    page = parse(write_report(copy).read_text(encoding="utf-8"))
    (note,) = (each.text for each in page.all("p") if "left out" in each.text)
    assert "original/card.json" in note
    rows = page.one(id="answer").all("tbody")[0].all("tr")
    assert [row.all("th")[0].text for row in rows] == ["tiny"]


def test_figures_of_two_versions_of_a_judge_have_two_columns(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "talks", {"a": 0.3, "b": 0.4})
    for name, version in (("old", "1"), ("new", "2")):
        plan = small_plan(tmp_path / "out", clips, [f"{name}=original"])
        judge = FakeJudge(version=version)
        evaluate(plan, lambda panel, device, judge=judge: ([judge], []))
    (found,) = read_run(tmp_path / "out")
    assert [column.title for column in found.columns if "distance" in column.title] == [
        "distance, level meter",
        "distance, level meter (version 1)",
    ]
    for codec in found.codecs:
        assert len(codec.figures) == len(codec.scores) == 2
    keys = [set(codec.figures) for codec in found.codecs]
    assert not keys[0] & keys[1]


def test_old_cards_show_the_real_time_factor(run: Path, tmp_path: Path) -> None:
    """Cards of earlier versions have its inverse."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    cards = {path: json.loads(path.read_text()) for path in copy.rglob("card.json")}
    old = {"encode_rtf": 200.0, "decode_rtf": 100.0, "unit": "seconds of audio per second"}
    new = {"encode_real_time_factor": 0.005, "decode_real_time_factor": 0.01}
    texts = []
    for speed in (old, new):
        for path, card in cards.items():
            path.write_text(json.dumps(card | {"speed": speed}))
        texts.append(write_report(copy).read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    page = parse(texts[0])
    cells = [each.text for each in page.one(id="answer").all("td")]
    assert cells.count("0.015") == 2
    assert np.all([text in page.text for text in ("real-time factor ↓", "0.005", "0.01")])
