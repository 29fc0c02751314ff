"""What every probe asks of its input before it looks at it."""

from __future__ import annotations

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding


def check_frames(x: Tensor, lengths: Tensor | None, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames whose padding is zero, with their lengths and their mask.

    Parameters
    ----------
    x : Tensor
        (B, N, dim); what stands in the padding does not matter, NaN included.
    lengths : Tensor or None
        (B,) int64, valid frames; None if all are.
    dim : int
        Width that x must have.

    Returns
    -------
    tuple of Tensor
        x (B, N, dim), lengths (B,) int64 and mask (B, N) bool, True on valid frames.

    Raises
    ------
    UserError
        x has another shape, or a length is not in 1..N.

    Example
    -------
    >>> x, lengths, mask = check_frames(torch.ones(1, 3, 2), torch.tensor([2]), dim=2)
    >>> x.sum(dim=2), mask
    (tensor([[2., 2., 0.]]), tensor([[ True,  True, False]]))
    """
    if x.dim() != 3 or x.shape[2] != dim:
        raise UserError(f"x: shape {tuple(x.shape)}; give (batch, frames, {dim})")
    lengths = check_lengths(x, lengths)
    mask = valid_mask(lengths, x.shape[1])
    return zero_padding(x, mask), lengths, mask


def check_lengths(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Lengths (B,) int64 of x (B, N, ...), each in 1..N; None stands for N.

    Raises
    ------
    UserError
        They are not: a clip without frames has no answer.

    Example
    -------
    >>> check_lengths(torch.zeros(2, 5), None)
    tensor([5, 5])
    """
    if lengths is None:
        lengths = full_lengths(x)
    if lengths.shape != x.shape[:1] or lengths.dtype != torch.int64:
        raise UserError(
            f"lengths: {lengths.dtype} {tuple(lengths.shape)}; give int64 ({len(x)},), in frames"
        )
    if bool((lengths < 1).any()) or bool((lengths > x.shape[1]).any()):
        raise UserError(f"lengths: {lengths.tolist()}; each must be in 1..{x.shape[1]}")
    return lengths
