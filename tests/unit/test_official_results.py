"""What clients of the official package call gives here what it gives there.

`tests/data/official` holds the results of the official package at commit 912b7f2 for the small
models of `benchmarks/official/`, whose weights and inputs come from their names. Written by
`python benchmarks/against_official.py official --record tests/data/official`, where `official` is
the folder of its repository; without `--record` it compares more.
"""

from __future__ import annotations

import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.official.cases import Case, recorded_cases
from benchmarks.official.compare import compare
from benchmarks.official.packages import ours
from benchmarks.official.record import read

DATA = Path(__file__).parents[1] / "data" / "official"

# What differs on purpose: patterns of names, and the reason
DIFFERS = {
    "*/short end": "the official code differs from its own stream here; ours follows the stream",
    "*hz/decoder trace": "a traced official Vocos works at the traced length only",
    "*causal/encoder of window_size=6": "officially a call of several chunks shifts them if the"
    " window is not a whole number of chunks",
    "50hz/decoder_config without hop_length": "a hop above the window, refused here",
}


@cache
def recorded() -> dict[str, dict[str, Any]]:
    """Leaves of the official results by the names of the cases."""
    return read(DATA)


def found(name: str, table: dict[str, str]) -> str | None:
    """Reason of the first pattern that a name has."""
    return next((why for pattern, why in table.items() if fnmatch.fnmatch(name, pattern)), None)


def cases() -> list[Any]:
    """The recorded cases but those that differ on purpose."""
    return [
        pytest.param(case, id=case.name.replace(" ", "_"))
        for case in recorded_cases()
        if not found(case.name, DIFFERS)
    ]


@pytest.mark.parametrize("case", cases())
def test_gives_what_the_official_package_gives(case: Case) -> None:
    outcome = compare(recorded()[case.name], case.result(ours()))
    assert outcome.ok, outcome.text


def test_every_recorded_result_has_its_case() -> None:
    assert {case.name for case in recorded_cases()} == set(recorded())
