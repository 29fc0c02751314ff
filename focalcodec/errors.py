"""The one exception for everything a user can put right."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input, told in one line: the file or argument, its value, and the way out.

    Everything in this package that refuses a file, an argument, a configuration or a
    checkpoint raises it, so that scripts can show the line and leave out the traceback.

    Example
    -------
    >>> raise UserError("clip.wav: 0 samples; remove it from the manifest")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: clip.wav: 0 samples; remove it from the manifest
    """
