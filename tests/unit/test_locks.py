"""One process at a time works in a folder, and its lock ends with it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from focalcodec.errors import UserError
from focalcodec.locks import FolderLock

# Holds the lock of a folder until it is killed; a forked child outlives it, as a loader's worker.
HOLDER = """
import os, sys, time
from focalcodec.locks import FolderLock
lock = FolderLock(sys.argv[1])
lock.acquire()
child = os.fork()
if child:
    print(child, flush=True)
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
from focalcodec.locks import FolderLock
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
