"""Values in configurations of others: their types and bounds."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from focalcodec.errors import UserError

# Far from those of any model: a larger number is refused before memory is taken for it.
_MOST = dict.fromkeys(("num_layers", "num_hidden_layers", "encoder_layers", "decoder_layers"), 1000)
_MOST |= {"focal_level": 100, "n_mels": 1024, "num_mel_bins": 1024, "n_fft": 8192}
_MOST |= {"sample_rate": 384_000}
_MOST_OTHERS = 2**24
_LEAST = dict.fromkeys(("num_layers", "layer", "focal_level", "focal_factor", "lookahead_size"), 0)
_LEAST |= {"pad_token_id": 0}
_MOST_ENTRIES = 100


def check_arguments(prefix: str, values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Check values of a JSON file against annotations; keys without one are not checked.

    Raises a `UserError`, which begins with `prefix`, for a value of another type, an integer that
    no model has, or a number that is not finite.

    Example
    -------
    >>> check_arguments("decoder_config: ", {"dim": "wide"}, {"dim": int})
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: decoder_config: dim='wide'; give an integer from 1 to 16777216
    """
    for key, value in values.items():
        if key in hints and not _fits(hints[key], key, value):
            wanted = _wanted(hints[key], key)
            raise UserError(f"{prefix}{key}={reprlib.repr(value)}; give {wanted}")


def _fits(hint: Any, key: str, value: Any) -> bool:
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is UnionType:
        return any(_fits(one, key, value) for one in arguments)
    if kind is Literal:
        return any(value is one or (isinstance(one, str) and value == one) for one in arguments)
    if kind is Sequence:
        listed = isinstance(value, (list, tuple)) and len(value) <= _MOST_ENTRIES
        return listed and all(_fits(arguments[0], key, one) for one in value)
    if kind is Mapping:
        return isinstance(value, Mapping)
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is int and isinstance(value, int):
        return _LEAST.get(key, 1) <= value <= _MOST.get(key, _MOST_OTHERS)
    if hint is float and isinstance(value, (int, float)):
        return -1e30 < value < 1e30  # false for NaN
    return isinstance(value, hint)


def _wanted(hint: Any, key: str) -> str:
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is UnionType:
        return " or ".join(_wanted(one, key) for one in arguments)
    if kind is Literal:
        return " or ".join("null" if one is None else str(one) for one in arguments)
    if kind is Sequence:
        return f"a list, at most {_MOST_ENTRIES} long, each {_wanted(arguments[0], key)}"
    integer = f"an integer from {_LEAST.get(key, 1)} to {_MOST.get(key, _MOST_OTHERS)}"
    names = {int: integer, float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint, "null" if hint is type(None) else "an object")
