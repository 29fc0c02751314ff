"""Names on a command line: an empty one is refused, and after `--` one may begin with a dash."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from focalcodec.errors import UserError

_MAY_BE_EMPTY = ("--special", "--language")
_MARK = "\0"  # no argument of a process contains it


def check_not_empty(words: Sequence[str], keys: bool = False) -> None:
    """Refuse an empty word: as a path it would be the current folder.

    With `keys`, unknown options are keys of a YAML, which may be empty.

    Example
    -------
    >>> check_not_empty(["--special", "", "a.wav"])
    >>> check_not_empty(["", "out"])
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: '': argument 1 is empty; give a name, or check the shell's variable
    """
    for number, (before, word) in enumerate(pairwise(["", *words]), start=1):
        option, equals, value = word.partition("=")
        if word and not (word.startswith("--") and equals and not value):
            continue
        name = option if word else before
        if not (name in _MAY_BE_EMPTY or (keys and name.startswith("--"))):
            after = f" (of {name})" if name.startswith("--") else ""
            raise UserError(
                f"'': argument {number}{after} is empty; give a name, or check the shell's variable"
            )


def mark_names(words: Sequence[str]) -> list[str]:
    """Mark the words after `--` that begin with a dash, so that argparse takes them for names."""
    end = words.index("--") if "--" in words else len(words)
    names = [_MARK + word if word.startswith("-") else word for word in words[end + 1 :]]
    return [*words[: end + 1], *names]


def plain_names(args: argparse.Namespace) -> argparse.Namespace:
    """Remove the marks of `mark_names` from the parsed arguments."""
    return argparse.Namespace(**{name: _plain(value) for name, value in vars(args).items()})


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.removeprefix(_MARK) if isinstance(value, str) else value
