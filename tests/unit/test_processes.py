"""The pool of workers: results, errors, processes that end by themselves; shards; locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.processes import FolderLock, Progress, Shard, in_processes

# -- what workers run; they find it by name --------------------------------------------------------


def setup(problem: str = "") -> int:
    if problem == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if problem:
        raise UserError(problem)
    return os.getpid()


def square(state: int, item: int, progress: Progress) -> tuple[int, int]:
    assert state == os.getpid()
    if item == 13:
        raise UserError("13: bad luck")
    if item == 17:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 19:
        raise IndexError("a bug")
    progress(0.5)
    return item**2, os.getpid()


def write_slowly(folder: Path, item: int, progress: Progress) -> None:
    with atomic_path(folder / str(item)) as temporary:
        temporary.touch()
        progress(1.0)
        time.sleep(60 if item else 0)


@pytest.fixture(autouse=True)
def processes_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of tests/workers.py."""
    monkeypatch.setattr("focalcodec.processes.get_context", get_context)


# -- tests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_all_results_come(jobs: int) -> None:
    amounts: list[float] = []
    found = list(in_processes(setup, square, range(5), jobs, amounts.append))
    assert sorted((item, value) for item, (value, _) in found) == [(x, x**2) for x in range(5)]
    processes = {process for _, (_, process) in found}
    assert processes == {os.getpid()} if jobs == 1 else os.getpid() not in processes
    assert amounts == [0.5] * 5


def test_one_job_keeps_the_order() -> None:
    assert [item for item, _ in in_processes(setup, square, [3, 1, 2], jobs=1)] == [3, 1, 2]


def test_no_items() -> None:
    assert list(in_processes(setup, square, [], jobs=2)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_user_errors_end_the_run(jobs: int) -> None:
    with pytest.raises(UserError, match="13: bad luck"):
        list(in_processes(setup, square, [1, 2, 13], jobs))
    with pytest.raises(UserError, match="no model"):
        list(in_processes(partial(setup, "no model"), square, [1, 2], jobs))


def test_other_errors_come_with_their_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in square.*IndexError: a bug"):
        list(in_processes(setup, square, [1, 19], jobs=2))


def test_a_killed_process_is_an_error() -> None:
    with pytest.raises(UserError, match="process was killed, exit code -9"):
        list(in_processes(setup, square, [1, 2, 17, 3], jobs=2))


def test_a_killed_process_can_fail_only_one_item() -> None:
    found = dict(
        in_processes(setup, square, [1, 17, 2, 17, 3], 2, on_death=lambda item, code: (code, 0))
    )
    assert {item: value for item, (value, _) in found.items()} == {1: 1, 17: -9, 2: 4, 3: 9}


def test_a_process_that_does_not_start_ends_the_run() -> None:
    with pytest.raises(UserError, match="did not start, exit code -9"):
        list(
            in_processes(
                partial(setup, "killed"), square, [1, 2], 2, on_death=lambda item, code: (0, 0)
            )
        )


def test_no_processes() -> None:
    with pytest.raises(UserError, match="jobs=0"):
        list(in_processes(setup, square, [1], jobs=0))


def test_half_written_files_are_removed_when_the_caller_stops(tmp_path: Path) -> None:
    begun: list[float] = []
    results = in_processes(
        partial(Path, tmp_path), write_slowly, [0, 1, 2], jobs=2, progress=begun.append
    )
    with contextlib.closing(results):
        next(results)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


# -- shards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/", "0/0"])
def test_bad_shards_are_errors(text):
    with pytest.raises(UserError, match="give INDEX/COUNT"):
        Shard.parse(text)


def test_shard_of_torchrun():
    assert Shard.from_environment({"RANK": "2", "WORLD_SIZE": "3"}) == Shard(2, 3)
    assert Shard.from_environment({}) == Shard(0, 1)


# -- the lock of a folder --------------------------------------------------------------------------


# Holds the lock of a folder until it is killed; a forked child outlives it, as a loader's worker.
HOLDER = """
import os, sys, time
from focalcodec.processes import FolderLock
lock = FolderLock(sys.argv[1])
lock.acquire()
if os.fork() == 0:
    print(os.getpid(), flush=True)  # filelock has closed the child's lock by now
time.sleep(60)
"""
# Ends without removing the file that is its lock.
KILLED = """
import os, sys
from filelock import SoftFileLock
lock = SoftFileLock(sys.argv[1])
lock.acquire()
os._exit(0)
"""
# Reads a number and writes the next one, again and again.
COUNTER = """
import sys
from pathlib import Path
from focalcodec.processes import FolderLock
folder = Path(sys.argv[1])
for _ in range(25):
    with FolderLock(folder):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_the_second_process_names_the_first(tmp_path) -> None:
    holder = start(HOLDER, tmp_path)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    told = f"process {holder.pid} on host {socket.gethostname()} writes into this folder; wait"
    try:
        for _ in range(2):  # a refusal does not remove the name
            with pytest.raises(UserError) as caught:
                FolderLock(tmp_path, wait=False).acquire()
            assert told in str(caught.value) and "\n" not in str(caught.value)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with FolderLock(tmp_path, wait=False):  # although its child still runs
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()
    assert list(tmp_path.iterdir()) == []


def test_processes_that_wait_have_it_one_after_the_other(tmp_path) -> None:
    (tmp_path / "count").write_text("0")
    for process in [start(COUNTER, tmp_path) for _ in range(4)]:
        assert process.wait() == 0
    assert (tmp_path / "count").read_text() == "100"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_file_system_without_locks(tmp_path, monkeypatch) -> None:
    def flock(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with FolderLock(tmp_path):
        told = f"process {os.getpid()} on host {socket.gethostname()} .*delete .*lock"
        with pytest.raises(UserError, match=told):
            FolderLock(tmp_path, wait=False).acquire()
    assert list(tmp_path.iterdir()) == []
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / ".lock")], check=True)
    with FolderLock(tmp_path, wait=False):
        assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()}\n")


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: can't be written to .*; choose another folder"):
        FolderLock(tmp_path / "file" / "run").acquire()


def test_an_unknown_holder(tmp_path) -> None:
    with FolderLock(tmp_path):
        (tmp_path / ".lock").write_bytes(b"")
        with pytest.raises(UserError, match=": another process writes into this folder"):
            FolderLock(tmp_path, wait=False).acquire()
