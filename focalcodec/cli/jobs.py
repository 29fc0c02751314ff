"""Work on many files, in one or several processes, with a progress bar and an exit code.

A command gives two functions of its module, which worker processes import:

* `setup(args) -> state` loads what all files need, once in each process. Its `UserError` ends the
  run.
* `work(state, job, progress) -> None` writes the output of one file, and calls `progress(seconds)`
  when a piece of audio is done. An error is reported in one line; the other files continue.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import soundfile
import torch
from tqdm import tqdm

from focalcodec.audio import audio_info
from focalcodec.cli.main import DONE, SOME_FAILED
from focalcodec.cli.paths import Job
from focalcodec.errors import UserError
from focalcodec.processes import Progress, in_processes

State = TypeVar("State")
Work: TypeAlias = Callable[[State, Job, Progress], None]

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"


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
        Has `jobs`, `overwrite` and `quiet` of `options.add_job_options`.
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
    failed = 0
    with _bar(args, todo, seconds or _audio_seconds) as bar:
        results = in_processes(
            partial(setup, args),
            partial(attempt, work),
            todo,
            args.jobs,
            progress=bar.update,
            on_death=_death_problem,
        )
        with closing(results):  # on Ctrl-C, it ends the processes
            for _, problem in results:
                if problem:
                    failed += 1
                    with bar.external_write_mode(file=sys.stderr):  # above the bar
                        _say(f"error: {problem}")
    if len(jobs) > 1 and not args.quiet:
        _say(f"{len(todo) - failed} done, {len(existing)} skipped, {failed} failed")
    return SOME_FAILED if failed else DONE


def attempt(work: Work[State], state: State, job: Job, progress: Progress) -> str:
    """Work on one file; return its problem in one line, or an empty string.

    Example
    -------
    >>> def work(state, job, progress):
    ...     raise UserError("sig: empty")
    >>> attempt(work, None, Job(Path("a.wav"), None), print)
    'a.wav: sig: empty'
    """
    try:
        work(state, job, progress)
    except UserError as error:
        return str(error) if job.name in str(error) else f"{job.name}: {error}"
    except BrokenPipeError:
        raise
    except OSError as error:
        return _os_problem(job, error)
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).rstrip(". ")
        return f"{job.target}: can't be written ({reason}); check folder and disk"
    except (MemoryError, torch.OutOfMemoryError):
        return f"{job.name}: not enough memory; give a smaller --window_seconds"
    except Exception:
        # A bug in this program: the other files continue, and the report needs the whole traceback.
        return f"{job.name}: unexpected error, please report it:\n{traceback.format_exc()}"
    return ""


def _os_problem(job: Job, error: OSError) -> str:
    place = Path(error.filename) if isinstance(error.filename, str) else job.target
    if place is not None and place.name.startswith("."):  # the temporary file next to the target
        place = job.target
    return f"{place or f'{job.name} to standard output'}: {error.strerror or error}"


def _death_problem(job: Job, code: int | None) -> str:
    return f"{job.name}: its process ended with exit code {code} (out of memory?)"


def _split_existing(args: argparse.Namespace, jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """Jobs to do, and jobs with existing outputs, which are kept."""
    todo: list[Job] = []
    existing: list[Job] = []
    for job in jobs:
        kept = not args.overwrite and job.target is not None and job.target.is_file()
        (existing if kept else todo).append(job)
    if existing and not args.quiet:
        names = f"{existing[0].target}" + (f" and {len(existing) - 1} more" if existing[1:] else "")
        _say(f"skipped, because it exists: {names} (--overwrite replaces it)")
    return todo, existing


def _audio_seconds(path: Path) -> float:
    return audio_info(path).seconds


def _bar(args: argparse.Namespace, jobs: Sequence[Job], seconds: Callable[[Path], float]) -> tqdm:
    # the lengths of all files are read only if the bar is shown
    shown = not args.quiet and sys.stderr.isatty() and jobs[0].source is not None
    total = 0.0
    for job in jobs if shown else ():
        try:
            total += seconds(job.source) if job.source else 0.0
        except (UserError, OSError):
            continue  # it is reported when the file is read
    return tqdm(desc=args.command, total=total, disable=not shown, bar_format=_BAR)


def _say(line: str) -> None:
    print(f"focalcodec: {line}", file=sys.stderr, flush=True)
