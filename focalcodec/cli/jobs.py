"""Work on many files, in one or several processes, with a progress bar and an exit code.

A command gives two functions of its module, which worker processes import:

* `setup(args) -> state` loads what all files need, once in each process. Its `UserError` ends the
  run.
* `work(state, job, progress) -> Made` writes the output of one file, and calls `progress(seconds)`
  when a piece of audio is done. An error is reported in one line; the other files continue.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import soundfile

from focalcodec.audio_files import AudioFile
from focalcodec.cli.main import DONE, SOME_FAILED, say
from focalcodec.cli.paths import Job
from focalcodec.errors import UserError
from focalcodec.processes import Progress, in_processes
from focalcodec.progress import ProgressBar

State = TypeVar("State")


class Made(NamedTuple):
    """Output of one file: seconds of audio, and bits of its tokens."""

    seconds: float
    bits: int


class Attempt(NamedTuple):
    """What became of one file: a problem in one line, or what was made in how many seconds."""

    problem: str = ""
    made: Made = Made(0.0, 0)
    took: float = 0.0


Work: TypeAlias = Callable[[State, Job, Progress], Made]


def run_jobs(
    args: argparse.Namespace,
    jobs: Sequence[Job],
    setup: Callable[[argparse.Namespace], State],
    work: Work[State],
    seconds: Callable[[Path], float] | None = None,
    prepare: Callable[[argparse.Namespace], None] | None = None,
) -> int:
    """Write all outputs that do not exist yet, and return the exit code.

    Parameters
    ----------
    args : argparse.Namespace
        Has `out` of `paths.add_path_arguments`, and `jobs`, `overwrite` and `quiet` of
        `options.add_job_options`.
    jobs : sequence of Job
        Result of `paths.plan_jobs`.
    setup, work : callable
        See the docstring of this module.
    seconds : callable, optional
        Returns the duration of a source from its path, for the bar. Default: that of audio files.
    prepare : callable, optional
        Called once before any `setup`, if there is work.
    """
    todo, existing = _split_existing(args, jobs)
    if not todo:
        return DONE
    if prepare is not None:
        prepare(args)
    attempts: list[Attempt] = []
    with _bar(args, todo, seconds or _audio_seconds) as bar:
        results = in_processes(
            partial(setup, args),
            partial(attempt, work),
            todo,
            args.jobs,
            progress=bar.update,
            on_death=_death,
        )
        with closing(results):  # on Ctrl-C, it ends the processes
            for _, done in results:
                attempts.append(done)
                if done.problem:
                    with bar.external_write_mode(file=sys.stderr):  # above the bar
                        say(f"error: {done.problem}")
    failed = sum(bool(done.problem) for done in attempts)
    if not args.quiet and (len(jobs) > 1 or not failed):
        each = " in each process" if args.jobs > 1 else ""
        counts = f"{len(todo) - failed} done, {len(existing)} skipped, {failed} failed"
        made = [counts] if len(jobs) > 1 else []
        if failed < len(todo):
            made.append(f"{_totals(attempts)}{each}")
        say(f"{_place(args, jobs)}: {'; '.join(made)}")
    return SOME_FAILED if failed else DONE


def _place(args: argparse.Namespace, jobs: Sequence[Job]) -> str:
    if len(jobs) > 1:
        return args.out
    return "standard output" if jobs[0].target is None else str(jobs[0].target)


def _totals(attempts: Sequence[Attempt]) -> str:
    """Seconds of audio, kbit/s of the tokens, and processing time / audio time."""
    seconds = sum(done.made.seconds for done in attempts)
    kbits = sum(done.made.bits for done in attempts) / 1000
    factor = sum(done.took for done in attempts) / seconds
    return f"{seconds:.2f} s of audio, {kbits / seconds:.3g} kbit/s, real-time factor {factor:.3g}"


def attempt(work: Work[State], state: State, job: Job, progress: Progress) -> Attempt:
    """Work on one file; its error is a problem in one line.

    Example
    -------
    >>> def work(state, job, progress):
    ...     raise UserError("sig: empty")
    >>> attempt(work, None, Job(Path("a.wav"), None), print).problem
    'a.wav: sig: empty'
    """
    start = time.perf_counter()
    try:
        made = work(state, job, progress)
    except BrokenPipeError:
        raise
    except Exception as error:
        return Attempt(_problem(job, error))
    return Attempt("", made, time.perf_counter() - start)


def _problem(job: Job, error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error) if job.name in str(error) else f"{job.name}: {error}"
    if isinstance(error, OSError):
        return _os_problem(job, error)
    if isinstance(error, soundfile.SoundFileError):
        reason = str(getattr(error, "error_string", error)).rstrip(". ")
        return f"{job.target}: can't be written ({reason}); check folder and disk"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return f"{job.name}: not enough memory; give a smaller --window_seconds"
    # A bug in this program: the other files continue, and the report needs the whole traceback.
    trace = "".join(traceback.format_exception(error))
    return f"{job.name}: unexpected error, please report it:\n{trace}"


def _os_problem(job: Job, error: OSError) -> str:
    place = Path(error.filename) if isinstance(error.filename, str) else job.target
    if place is not None and place.name.startswith("."):  # the temporary file next to the target
        place = job.target
    return f"{place or f'{job.name} to standard output'}: {error.strerror or error}"


def _death(job: Job, code: int | None) -> Attempt:
    return Attempt(f"{job.name}: its process ended with exit code {code} (out of memory?)")


def _split_existing(args: argparse.Namespace, jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Jobs to do, and jobs with existing outputs, which are kept."""
    todo: list[Job] = []
    existing: list[Job] = []
    for job in jobs:
        kept = not args.overwrite and job.target is not None and job.target.is_file()
        (existing if kept else todo).append(job)
    if existing and not args.quiet:
        names = f"{existing[0].target}" + (f" and {len(existing) - 1} more" if existing[1:] else "")
        say(f"skipped, because it exists: {names} (--overwrite replaces it)")
    return todo, existing


def _audio_seconds(path: Path) -> float:
    with AudioFile(path) as file:
        return file.count() / file.sample_rate


def _bar(
    args: argparse.Namespace, jobs: Sequence[Job], seconds: Callable[[Path], float]
) -> ProgressBar:
    # the lengths of all files are read only if the bar is shown
    shown = not args.quiet and jobs[0].source is not None
    total = 0.0
    for job in jobs if shown else ():
        try:
            total += seconds(job.source) if job.source else 0.0
        except (UserError, OSError):
            continue  # it is reported when the file is read
    return ProgressBar(what=args.command, total=total, unit="s of audio", show=shown)
