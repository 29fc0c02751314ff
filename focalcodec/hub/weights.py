"""Weights of a file: their values are checked before use, and they bound the memory of a model."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from focalcodec.errors import UserError

LARGEST = 2.0**64  # the product of two such values is infinite in float32
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU; their values are finite floats.

    Raises a `UserError` if the file is truncated or not safetensors, and as `check_values`.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    check_values(path, tensors)
    return tensors


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
