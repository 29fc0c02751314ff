"""Work shared out to processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence

import pytest

from focalcodec.data.processes import in_processes
from focalcodec.errors import UserError


def squares(share: Sequence[int]) -> Iterator[tuple[int, int]]:
    for item in share:
        if item == 13:
            raise UserError("13: bad luck")
        if item == 17:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item**2, os.getpid()


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_all_results_come(jobs: int) -> None:
    found = list(in_processes(squares, range(5), jobs))
    assert sorted(square for square, _ in found) == [0, 1, 4, 9, 16]
    assert len({process for _, process in found}) == min(jobs, 5)
    assert (os.getpid() in {process for _, process in found}) == (jobs == 1)


def test_nothing_to_do() -> None:
    assert list(in_processes(squares, [], jobs=2)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_come_through(jobs: int) -> None:
    with pytest.raises(UserError, match="13: bad luck"):
        list(in_processes(squares, [1, 2, 13], jobs))


def test_a_killed_process_is_told_of() -> None:
    with pytest.raises(UserError, match="process was killed"):
        list(in_processes(squares, [1, 2, 17, 3], jobs=2))


def test_no_processes() -> None:
    with pytest.raises(UserError, match="jobs=0"):
        list(in_processes(squares, [1], jobs=0))
