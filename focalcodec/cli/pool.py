"""Worker processes for `jobs.run_jobs`: each loads the model once and takes a file at a time."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

import torch

from focalcodec.cli.files import Job
from focalcodec.cli.work import Progress, Setup, Work, attempt
from focalcodec.errors import UserError


class _Worker:
    """A process, our end of its pipe, and the file that it is at."""

    def __init__(self, serve_args: Sequence[Any]) -> None:
        # a forked process would inherit the threads' locks, and no GPU
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, *serve_args), daemon=True
        )
        with _without_interrupt():
            self.process.start()
        theirs.close()
        self.ready = False
        self.job: Job | None = None


def run_in_processes(
    args: argparse.Namespace,
    jobs: Sequence[Job],
    setup: Setup,
    work: Work,
    count: int,
    progress: Progress,
    finish: Callable[[Job, str], None],
) -> None:
    """Spread files over processes, which share the threads of this one.

    Parameters
    ----------
    args, jobs, setup, work
        See `jobs.run_jobs`.
    count : int
        Processes.
    progress : callable
        Told the seconds of audio, as they are done.
    finish : callable
        Told each file and its problem, as they end.

    Raises
    ------
    UserError
        `setup` refused, or a process ended in it.
    """
    queue = deque(jobs)
    serve_args = (args, setup, work, max(1, torch.get_num_threads() // count))
    workers = [_Worker(serve_args) for _ in range(count)]
    try:
        while workers:
            ready = wait([worker.pipe for worker in workers])
            for worker in [worker for worker in workers if worker.pipe in ready]:
                try:
                    kind, value = worker.pipe.recv()
                except (EOFError, OSError):
                    _bury(worker, finish)
                    workers.remove(worker)
                    if queue:
                        workers.append(_Worker(serve_args))
                    continue
                if kind == "refused":
                    raise UserError(value)
                if kind == "progress":
                    progress(value)
                elif not _go_on(worker, value, queue, finish):
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _go_on(
    worker: _Worker, problem: str, queue: deque[Job], finish: Callable[[Job, str], None]
) -> bool:
    """Take a worker's result, and give it the next file or let it go."""
    worker.ready = True
    if worker.job is not None:
        finish(worker.job, problem)
    worker.job = queue.popleft() if queue else None
    if worker.job is not None:
        with suppress(OSError):  # should it have died since, the pipe will say so
            worker.pipe.send(worker.job)
        return True
    worker.pipe.close()
    worker.process.join()
    return False


def _bury(worker: _Worker, finish: Callable[[Job, str], None]) -> None:
    """Tell of a process that ended on its own."""
    worker.process.join()
    end = f"its process ended with exit code {worker.process.exitcode} (out of memory?)"
    if not worker.ready:
        raise UserError(f"--jobs: a worker did not start, {end}; give a smaller number")
    if worker.job is not None:
        finish(worker.job, f"{worker.job.name}: {end}")


def _serve(
    pipe: Connection, args: argparse.Namespace, setup: Setup, work: Work, threads: int
) -> None:
    """What a process does: load, then one file after the other, until the pipe closes."""
    signal.signal(signal.SIGTERM, _leave)
    torch.set_num_threads(threads)
    try:
        state = setup(args)
    except UserError as error:
        pipe.send(("refused", str(error)))
        return
    problem = ""
    try:
        while True:
            pipe.send(("done", problem))
            problem = attempt(work, state, pipe.recv(), lambda s: pipe.send(("progress", s)))
    except (EOFError, OSError):  # no more files, or the parent has gone
        return


def _leave(number: int, frame: FrameType | None) -> None:
    """End, but let half-written files be removed on the way."""
    sys.exit(128 + number)


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Ctrl-C reaches the whole group: what starts in here leaves it to the parent."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
