"""Greedy decoding of CTC: the most probable symbol of each frame."""

from __future__ import annotations

import torch
from torch import Tensor

from focalcodec.probes.lengths import check_lengths


def decode_greedily(
    log_probs: Tensor, lengths: Tensor | None = None, blank: int = 0
) -> list[list[int]]:
    """Take each frame's most probable symbol, drop repetitions, then drop blanks.

    Source: Graves et al., "Connectionist temporal classification" (2006), section 3.2.

    Parameters
    ----------
    log_probs : Tensor
        (B, N, V).
    lengths : Tensor, optional
        (B,) int64, valid frames; None if all are.
    blank : int
        The symbol that means none.

    Returns
    -------
    list of list of int
        Symbols of each clip.

    Example
    -------
    >>> frames = torch.tensor([[1, 1, 0, 1, 2, 2, 0]])
    >>> decode_greedily(torch.nn.functional.one_hot(frames).log())
    [[1, 1, 2]]
    """
    lengths = check_lengths(log_probs, lengths)
    best = log_probs.argmax(dim=2).cpu()
    runs = [torch.unique_consecutive(x[:n]) for x, n in zip(best, lengths.tolist(), strict=True)]
    return [run[run != blank].tolist() for run in runs]
