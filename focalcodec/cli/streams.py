"""Standard output and standard error: closed ones, and names that they can't encode."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from focalcodec.errors import UserError


def ready_streams() -> None:
    r"""Let `print` write any name, and let it write nothing where a stream is closed.

    A character that a stream can't encode is written as an escape, such as `\udcef`.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # The file takes the stream's number, so no other file that is opened later gets it.
            file = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")
            os.set_inheritable(file.fileno(), True)
            setattr(sys, name, file)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a message on standard error; if this is full or closed, the work goes on."""
    try:
        print(f"focalcodec: {line}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def flush_output() -> None:
    """Write what is left; an error of standard output is raised here, not when Python ends."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        raise OSError(error.errno, error.strerror, "standard output") from error


def _discard(stream: TextIO) -> None:
    """Let a stream that failed succeed when Python flushes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_open_output() -> None:
    """`UserError` if standard output can't take a file: it is closed, or a terminal."""
    if getattr(sys.stdout, "name", "") == os.devnull:
        raise UserError("-: standard output is closed; send it to a file or a program")
    if sys.stdout.isatty():
        raise UserError("-: standard output is a terminal; send it to a file or a program")
