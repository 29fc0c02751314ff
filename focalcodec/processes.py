"""Work in several processes: a pool of workers, shards, and the lock of a folder.

Everything that runs with `jobs` processes uses the pool, `in_processes`, with the same rules:

* A worker calls `setup()` once (to load a model, to make a mixer) and `work(state, item, progress)`
  for each item. One job means no new process: the caller's own does the work.
* Results are returned as soon as they are ready. The result of an item must not depend on other
  items, so that the number of processes changes only the order.
* A worker can be killed at any moment. `work` writes its files with `focalcodec.files.atomic_path`,
  so files on disk are complete, and the same command resumes.
* On Ctrl-C, on an error, and when the caller stops early, the workers get SIGTERM and end through
  their `finally` blocks, so no temporary file is left.

A `Shard` is the share of the work of one process that torchrun or a cluster started.

One process at a time has the lock of a folder. The operating system releases it when the process
ends, also after `kill -9`. The file `.lock` has the process and the host, and is removed together
with the lock.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeAlias, TypeVar

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from focalcodec.errors import UserError

State = TypeVar("State")
Item = TypeVar("Item")
Result = TypeVar("Result")

Progress: TypeAlias = Callable[[float], object]
"""Called with an amount of work that is done, such as seconds of audio."""


@dataclass(frozen=True)
class Shard:
    """The share of one process: `index` is its number among `count` processes."""

    index: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Shard:
        """Shard from RANK and WORLD_SIZE, which torchrun sets; without them the only shard.

        Example
        -------
        >>> Shard.from_environment({"RANK": "1", "WORLD_SIZE": "4"})
        Shard(index=1, count=4)
        """
        return cls(int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1)))

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Shard from a text such as "0/4"; `UserError` for another text."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise UserError(f"shard {text!r}: give INDEX/COUNT, e.g. 0/4 to 3/4 for four processes")
        return cls(int(index), int(count))


def in_processes(
    setup: Callable[[], State],
    work: Callable[[State, Item, Progress], Result],
    items: Sequence[Item],
    jobs: int,
    progress: Progress | None = None,
    on_death: Callable[[Item, int | None], Result] | None = None,
) -> Generator[tuple[Item, Result], None, None]:
    """Work on items in several processes; yield each item with its result.

    `setup`, `work`, items and results must be picklable (functions of a module, `partial` of them)
    when there are several processes. Workers share the caller's number of torch threads. To stop
    early, close the generator: `with contextlib.closing(in_processes(...)) as results`.

    Parameters
    ----------
    setup : callable
        () -> state, once in each process.
    work : callable
        (state, item, progress) -> result. A `UserError` ends the whole run; to go on after a broken
        item, catch its error and return it as the result.
    items : sequence
        All items; no more processes are started than there are items.
    jobs : int
        Number of processes; 1 works in the caller's process and keeps the order of the items.
    progress : callable, optional
        Called in the caller's process with what the work reports.
    on_death : callable, optional
        (item, exit code) -> result of an item if its process ended by itself (for example out of
        memory); a new process is started. Default: an error.

    Raises
    ------
    UserError
        `jobs` is below 1; `setup` or `work` raised one; a process ended by itself.
    RuntimeError
        Another error in a worker, with its traceback.
    """
    if jobs < 1:
        raise UserError(f"jobs={jobs}: give 1 or more processes")
    report = progress or _ignore
    count = min(jobs, len(items))
    if count > 1:
        yield from _Pool(setup, work, items, count, report, on_death).results()
    elif items:
        state = setup()
        for item in items:
            yield item, work(state, item, report)


class _Worker(Generic[Item]):
    """A process, the caller's end of its pipe, and the items it was given but has not finished."""

    def __init__(self, *serve_args: Any) -> None:
        # A forked process would inherit locks of this process' threads, and can't use a GPU.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, *serve_args), daemon=True
        )
        with _without_interrupt():
            self.process.start()
        theirs.close()
        self.ready = False
        self.given: list[Item] = []


