"""Valid frames of a padded batch: the only module that makes masks from lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from focalcodec.errors import UserError


def full_lengths(x: Tensor) -> Tensor:
    """Lengths (B,) int64 of a batch x (B, N, ...) without padding: N each."""
    return torch.full((x.shape[0],), x.shape[1], dtype=torch.int64, device=x.device)


def valid_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Mask (B, N) bool, True on valid frames, from lengths (B,) int64 and N = `max_length`.

    Example
    -------
    >>> valid_mask(torch.tensor([1, 3]), 3)
    tensor([[ True, False, False],
            [ True,  True,  True]])
    """
    check_tensor("lengths", lengths)
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]


def zero_padding(x: Tensor, mask: Tensor) -> Tensor:
    """Set padded frames of x (B, N) or (B, N, D) to exactly zero, NaN included; mask (B, N) bool.

    Example
    -------
    >>> zero_padding(torch.ones(1, 3), torch.tensor([[True, True, False]]))
    tensor([[1., 1., 0.]])
    """
    while mask.dim() < x.dim():
        mask = mask[..., None]
    return x.masked_fill(~mask, 0.0)


def fit_lengths(x: Tensor, lengths: Tensor) -> Tensor:
    """Cut each item of x (B, T) to its length (B,) int64, or fill it with zeros: (B, longest).

    x must be zero beyond the valid samples of each item.
    """
    longest = int(lengths.max())
    x = torch.nn.functional.pad(x, (0, max(0, longest - x.shape[1])))[:, :longest]
    return zero_padding(x, valid_mask(lengths, longest))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over time of the valid frames of x (B, N, D), mask (B, N) bool: (B, 1, D)."""
    total = zero_padding(x, mask).sum(dim=1, keepdim=True)  # (B, 1, D)
    return total / mask.sum(dim=1).clamp(min=1)[:, None, None]


def check_lengths(lengths: Tensor, x: Tensor, unit: str) -> None:
    """Raise a `UserError` if `lengths` are not (B,) int64 in 1..T for x (B, T)."""
    if lengths.shape != x.shape[:1] or lengths.dtype != torch.int64:
        raise UserError(
            f"lengths: {lengths.dtype} {tuple(lengths.shape)}; give int64 ({len(x)},), in {unit}"
        )
    if bool((lengths < 1).any()) or bool((lengths > x.shape[1]).any()):
        raise UserError(f"lengths: {lengths.tolist()}; each must be in 1..{x.shape[1]}")


def as_tensor(name: str, value: Any) -> Tensor:
    """Give a tensor as it is, and a copy of an array, a list or a number, integers as int64.

    Raises a `UserError`, which begins with `name`, if the values are not numbers.

    Example
    -------
    >>> as_tensor("lengths", [3, 2]), as_tensor("sig", np.zeros((1, 2), "float32"))
    (tensor([3, 2]), tensor([[0., 0.]]))
    """
    if isinstance(value, Tensor):
        return value
    try:
        array = np.array(value, order="C")
        kind = np.dtype(np.int64) if array.dtype.kind in "iu" else array.dtype.newbyteorder("=")
        return torch.from_numpy(array.astype(kind))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name}: {type(value).__name__}, not numbers of a regular shape; give a tensor, such"
            " as torch.from_numpy(array)"
        ) from error


def check_tensor(name: str, value: Any) -> None:
    """Raise a `UserError` if a value is not a tensor."""
    if not isinstance(value, Tensor):
        raise UserError(
            f"{name}: {type(value).__name__}; give a tensor, such as torch.from_numpy(array)"
        )
