"""The work on one file, and how its faults are told.

A command gives two functions of its module (processes find them by name):

* `setup(args) -> state` loads what all files need, once in each process; its `UserError` ends the
  run.
* `work(state, job, progress) -> None` makes one file, and calls `progress(seconds)` as audio is
  done. What it raises is told in one line, and the other files go on.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import soundfile
import torch

from focalcodec.cli.files import Job
from focalcodec.errors import UserError

Progress: TypeAlias = Callable[[float], object]
Setup: TypeAlias = Callable[[argparse.Namespace], Any]
Work: TypeAlias = Callable[[Any, Job, Progress], None]


def attempt(work: Work, state: Any, job: Job, progress: Progress) -> str:
    """Make one file, and tell what went wrong; empty when nothing did.

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
        # a fault of ours: the other files need not suffer, and whoever reads it wants it whole
        return f"{job.name}: not expected, please report it:\n{traceback.format_exc()}"
    return ""


def _os_problem(job: Job, error: OSError) -> str:
    place = Path(error.filename) if isinstance(error.filename, str) else job.target
    if place is not None and place.name.startswith("."):  # the temporary file beside the target
        place = job.target
    return f"{place or f'{job.name} to standard output'}: {error.strerror or error}"