class _Pool(Generic[State, Item, Result]):
    def __init__(
        self,
        setup: Callable[[], State],
        work: Callable[[State, Item, Progress], Result],
        items: Sequence[Item],
        count: int,
        progress: Progress,
        on_death: Callable[[Item, int | None], Result] | None,
    ) -> None:
        import torch  # takes a second, which one process without torch does not need

        self.serve_args = (setup, work, max(1, torch.get_num_threads() // count))
        self.queue, self.count = deque(items), count
        self.progress, self.on_death = progress, on_death
        self.workers: list[_Worker[Item]] = []

    def results(self) -> Iterator[tuple[Item, Result]]:
        try:
            self.workers += [_Worker(*self.serve_args) for _ in range(self.count)]
            while self.workers:
                ready = wait([worker.pipe for worker in self.workers])
                for worker in [worker for worker in self.workers if worker.pipe in ready]:
                    yield from self._receive(worker)
        finally:
            for worker in self.workers:
                worker.process.terminate()
                worker.pipe.close()  # it ends also if the signal is lost, such as in a callback
            for worker in self.workers:
                worker.process.join()

    def _receive(self, worker: _Worker[Item]) -> Iterator[tuple[Item, Result]]:
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._replace(worker)
            return
        if kind == "refused":
            raise UserError(value)
        if kind == "failed":
            raise RuntimeError(f"error in a worker process:\n{value}")
        if kind == "progress":
            self.progress(value)
            return
        worker.ready = True
        finished, worker.given = worker.given, []
        self._hand_out(worker)
        for item in finished:
            yield item, value

    def _hand_out(self, worker: _Worker[Item]) -> None:
        """Give a worker the next item, or let it end."""
        if self.queue:
            worker.given = [self.queue.popleft()]
            with suppress(OSError):  # if the worker has ended since, the next `recv` finds it
                worker.pipe.send(worker.given[0])
            return
        self.workers.remove(worker)
        worker.pipe.close()
        worker.process.join()

    def _replace(self, worker: _Worker[Item]) -> Iterator[tuple[Item, Result]]:
        """Start another process after one ended by itself."""
        worker.process.join()
        self.workers.remove(worker)
        code = worker.process.exitcode
        end = f"exit code {code} (out of memory?); give a smaller number of jobs"
        if not worker.ready:
            raise UserError(f"jobs={self.count}: a process did not start, {end}")
        if self.on_death is None:
            raise UserError(
                f"jobs={self.count}: a process was killed, {end}; finished work is kept"
            )
        if self.queue:
            self.workers.append(_Worker(*self.serve_args))
        for item in worker.given:
            yield item, self.on_death(item, code)


def _serve(
    pipe: Connection,
    setup: Callable[[], Any],
    work: Callable[[Any, Any, Progress], Any],
    threads: int,
) -> None:
    """Run a worker: prepare, then one item after the other until the pipe closes."""
    import torch

    signal.signal(signal.SIGTERM, _exit)
    torch.set_num_threads(threads)

    def send_progress(amount: float) -> None:
        pipe.send(("progress", amount))

    with suppress(EOFError, OSError):  # no more items, or the caller has ended
        kind, state = _attempt(setup)
        if kind != "done":
            pipe.send((kind, state))
            return
        pipe.send(("ready", None))
        while True:
            pipe.send(_attempt(work, state, pipe.recv(), send_progress))


def _attempt(call: Callable[..., Any], *args: Any) -> tuple[str, Any]:
    try:
        return "done", call(*args)
    except UserError as error:
        return "refused", str(error)
    except BrokenPipeError:  # the caller has ended
        raise
    except Exception:
        return "failed", traceback.format_exc()


def _exit(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that half-written files are removed on the way."""
    sys.exit(128 + number)


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Let a process start without reacting to Ctrl-C, which reaches the whole group."""
    if threading.current_thread() is not threading.main_thread():  # only it can set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ignore(amount: float) -> None:
    pass


# -- the lock of a folder --------------------------------------------------------------------------


# File systems that do not lock files: NFS without its lock service, some network disks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class FolderLock:
    """Lock of a folder, which is made if it is missing.

    On a file system without locks, an existing file is the lock. There the lock of a process that
    was killed is found on its own host only.

    Parameters
    ----------
    folder : str or path
        The folder.
    wait : bool
        Wait for another process; otherwise raise a `UserError`, which names it.

    Example
    -------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with FolderLock(folder):
    ...     FolderLock(folder, wait=False).acquire()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: ...: process ... writes into this folder; wait for it, ...
    """

    def __init__(self, folder: str | os.PathLike[str], wait: bool = True) -> None:
        self.path = Path(folder) / ".lock"
        self._wait = wait
        self._lock: BaseFileLock = FileLock(self.path)

    def __enter__(self) -> FolderLock:
        """Acquire the lock."""
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        """Release the lock."""
        self.release()

    def acquire(self) -> None:
        """Acquire the lock, unless this object has it.

        Raises
        ------
        UserError
            The folder can't be written to, or another process has the lock and `wait` is False.
        """
        if self._lock.is_locked:
            return
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
        except Timeout:
            raise UserError(
                f"{folder}: {self._holder()} writes into this folder; wait for it, or choose"
                " another folder"
            ) from None
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{folder}: can't be written to ({reason}); choose another folder"
            ) from error
        if not self._is_soft():  # which writes the same two lines itself
            with suppress(OSError):
                self.path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")

    def _acquire(self) -> None:
        try:
            self._lock.acquire(blocking=self._wait)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            with suppress(OSError):
                if self.path.stat().st_size == 0:  # made by the attempt; it would count as a lock
                    self.path.unlink()
            self._lock = SoftFileLock(self.path)
            self._lock.acquire(blocking=self._wait)

    def release(self) -> None:
        """Release the lock, if this object has it, and remove its file."""
        if self._lock.is_locked:
            # Removed while it is locked: a process that waits for this file then takes a new one.
            with suppress(OSError):
                self.path.unlink()
            self._lock.release()

    def _holder(self) -> str:
        try:
            process, host = self.path.read_text(encoding="utf-8").split("\n")[:2]
        except (OSError, ValueError):
            return "another process"
        stale = f" (if it has ended, delete {self.path})" if self._is_soft() else ""
        host = host.partition("?")[0]  # filelock adds the namespace of processes
        return f"process {process} on host {host}{stale}"

    def _is_soft(self) -> bool:
        return isinstance(self._lock, SoftFileLock)
