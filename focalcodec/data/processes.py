"""Work that is shared out to processes, each of which keeps what it made to do its share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

from focalcodec.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Sequence[Item]], Iterator[Result]], items: Sequence[Item], jobs: int
) -> Iterator[Result]:
    """Results of a share of the items from each process, as they come.

    Parameters
    ----------
    work : callable
        A share -> results, one an item; made of what can be pickled.
    items : sequence
        All.
    jobs : int
        Processes; 1 works in this one.

    Yields
    ------
    Result
        In no order, if there are several processes.

    Raises
    ------
    UserError
        `jobs` is below 1; one that `work` raised; a process was killed.

    Example
    -------
    >>> list(in_processes(iter, [1, 2, 3], jobs=1))
    [1, 2, 3]
    """
    if jobs < 1:
        raise UserError(f"jobs={jobs}: give 1 or more processes")
    shares = [items[k::jobs] for k in range(min(jobs, len(items)))]
    if len(shares) < 2:
        yield from work(items)
        return
    missing = len(items)
    for result in _results(work, shares):
        missing -= 1
        yield result
    if missing:
        raise UserError("a process was killed; give the same command to go on")


def _results(
    work: Callable[[Sequence[Item]], Iterator[Result]], shares: Sequence[Sequence[Item]]
) -> Iterator[Result]:
    # A forked process would inherit the locks of this one's threads.
    context = get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    for share in shares:
        ours, theirs = context.Pipe(duplex=False)
        processes.append(context.Process(target=_send, args=(theirs, work, share), daemon=True))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    try:
        while pipes:
            for pipe in cast("list[Connection]", wait(pipes)):
                try:
                    result, problem = pipe.recv()
                except EOFError:
                    pipes.remove(pipe)
                    continue
                if problem:
                    raise UserError(problem)
                yield result
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _send(pipe: Connection, work: Callable[[Any], Iterator[Any]], share: Any) -> None:
    try:
        for result in work(share):
            pipe.send((result, ""))
    except UserError as error:
        pipe.send((None, str(error)))
    pipe.close()
