"""The exception for all errors that a user can correct, and errors of others in one line."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input, in one line: the file or argument, its value, and what the user can do.

    The package raises it if it can't use a file, an argument, a configuration or a checkpoint.
    Scripts can print the line without the traceback.
    """


class WriteError(UserError):
    """A file can't be written: the disk is full, or the folder is read-only."""


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
