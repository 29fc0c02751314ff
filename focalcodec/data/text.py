"""Text files that people write: lists of paths, transcripts, tables."""

from __future__ import annotations

import os
from pathlib import Path

from focalcodec.errors import UserError


def read_text(path: str | os.PathLike[str], errors: str = "strict") -> str:
    """Read a UTF-8 file, with or without a byte-order mark; its line ends stay as they are.

    `errors` is that of `bytes.decode`: "surrogateescape" keeps names of files that are not UTF-8.
    Raises `UserError` if the file can't be read, or is not UTF-8 text, as UTF-16 of PowerShell.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); copy it again") from error
    if b"\0" in content:
        raise UserError(f"{path}: not UTF-8 (it has NUL bytes, as UTF-16 has); save it as UTF-8")
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save it as UTF-8") from error


def split_lines(text: str) -> list[str]:
    r"""Lines of a text, which end in \n or \r\n; no other character ends a line.

    `str.splitlines` would also split at characters that names and transcripts may contain.

    Example
    -------
    >>> split_lines("a\u2028b\r\nc\x0b\n")
    ['a\u2028b', 'c\x0b']
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines
