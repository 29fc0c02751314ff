"""A training that is stopped: one line with the cause, the position and the command to resume.

Ctrl-C exits with 130, SIGTERM with 143 (SIGUSR1 and SIGHUP, which clusters and closed terminals
send, in the same way); a full disk, too little memory or a process that died with 1.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from focalcodec.errors import WriteError
from focalcodec.files import disk_problem
from focalcodec.training.distributed import process_count, process_rank
from focalcodec.training.run.checkpointing import MARK_NAME, NEWEST_NAME, SAVE_NAME

_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGHUP")  # those that the platform has


class Stopped(SystemExit):
    """The end of a run that was stopped; `line` says why, where and how to resume."""

    def __init__(self, code: int, line: str, is_local: bool) -> None:
        super().__init__(code)
        self.line = line
        self.is_local = is_local
        """Whether the cause is in this process alone; otherwise the first process reports it."""


def explain(error: BaseException, folder: Path, position: str = "") -> Stopped | None:
    """Turn an error that is no mistake of code or user into one line; None for any other error.

    Parameters
    ----------
    error : BaseException
        What ended the run.
    folder : Path
        The run's folder.
    position : str
        Epoch and step; empty if the folder has not been opened yet.

    Example
    -------
    >>> explain(KeyboardInterrupt(), Path("run"), "epoch 2").line.partition("; resume with")[0]
    'interrupted; epoch 2; no checkpoint yet'
    """
    if isinstance(error, Stopped):
        return error
    rest = f"; resume with: {resume_command()}"
    if position:
        rest = f"; {position}; {describe_checkpoint(folder / SAVE_NAME)}{rest}"
    if isinstance(error, KeyboardInterrupt):
        return Stopped(128 + signal.SIGINT, f"interrupted{rest}", is_local=False)
    if isinstance(error, _Signalled):
        return Stopped(128 + error.number, f"stopped by {error.name}{rest}", is_local=False)
    if _is_of_a_lost_process(error):
        problem = "another process of this training ended; see its message"
        # It may be the first process.
        is_reporter = bool(position) and process_rank() == 1
        return Stopped(1, f"error: {problem}{rest}", is_reporter)
    problem = _problem(error, folder)
    return Stopped(1, f"error: {problem}{rest}", is_local=True) if problem else None


def _problem(error: BaseException, folder: Path) -> str:
    text = str(error)
    if isinstance(error, WriteError):
        return text
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "t allocate memory" in text:
        reason = next(iter(text.splitlines()), "").partition(". ")[0] or "no memory"
        return (
            f"not enough memory ({reason}); use a smaller batch_size in a new output_folder, or"
            " another device"
        )
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        reason = next(line for line in text.splitlines() if "DataLoader worker" in line)
        return f"{reason.rstrip('.')}; if memory was too small, give a lower num_workers"
    if isinstance(error, OSError):
        reason = error.strerror or last_line(error)
        place = Path(error.filename if isinstance(error.filename, str) else folder)
        code = error.errno or (errno.ENOSPC if "[Errno 28]" in reason else None)
        return f"{place}: {disk_problem(OSError(code, reason), place / 'x') or reason}"
    return ""


def last_line(error: Exception) -> str:
    """Message of an error; that of a data loader's worker is at the end of a traceback."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if "Traceback" in text else text


def _is_of_a_lost_process(error: BaseException) -> bool:
    """Whether messages between processes failed, because another process ended."""
    if process_count() == 1 or not isinstance(error, RuntimeError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and os.path.join("torch", "distributed") in frames[-1].filename


# -- position --------------------------------------------------------------------------------------


def describe_checkpoint(save: Path) -> str:
    """Position of the newest complete checkpoint in a run's folder of checkpoints."""
    try:
        newest = (save / NEWEST_NAME).read_text(encoding="utf-8")
        state = json.loads((save / newest / "brain.ckpt").read_text(encoding="utf-8"))
        epochs = [entry["epoch"] for entry in state["history"]]
        if not (save / newest / MARK_NAME).is_file():
            raise ValueError
    except (OSError, ValueError, KeyError):
        return "no checkpoint yet"
    done = epochs[-1] if epochs else 0
    if state["step"]:
        return f"last checkpoint: epoch {done + 1}, step {state['step']}"
    return f"last checkpoint: end of epoch {done}"


def resume_command(environment: Mapping[str, str] = os.environ) -> str:
    """Command line that started this process, or its torchrun on this host.

    Example
    -------
    >>> resume_command({"LOCAL_WORLD_SIZE": "2"}).startswith("torchrun --nproc_per_node 2 ")
    True
    """
    processes = environment.get("LOCAL_WORLD_SIZE")
    if processes is None:
        return shlex.join(sys.orig_argv)
    if environment.get("GROUP_WORLD_SIZE", "1") != "1":
        return f"the same torchrun command on all {environment['GROUP_WORLD_SIZE']} hosts"
    return shlex.join(["torchrun", "--nproc_per_node", processes, *sys.argv])


# -- signals ---------------------------------------------------------------------------------------


class _Signalled(BaseException):
    """A signal that ends the process."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.name = number, signal.Signals(number).name


@contextmanager
def stop_signals() -> Iterator[None]:
    """Let the first process end by an exception at a signal, so that it writes its line.

    The other processes end at once, as without this.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    if not is_first or threading.current_thread() is not threading.main_thread():
        yield
        return
    known = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    # `nohup` ignores SIGHUP, and a caller may have its own handler.
    mine = [number for number in known if signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Print no traceback of a thread that can't write; TensorBoard raises its error again."""

    def report(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, OSError):
            before(args)

    before, threading.excepthook = threading.excepthook, report
    try:
        yield
    finally:
        threading.excepthook = before


def _raise(number: int, frame: FrameType | None) -> None:
    # The whole group gets the signal: the end of the loader's workers must not replace this one.
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    raise _Signalled(number)
