"""The one exception for all errors that a user can correct."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input, in one line: the file or argument, its value, and the way out.

    The package raises it for a file, an argument, a configuration or a checkpoint that it can't
    use, so that scripts can print the line without the traceback.
    """
