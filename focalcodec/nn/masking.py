"""Valid frames of a padded batch: the only place where lengths become masks."""

from __future__ import annotations

import torch
from torch import Tensor


def full_lengths(x: Tensor) -> Tensor:
    """Lengths of a batch without padding.

    Parameters
    ----------
    x : Tensor
        (B, N, ...), batch first, time second.

    Returns
    -------
    Tensor
        (B,) int64, every entry N.

    Example
    -------
    >>> full_lengths(torch.zeros(2, 5, 3))
    tensor([5, 5])
    """
    return torch.full((x.shape[0],), x.shape[1], dtype=torch.int64, device=x.device)


def valid_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Mask that is True on valid frames.

    Parameters
    ----------
    lengths : Tensor
        (B,) int64, valid frames of each item.
    max_length : int
        Frames of the padded batch, N.

    Returns
    -------
    Tensor
        (B, N) bool.

    Example
    -------
    >>> valid_mask(torch.tensor([1, 3]), 3)
    tensor([[ True, False, False],
            [ True,  True,  True]])
    """
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]


def zero_padding(x: Tensor, mask: Tensor) -> Tensor:
    """Set padded frames to exactly zero, NaN included.

    Parameters
    ----------
    x : Tensor
        (B, N) or (B, N, D).
    mask : Tensor
        (B, N) bool, True on valid frames.

    Returns
    -------
    Tensor
        Same shape as `x`.

    Example
    -------
    >>> zero_padding(torch.ones(1, 3), torch.tensor([[True, True, False]]))
    tensor([[1., 1., 0.]])
    """
    while mask.dim() < x.dim():
        mask = mask[..., None]
    return x.masked_fill(~mask, 0.0)


def fit_lengths(x: Tensor, lengths: Tensor) -> Tensor:
    """Cut each item to its length, or fill it up with zeros.

    Parameters
    ----------
    x : Tensor
        (B, T), zero beyond what each item has.
    lengths : Tensor
        (B,) int64.

    Returns
    -------
    Tensor
        (B, longest of `lengths`).

    Example
    -------
    >>> fit_lengths(torch.ones(2, 3), torch.tensor([4, 1]))
    tensor([[1., 1., 1., 0.],
            [1., 0., 0., 0.]])
    """
    longest = int(lengths.max())
    x = torch.nn.functional.pad(x, (0, max(0, longest - x.shape[1])))[:, :longest]
    return zero_padding(x, valid_mask(lengths, longest))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over time of valid frames only.

    Parameters
    ----------
    x : Tensor
        (B, N, D).
    mask : Tensor
        (B, N) bool, True on valid frames.

    Returns
    -------
    Tensor
        (B, 1, D).

    Example
    -------
    >>> masked_mean(torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[[3.]]])
    """
    total = zero_padding(x, mask).sum(dim=1, keepdim=True)
    return total / mask.sum(dim=1).clamp(min=1)[:, None, None]
