"""Entropies of tokens whose digits are independent given the lats, without a sum over all codes.

p(c|u) is then a product over the digits of c. So the entropy of a token is a sum over digits, and
the mean of p(.|u) over frames needs only the joint probabilities of two halves of the digits:
one matrix product, O(sqrt(codes)) a frame. Source: FocalCodec, arXiv 2502.04465, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.nn.masking import zero_padding

LOG_FLOOR = math.log(1e-5)


class EntropyTerms(NamedTuple):
    """Parts of the entropy loss, in nats."""

    sample: Tensor  # () mean entropy of p(.|u) over valid frames
    codebook: Tensor  # () entropy of the mean of p(.|u) over valid frames
    joint: Tensor  # (codes,) that mean, in the order of the toks


def joint_log_probs(digits: Tensor) -> Tensor:
    """Log-probabilities of all values of l independent digits: (n, l, K) to (n, K^l)."""
    joint = digits.new_zeros(len(digits), 1)  # (n, 1): no digits yet
    for digit in range(digits.shape[1]):
        joint = (joint[:, :, None] + digits[:, None, digit]).flatten(1)  # K times as many values
    # e^-43 is negligible beside the other values; the products of two halves are then never
    # denormal numbers, which cost a CPU ten times as much.
    return joint.clamp(min=-43.0)


def terms_of_halves(
    first: Tensor,
    second: Tensor,
    entropy: Tensor,
    valid: Tensor,
    codebook_size: int,
    all_reduce: Callable[[Tensor], Tensor] | None = None,
) -> EntropyTerms:
    """Both entropies from the log-probabilities of the two halves, `joint_log_probs`.

    Equal to the plain definition, with logs clamped at 1e-5.

    Parameters
    ----------
    first, second : Tensor
        (frames, A) and (frames, B): the halves of the digits; the toks are a * B + b.
    entropy : Tensor
        (frames,), sum of the entropies of the digits.
    valid : Tensor
        (frames,) bool.
    codebook_size : int
        Number of toks; those above A * B are given to no frame.
    all_reduce : callable, optional
        Differentiable sum of a tensor over processes, for the entropies of the global batch.
    """
    codes = first.shape[1] * second.shape[1]
    entropy = entropy + _floor_correction(first, second)
    # (A * B + 2,): sum of p(.|u) by one matrix product, of the entropies, and of frames
    sums = torch.cat(
        [
            (zero_padding(first.exp(), valid).T @ second.exp()).flatten(),
            entropy.masked_fill(~valid, 0.0).sum()[None],
            valid.sum()[None].to(first.dtype),
        ]
    )
    if all_reduce is not None:
        sums = all_reduce(sums)
    joint, sample, count = sums.split([codes, 1, 1])
    joint = joint / count.clamp(min=1.0)
    codebook = -(joint * joint.clamp(min=math.exp(LOG_FLOOR)).log()).sum()
    joint = F.pad(joint, (0, codebook_size - codes))  # codes that no token has
    return EntropyTerms(sample.squeeze() / count.squeeze().clamp(min=1.0), codebook, joint)


def _floor_correction(first: Tensor, second: Tensor) -> Tensor:
    """Sum of p (log p - log 1e-5) over the codes with p < 1e-5, where the logs are clamped.

    log p is a sum a_i + b_j over the two halves of the digits. With the a_i (`first`) sorted, the
    codes of each b_j (`second`) below the floor are a prefix, so two running sums give the answer
    in O(A + B) memory instead of A * B.
    """
    ascending = first.sort(dim=-1).values  # (n, A)
    prob = ascending.exp()
    zero = prob.new_zeros(len(prob), 1)
    mass = torch.cat([zero, prob.cumsum(dim=-1)], dim=-1)  # (n, A + 1)
    weighted = torch.cat([zero, (prob * ascending).cumsum(dim=-1)], dim=-1)
    room = LOG_FLOOR - second  # (n, B): a_i below it give p < 1e-5
    count = torch.searchsorted(ascending.detach(), room.detach())  # (n, B): length of the prefix
    return (second.exp() * (weighted.gather(1, count) - room * mass.gather(1, count))).sum(dim=-1)
