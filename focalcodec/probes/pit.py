"""Permutation-invariant cross entropy: which head says which speaker is the probe's to choose."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.nn.masking import masked_mean, valid_mask, zero_padding
from focalcodec.probes.lengths import check_lengths


class PermutedLoss(NamedTuple):
    """Loss of each clip under its best permutation."""

    loss: Tensor
    """(B,) nats a token: mean over valid frames, streams and targets."""
    order: Tensor
    """(B, S) int64: head s says target `order[:, s]`."""


def permuted_cross_entropy(
    logits: Tensor, toks: Tensor, lengths: Tensor | None = None
) -> PermutedLoss:
    """Cross entropy of each clip, under the pairing of heads and targets that suits it best.

    Source: Kolbaek et al., "Multitalker speech separation with utterance-level permutation
    invariant training", arXiv 1703.06284, section III, there of masks.

    Parameters
    ----------
    logits : Tensor
        (B, N, S, Q, K): heads, streams, tokens.
    toks : Tensor
        (B, N, S, Q) int64; what stands in the padding does not matter.
    lengths : Tensor, optional
        (B,) int64, valid frames; None if all are.

    Returns
    -------
    PermutedLoss
        Loss and order of each clip. All S! orders are tried, so S is to be small.

    Raises
    ------
    UserError
        The shapes do not fit each other.

    Example
    -------
    >>> toks = torch.tensor([[[[0], [1]]]])  # one frame of two targets
    >>> logits = torch.tensor([[[[[-9.0, 9.0]], [[9.0, -9.0]]]]])  # the heads say 1 and 0
    >>> loss, order = permuted_cross_entropy(logits, toks)
    >>> round(loss.item(), 3), order
    (0.0, tensor([[1, 0]]))
    """
    costs = pairwise_cross_entropy(logits, toks, lengths)
    heads = torch.arange(costs.shape[1], device=costs.device)
    orders = torch.tensor(list(permutations(range(len(heads)))), device=costs.device)
    loss, best = costs[:, heads, orders].mean(dim=2).min(dim=1)
    return PermutedLoss(loss, orders[best])


def pairwise_cross_entropy(logits: Tensor, toks: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Cross entropy of each head with each target.

    Parameters and Raises are those of `permuted_cross_entropy`.

    Returns
    -------
    Tensor
        (B, S, S): [b, s, t] is head s with target t, the mean over valid frames and streams.

    Example
    -------
    >>> logits, toks = torch.zeros(1, 3, 2, 1, 4), torch.zeros(1, 3, 2, 1, dtype=torch.int64)
    >>> pairwise_cross_entropy(logits, toks)
    tensor([[[1.3863, 1.3863],
             [1.3863, 1.3863]]])
    """
    if logits.dim() != 5 or toks.shape != logits.shape[:4]:
        raise UserError(
            f"toks: shape {tuple(toks.shape)}, logits: {tuple(logits.shape)}; give (batch, frames,"
            " targets, streams), and for the logits one axis more"
        )
    lengths = check_lengths(toks, lengths)
    mask = valid_mask(lengths, toks.shape[1])
    # Padding may hold anything, such as -1, which is no index.
    heads = toks.shape[2]
    wanted = zero_padding(toks, mask).transpose(2, 3)[:, :, None].expand(-1, -1, heads, -1, -1)
    logits = logits.float()
    # A head's normaliser is the same for all targets; gathering before subtracting it never holds
    # the log-probabilities of all tokens.
    costs = logits.logsumexp(dim=4, keepdim=True) - logits.gather(4, wanted)
    means = masked_mean(costs.mean(dim=3).flatten(2), mask)
    return means.unflatten(2, (heads, heads))[:, 0]
