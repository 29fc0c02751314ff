"""The bar: hours done, hours in all, and earlier work that is not speed."""

from __future__ import annotations

import io
import sys

import torch

from focalcodec.tokenize.part_encoder import EncodedClip
from focalcodec.tokenize.plan import Shard
from focalcodec.tokenize.progress import HoursBar

HOUR = EncodedClip(torch.zeros(1, dtype=torch.int64), 3600 * 8000, 8000)


class Terminal(io.StringIO):
    """Standard error of somebody who looks on."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch, shard: Shard) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with HoursBar(8, shard) as bar:
        bar.end_part([HOUR, HOUR])  # done in an earlier run
        for _ in range(2):
            bar.add_seconds(3600.0)
        bar.end_part([HOUR, HOUR])
        assert shard.index > 0 or (bar._bar.n, bar._bar.initial, bar._bar.total) == (4.0, 2.0, 8.0)
    return terminal.getvalue()


def test_first_process_shows_hours_of_all(monkeypatch):
    line = shown(monkeypatch, Shard(0, 2)).split("\r")[-1]
    assert "tokenize, 0 of 2:  50%" in line and "4.00/8.00" in line


def test_other_processes_are_silent(monkeypatch):
    assert shown(monkeypatch, Shard(1, 2)) == ""
