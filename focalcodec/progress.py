"""Progress of long work on standard error: a bar on a terminal, a line at intervals elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm

from focalcodec.errors import UserError

INTERVAL = "FOCALCODEC_PROGRESS_SECONDS"
"""Environment variable: seconds between two lines, by default 60."""

BAR = "{desc}{percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}]"
LINE = "{desc}{n_fmt} of {total_fmt} {unit}, {percentage:.0f} %, {elapsed} passed, {remaining} left"


class ProgressBar(tqdm):
    """The bar of tqdm; where standard error is a file or a pipe, a line every minute.

    Work that ends within the first minute writes no line. The interval between two lines is set by
    the environment variable `FOCALCODEC_PROGRESS_SECONDS`. Times are those of a monotonic clock.

    Parameters
    ----------
    iterable : iterable, optional
        Items to work on; without it, call `update`.
    what : str
        Name of the work, at the start of the line.
    total : float, optional
        Amount of work; by default the length of `iterable`. It may be changed later.
    unit : str
        What is counted, in plural, such as "clips".
    show : bool
        False: nothing is written.
    leave : bool
        Whether the bar stays on the terminal when the work ends.
    bar, line : str
        `bar_format` of tqdm on a terminal, and elsewhere.

    Raises
    ------
    UserError
        The environment variable is not a number of seconds.

    Example
    -------
    >>> with ProgressBar(what="encode", total=3.0, unit="s of audio") as bar:
    ...     _ = bar.update(1.5)
    >>> sum(ProgressBar([1, 2, 3], "clips", unit="clips"))
    6
    """

    # tqdm's thread redraws bars whose work became slow. It compares other clocks than ours.
    monitor_interval = 0

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        what: str = "",
        total: float | None = None,
        *,
        unit: str = "",
        show: bool = True,
        leave: bool = True,
        bar: str = BAR,
        line: str = LINE,
    ) -> None:
        options: dict[str, Any] = {"bar_format": bar, **_width(sys.stderr)}
        if not _is_terminal(sys.stderr):
            seconds = line_interval()
            options = {
                "bar_format": line,
                "file": _Lines(sys.stderr),
                "mininterval": seconds,
                "delay": seconds,
                "miniters": 0,
                "smoothing": 0.0,
                "position": 0,
            }
        show = show and sys.stderr is not None
        super().__init__(
            iterable,
            what and f"{what}: ",
            total,
            unit=unit,
            leave=leave,
            disable=not show,
            **options,
        )
        if show:
            self._time = time.monotonic
            self.start_t = self.last_print_t = self._time()

    @property
    def format_dict(self) -> Any:
        """What the formats show: counts of seconds or hours have one decimal."""
        shown = super().format_dict
        return {**shown, "n": _rounded(shown["n"]), "total": _rounded(shown["total"])}


class _Lines:
    """A file that gets whole lines instead of a bar that is drawn again and again."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._last = file, ""

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last:  # tqdm writes the last line again when it closes
            self._last = line
            with suppress(OSError):  # a full disk must not stop the work
                self._file.write(f"{line}\n")

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def line_interval() -> float:
    """Seconds between two lines: `FOCALCODEC_PROGRESS_SECONDS`, or 60.

    Example
    -------
    >>> line_interval()
    60.0
    """
    given = os.environ.get(INTERVAL, "60")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0.0:
        raise UserError(f"{INTERVAL}={given}: give a number of seconds, 0 or more")
    return seconds


def _is_terminal(file: TextIO | None) -> bool:
    return file is not None and not file.closed and file.isatty()


def _width(file: TextIO | None) -> dict[str, Any]:
    """Options of tqdm for the size: that of the terminal, or 80 columns where it tells none."""
    try:
        known = file is not None and os.get_terminal_size(file.fileno()).columns > 0
    except (OSError, ValueError):
        known = False
    return {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": 24}


def _rounded(amount: float | None) -> float | None:
    return round(amount, 1) if isinstance(amount, float) else amount
