"""Many files, one after the other or in several processes, with a bar and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from focalcodec.audio import audio_info
from focalcodec.cli.files import Job
from focalcodec.cli.main import DONE, SOME_FAILED
from focalcodec.cli.pool import run_in_processes
from focalcodec.cli.work import Setup, Work, attempt
from focalcodec.errors import UserError

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"


def run_jobs(
    args: argparse.Namespace,
    jobs: Sequence[Job],
    setup: Setup,
    work: Work,
    seconds: Callable[[Path], float] | None = None,
    prepare: Callable[[argparse.Namespace], None] | None = None,
) -> int:
    """Make all files whose targets are not there yet.

    Parameters
    ----------
    args : argparse.Namespace
        With what `options.add_job_options` added: `jobs`, `overwrite`, `quiet`.
    jobs : sequence of Job
        From `files.plan_jobs`.
    setup, work : callable
        Of the command's module, see `work`.
    seconds : callable, optional
        Duration of a source, for the bar; default that of an audio file.
    prepare : callable, optional
        Called once, where there is work, before `setup` is in any process.

    Returns
    -------
    int
        Exit code: 0, or 1 when a file failed.

    Raises
    ------
    UserError
        From `setup` or `prepare`.
    """
    todo, there = _share_out(args, jobs)
    if not todo:
        return DONE
    if prepare is not None:
        prepare(args)
    failed: list[Job] = []
    with _bar(args, todo, seconds or _audio_seconds) as bar:

        def finish(job: Job, problem: str) -> None:
            if problem:
                failed.append(job)
                with bar.external_write_mode(file=sys.stderr):
                    _say(f"error: {problem}")

        count = min(args.jobs, len(todo))
        if count > 1:
            run_in_processes(args, todo, setup, work, count, bar.update, finish)
        else:
            state = setup(args)
            for job in todo:
                finish(job, attempt(work, state, job, bar.update))
    if len(jobs) > 1 and not args.quiet:
        done = len(todo) - len(failed)
        _say(f"{done} done, {len(there)} skipped, {len(failed)} failed")
    return SOME_FAILED if failed else DONE


def _share_out(args: argparse.Namespace, jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Jobs to do, and those whose targets are there and stay."""
    todo: list[Job] = []
    there: list[Job] = []
    for job in jobs:
        kept = not args.overwrite and job.target is not None and job.target.is_file()
        (there if kept else todo).append(job)
    if there and not args.quiet:
        names = f"{there[0].target}" + (f" and {len(there) - 1} more" if there[1:] else "")
        _say(f"skipped, for it is there already: {names} (--overwrite makes it anew)")
    return todo, there


def _audio_seconds(path: Path) -> float:
    return audio_info(path).seconds


def _bar(args: argparse.Namespace, jobs: Sequence[Job], seconds: Callable[[Path], float]) -> tqdm:
    shown = not args.quiet and sys.stderr.isatty() and jobs[0].source is not None
    total = 0.0
    for job in jobs if shown else ():
        try:
            total += seconds(job.source) if job.source else 0.0
        except (UserError, OSError):
            continue  # it will be told when its turn comes
    return tqdm(desc=args.command, total=total, disable=not shown, bar_format=_BAR)


def _say(line: str) -> None:
    print(f"focalcodec: {line}", file=sys.stderr, flush=True)
