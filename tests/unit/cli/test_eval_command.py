"""The command `focalcodec eval`."""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from focalcodec.cli.main import main
from focalcodec.coders import parse_specs
from focalcodec.evaluation.speed import _measure, measure_speed
from tests.unit.evaluation.runs import CODEC, small_plan, write_clips


@pytest.fixture
def talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_clips(tmp_path / "talks").relative_to(tmp_path)


def run(*words: str | Path) -> int:
    options = ["--panel", "none", "--speed_clips", "0", "--device", "cpu"]
    return main(["eval", *map(str, words), *options])


def test_table_and_exit_codes(
    talks: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["focalcodec", "eval", "a b"])
    assert run(talks, "out", "--kind", "real", "--codecs", f"tiny={CODEC}", "original") == 0
    printed = capsys.readouterr().out
    assert "talks: 5 clips, 2.5 s, real speech" in printed
    assert re.search(r"\| kbit/s +\| 0\.65 +\|", printed)
    assert "codes used, % of the reachable" in printed
    card = json.loads(Path("out/talks/tiny/card.json").read_text())
    assert card["command"] == "focalcodec eval 'a b'" and card["set"]["kind"] == "real"
    # one codec can't be loaded: the others are evaluated, and a line says so
    assert run(talks, "out2", "--codecs", "original", "mimi") == 1
    errors = capsys.readouterr().err
    assert errors.splitlines()[:4] == [
        "plan: resynthesis of 5 clips by 2 codecs, in out2",
        "  sets: talks (5 clips, 3 s)",
        "  codecs: original, mimi",
        "  judges: none (panel none)",
    ]
    assert errors.count("skipped: mimi: kyutai/mimi") == 1 and len(errors.splitlines()) == 7
    assert errors.endswith("\nout2: 1 result card, SET/CODEC/card.json\n")
    assert Path("out2/talks/original/card.json").is_file()
    assert run(talks, "out3", "--codecs", "mimi") == 2


def test_kinds_of_single_sets(talks: Path) -> None:
    write_clips(Path("others"), {"x": 0.4})
    kinds = ("--kind", "real", "others=synthetic")
    assert run(talks, "others", "out", *kinds, "--codecs", "original") == 0
    cards = {p.parts[1]: json.loads(p.read_text()) for p in Path("out").rglob("card.json")}
    assert {name: card["set"]["kind"] for name, card in cards.items()} == {
        "talks": "real",
        "others": "synthetic",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["talks"], "SOURCE... OUT"),
        (["talks", "out"], "codecs: none"),
        (["none", "out", "--codecs", "original"], "none"),
        (["talks", "talks", "out", "--codecs", "original"], "two sets have this name"),
        (["talks", "out", "--codecs", "reference=original"], "the name is taken"),
        (["talks", "out", "--codecs", "original", "--kind", "fake"], "give synthetic or real"),
        (["--compare", "a", "b"], "a: no such card"),
        (["talks", "out", "--compare", "a", "b"], "two cards only"),
    ],
)
def test_errors(talks: Path, capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    assert run(*words) == 2
    printed = capsys.readouterr().err
    assert message in printed and len(printed.splitlines()) == 1
    assert not Path("out").exists()


def test_compare(talks: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(talks, "out", "--codecs", f"tiny={CODEC}", "original") == 0
    for name, value in (("tiny", 3.0), ("original", 1.0)):
        path = Path("out/talks", name, "card.json")
        card = json.loads(path.read_text())
        column = {"key": "k", "title": "MOS", "unit": "", "better": "higher", "judge": "ear"}
        card |= {"columns": [column], "judges": {"ear": {}}}
        for index, clip in enumerate(card["clips"]):
            clip["scores"] = {"k": [value + 0.1 * index, 1.0]}
        path.write_text(json.dumps(card))
    capsys.readouterr()
    assert main(["eval", "--compare", "out/talks/tiny", "out/talks/original/card.json"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "MOS ↑", "3.20", "1.20", "2.00 [2.00, 2.00]", "real", "tiny"
    ]  # fmt: skip
    Path("out/talks/tiny/card.json").write_text("[]")
    assert main(["eval", "--compare", "out/talks/tiny", "out/talks/original"]) == 2


def test_work_is_shown_at_intervals(talks: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("FOCALCODEC_PROGRESS_SECONDS", "0")
    assert run(talks, "out", "--codecs", f"tiny={CODEC}", "original") == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(re.match(r"code, tiny: [1-5] of 10 clips, \d+ %, ", line) for line in lines)
    assert any(line.startswith("code, original: 10 of 10 clips, 100 %, ") for line in lines)
    assert all(line != following for line, following in itertools.pairwise(lines))


def test_real_time_factor_is_processing_time_over_audio_time(
    talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(0, 2)
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))
    speed = _measure(parse_specs([CODEC])[0], [str(talks / "a" / "1.wav")], "cpu", 60.0, 1)
    # Each step takes 2 s on this clock; the clip has 0.5 s.
    assert (speed["encode_real_time_factor"], speed["decode_real_time_factor"]) == (4.0, 4.0)


def test_speed(talks: Path) -> None:
    plan = small_plan(Path("out"), talks, [CODEC])
    torch.set_num_threads(1)
    from dataclasses import replace

    speed = measure_speed(replace(plan, speed_clips=2), plan.sets[0], plan.codecs[0])
    assert speed["encode_real_time_factor"] > 0 and speed["decode_real_time_factor"] > 0
    assert speed["clips"] == 2 and speed["threads"] == 1 and speed["device"] == "cpu"
    assert speed["peak_memory_mb"] > 50
