"""Weights and configurations of others: their values are checked before use.

The number of the weights bounds the memory of the model that a configuration describes.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from focalcodec.errors import UserError, one_line

LARGEST = 2.0**64  # the product of two such values is infinite in float32
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of a `.pt` file, on the CPU; values are finite floats.

    Of a `.pt` file only tensors are read, no code. Raises a `UserError` if the file is truncated or
    of another format, and as `check_values`.
    """
    path = Path(path)
    try:
        tensors = _read_pickle(path) if path.suffix == ".pt" else load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    check_values(path, tensors)
    return tensors


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    # what a damaged file, or one with other things than tensors, raises depends on the damage
    except Exception as error:
        reason = one_line(error)
        raise UserError(f"{path}: truncated, or not tensors ({reason}); copy it again") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise UserError(f"{path}: not tensors by their names; give a file of a state_dict")
    return dict(tensors)


def check_values(source: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Check the weights of `source`, the file or folder that messages name.

    Raises a `UserError`, with the name of the tensor, for NaN, infinity, a value of 2^64 or more,
    and numbers that are not float64, float32, float16 or bfloat16. One integer alone is a counter,
    and is allowed.

    Example
    -------
    >>> check_values("a.safetensors", {"bias": torch.tensor([1.0, torch.inf])})
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: a.safetensors: bias has NaN or infinite values; copy it again, or \
take an earlier checkpoint
    """
    for name, tensor in tensors.items():
        problem = "" if tensor.numel() == 0 else _problem(tensor)
        if problem:
            raise UserError(
                f"{source}: {shown(name)} {problem}; copy it again, or take an earlier checkpoint"
            )


def _problem(tensor: Tensor) -> str:
    if tensor.dtype not in FLOATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        return f"is {kind}, where floats belong" if tensor.numel() > 1 else ""
    low, high = (float(value) for value in tensor.aminmax())
    if -LARGEST < low and high < LARGEST:  # false for NaN
        return ""
    if abs(low) < torch.inf and abs(high) < torch.inf:
        return f"has a value of {max(-low, high):.1e}, which overflows (2^64 or more)"
    return "has NaN or infinite values"


def shown(name: str) -> str:
    """Name of a tensor in a message: one line, and not long, whatever the file has."""
    return name if name.isprintable() and len(name) <= 200 else reprlib.repr(name)


class AtMost(TorchFunctionMode):
    """Inside `with`, a model can't have more values than the files with its weights.

    So a configuration that does not belong to the weights is found before its memory is taken. It
    is an error from twice the number of the files on, because a model may have values that a file
    lacks. Raises a `UserError` that names the first file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._path = paths[0]
        self._values = sum(_count(path) for path in paths)
        self._left = 2 * self._values + 2**16

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES:
            self._left -= func(*args, **{**kwargs, "device": "meta"}).numel()
            if self._left < 0:
                raise UserError(
                    f"describes a model of more than the {self._values} values of {self._path};"
                    " copy both files again"
                )
        return func(*args, **kwargs)


def check_types(paths: Sequence[Path]) -> None:
    """Check the headers of safetensors files, before another package reads and casts the tensors.

    Raises a `UserError` as `check_values` for numbers that are not floats.
    """
    for path in paths:
        for name, (kind, size) in _header(path).items():
            if kind not in ("F64", "F32", "F16", "BF16") and size > 1:
                raise UserError(
                    f"{path}: {shown(name)} is {kind}, where floats belong; copy it again"
                )


def _count(path: Path) -> int:
    """Number of values of a file of weights; of a pickle, the most that it can have."""
    if path.suffix != ".safetensors":
        return path.stat().st_size // 2
    return sum(size for _, size in _header(path).values())


def _header(path: Path) -> dict[str, tuple[str, int]]:
    """Type and number of values of each tensor of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    return {name: (part.get_dtype(), math.prod(part.get_shape())) for name, part in slices.items()}


def _unreadable(path: str | os.PathLike[str], error: Exception) -> UserError:
    return UserError(f"{path}: truncated or not safetensors ({error}); copy it again")


# -- values of configurations ----------------------------------------------------------------------


# Far from those of any model: a larger number is refused before memory is taken for it.
_MOST = dict.fromkeys(("num_layers", "num_hidden_layers", "encoder_layers", "decoder_layers"), 1000)
_MOST |= {"focal_level": 100, "n_mels": 1024, "num_mel_bins": 1024, "n_fft": 8192}
_MOST |= {"sample_rate": 384_000}
_MOST_OTHERS = 2**24
_LEAST = dict.fromkeys(("num_layers", "layer", "focal_level", "focal_factor", "lookahead_size"), 0)
_LEAST |= {"pad_token_id": 0, "max_cached_steps": 0, "dead_below": 0}
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
