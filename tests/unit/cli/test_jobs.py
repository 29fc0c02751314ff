"""Many files: an error is one line, and a process that ends by itself fails only one file."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
from pathlib import Path

import pytest

from focalcodec.cli.jobs import Made, attempt, run_jobs
from focalcodec.cli.paths import Job
from focalcodec.errors import UserError
from focalcodec.processes import Progress


def args(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(
        **{"command": "test", "out": "out", "overwrite": False, "jobs": 1, "quiet": False} | changes
    )


def jobs(folder: Path, names: str) -> list[Job]:
    return [Job(Path(name), folder / name) for name in names]


# -- functions that worker processes import --------------------------------------------------------


def setup(namespace: argparse.Namespace) -> argparse.Namespace:
    return namespace


def write(namespace: argparse.Namespace, job: Job, progress: Progress) -> Made:
    assert job.target is not None
    if job.source == Path("d"):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    if job.source == Path("f"):
        raise UserError("broken")
    job.target.write_text(str(os.getpid()))
    progress(1.0)
    return Made(2.0, 1300)


# -- several processes -----------------------------------------------------------------------------


def test_a_process_that_dies_fails_one_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_jobs(args(jobs=2), jobs(tmp_path, "abcdefgh"), setup, write) == 1
    err = capsys.readouterr().err
    assert "focalcodec: error: d: its process ended with exit code" in err
    assert "focalcodec: error: f: broken" in err and "6 done, 0 skipped, 2 failed" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == list("abcegh")
    assert str(os.getpid()) not in {path.read_text() for path in tmp_path.iterdir()}


def test_no_more_processes_than_files(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    assert run_jobs(args(jobs=9), jobs(tmp_path, "ab"), setup, write) == 0
    assert (tmp_path / "a").read_text() == str(os.getpid())


def test_the_last_line_says_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    factor = r"real-time factor \d[\d.e-]*"
    assert run_jobs(args(), jobs(tmp_path, "a"), setup, write) == 0
    made = rf"focalcodec: {tmp_path}/a: 2\.00 s of audio, 0\.65 kbit/s, {factor}\n"
    assert re.fullmatch(made, capsys.readouterr().err)
    assert run_jobs(args(jobs=2, out="x/"), jobs(tmp_path, "ab"), setup, write) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    counts = "1 done, 1 skipped, 0 failed"
    assert re.fullmatch(rf"focalcodec: x/: {counts}; 2\.00 s .*, {factor} in each process", last)
    assert run_jobs(args(quiet=True), jobs(tmp_path, "g"), setup, write) == 0
    assert capsys.readouterr().err == ""


def test_all_files_fail(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def refuse(namespace: argparse.Namespace, job: Job, progress: Progress) -> Made:
        raise UserError("broken")

    assert run_jobs(args(out="x/"), jobs(tmp_path, "ab"), setup, refuse) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "focalcodec: x/: 0 done, 0 skipped, 2 failed"


# -- one process -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, message",
    [
        (UserError("sig: empty"), "a.wav: sig: empty"),
        (UserError("a.wav: empty"), "a.wav: empty"),
        (PermissionError(13, "Permission denied", "a.wav"), "a.wav: Permission denied"),
        (PermissionError(13, "Permission denied", "out/.1234.wav"), "out/b.wav: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "out/b.wav: No space left on device"),
    ],
)
def test_an_error_is_one_line(error: Exception, message: str) -> None:
    def work(state: None, job: Job, progress: Progress) -> Made:
        raise error

    assert attempt(work, None, Job(Path("a.wav"), Path("out/b.wav")), print).problem == message


def test_standard_output_on_a_full_disk() -> None:
    def work(state: None, job: Job, progress: Progress) -> Made:
        raise OSError(errno.ENOSPC, "No space left on device")

    problem = attempt(work, None, Job(Path("a.wav"), None), print).problem
    assert problem == "a.wav to standard output: No space left on device"


def test_a_bug_is_reported_with_its_traceback_and_the_others_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def work(state: None, job: Job, progress: Progress) -> Made:
        if job.source == Path("a"):
            raise IndexError("a bug")
        return write(args(), job, progress)

    assert run_jobs(args(), jobs(tmp_path, "ab"), setup, work) == 1
    err = capsys.readouterr().err
    assert "a: unexpected error, please report it" in err and "IndexError: a bug" in err
    assert (tmp_path / "b").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, BrokenPipeError])
def test_interrupts_end_the_run(error: type[BaseException], tmp_path: Path) -> None:
    def work(state: None, job: Job, progress: Progress) -> Made:
        raise error

    with pytest.raises(error):
        run_jobs(args(), jobs(tmp_path, "ab"), setup, work)
