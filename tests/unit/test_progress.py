"""A bar on a terminal; elsewhere a line at intervals of a monotonic clock."""

from __future__ import annotations

import io
import itertools
import sys
import time
from contextlib import suppress

import pytest

from focalcodec.errors import UserError
from focalcodec.progress import INTERVAL, ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written_by_slow_work(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a file, and a clock that runs 20 s between two looks at it."""
    file = io.StringIO()
    ticks = itertools.count(start=0.0, step=20.0)
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    return file


def test_a_file_gets_a_line_at_each_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    written = written_by_slow_work(monkeypatch)
    monkeypatch.setenv(INTERVAL, "300")
    for _ in ProgressBar(range(100), "eval", unit="clips"):
        pass
    lines = written.getvalue().splitlines()
    # A look at the clock for each clip, some more for each line.
    assert 5 < len(lines) < 10
    assert lines[0] == "eval: 15 of 100 clips, 15 %, 06:00 passed, 34:00 left"
    assert lines[-1].startswith("eval: 100 of 100 clips, 100 %, ")
    assert "\r" not in written.getvalue()


def test_short_work_writes_nothing_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written = written_by_slow_work(monkeypatch)
    for _ in ProgressBar([1], "eval", unit="clips"):
        pass
    assert written.getvalue() == ""


def test_the_wall_clock_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    days = itertools.count(start=0.0, step=86400.0)
    monkeypatch.setattr(time, "time", lambda: next(days))
    for _ in ProgressBar(range(5), "eval", unit="clips"):
        pass
    assert file.getvalue() == ""


def test_a_terminal_gets_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressBar(what="encode", total=4.25, unit="s of audio") as bar:
        bar.update(2.125)
        bar.update(2.125)
    frames = terminal.getvalue().split("\r")
    assert frames[1].startswith("encode:   0 %|")
    assert "| 4.2/4.2 s of audio [" in frames[-1]
    assert terminal.getvalue().count("\n") == 1


def test_hidden_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    written = written_by_slow_work(monkeypatch)
    monkeypatch.setenv(INTERVAL, "0")
    for _ in ProgressBar(range(3), "eval", show=False):
        pass
    assert written.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)
    assert list(ProgressBar([1, 2], "eval")) == [1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="platform: no /dev/full")
def test_a_full_disk_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL, "0")
    full = open("/dev/full", "w", buffering=1, encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", full)
    assert list(ProgressBar([1, 2], "eval")) == [1, 2]
    monkeypatch.undo()
    with suppress(OSError):  # what is still in its buffer
        full.close()


@pytest.mark.parametrize("value", ["soon", "-1", "nan"])
def test_an_interval_that_is_no_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL, value)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(UserError, match=f"^{INTERVAL}={value}: give a number of seconds"):
        ProgressBar([1], "eval")
