"""The one exception for all errors that a user can correct."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input, in one line: the file or argument, its value, and the way out.

    All of this package raises it for a file, an argument, a configuration or a checkpoint that it
    can't use, so that scripts can print the line without the traceback.

    Example
    -------
    >>> raise UserError("clip.wav: 0 samples; remove it from the manifest")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: clip.wav: 0 samples; remove it from the manifest
    """
