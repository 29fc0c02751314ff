"""The quickstart shows both trainings, and stops both if one fails."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "recipes" / "LibriSpeech" / "quickstart.py"

WORK = "print('5 % of the run: epoch 1/2, 00:01 left'); print('epoch 1/2: train loss 1.00')"
FAIL = "print('error: no space left'); raise SystemExit(2)"
WAIT = "import time; print('begins'); time.sleep(60)"


@pytest.fixture
def quickstart() -> Any:
    spec = importlib.util.spec_from_file_location("quickstart", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train_both(quickstart: Any, monkeypatch: Any, folder: Path, **programs: str) -> Any:
    """Both stages as programs of one line."""
    popen, started = subprocess.Popen, []

    def run(command: list[str], **options: Any) -> Any:
        program = next(code for stage, code in programs.items() if str(folder / stage) in command)
        started.append(popen([sys.executable, "-c", program], **options))
        return started[-1]

    monkeypatch.setattr(quickstart.subprocess, "Popen", run)
    try:
        quickstart.train_both({stage: folder / stage for stage in programs}, folder)
    finally:
        assert all(process.poll() is not None for process in started)


def test_both_stages_are_shown_with_their_names(quickstart, monkeypatch, tmp_path, capfd) -> None:
    train_both(quickstart, monkeypatch, tmp_path, quantizer=WORK, vocoder=WORK)
    out = capfd.readouterr().out
    assert out.index("[1/4 train the quantizer]") < out.index("[2/4 train the vocoder]")
    for name in ("quantizer: ", "vocoder  : "):
        assert f"{name}5 % of the run: epoch 1/2, 00:01 left\n" in out
        assert f"{name}epoch 1/2: train loss 1.00\n" in out
    assert (tmp_path / "vocoder.log").read_text().endswith("epoch 1/2: train loss 1.00\n")


def test_a_failed_stage_stops_the_other_one(quickstart, monkeypatch, tmp_path, capfd) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_both(quickstart, monkeypatch, tmp_path, quantizer=WAIT, vocoder=FAIL)
    assert stopped.value.code == 2
    assert "vocoder  : error: no space left\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("word", "code", "told"), [("--help", 0, "[OUT]"), ("", 2, "OUT is empty")]
)
def test_help_or_an_empty_name_trains_nothing(
    quickstart, monkeypatch, tmp_path, capsys, word: str, code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart.sys, "argv", ["quickstart.py", word])
    with pytest.raises(SystemExit) as stopped:
        quickstart.main()
    assert stopped.value.code == code and not list(tmp_path.iterdir())
    assert told in "".join(capsys.readouterr())


def test_trust_reaches_export_and_evaluation(quickstart, monkeypatch, tmp_path) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(quickstart, "train_both", lambda runs, out: None)
    monkeypatch.setattr(quickstart, "start", lambda _, *words: started.append([*map(str, words)]))
    monkeypatch.setattr(quickstart, "finish", lambda process: None)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", str(tmp_path), "--trust", "my_parts"])
    quickstart.main()
    assert len(started) == 2 and all(words[-2:] == ["--trust", "my_parts"] for words in started)
