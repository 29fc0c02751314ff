"""How a set of clips uses the codebook."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class CodeUsage:
    """Tokens seen and probabilities of the codes, summed over the batches of a set.

    The entropy of the codebook is one of the whole set: batches' entropies can't be averaged.

    Parameters
    ----------
    codebook_size : int
        2^L.

    Attributes
    ----------
    counts : Tensor
        (2^L,) int64, how often each token was seen.
    joint : Tensor
        (2^L,) float64, each code's probability, summed over tokens.

    Example
    -------
    >>> usage = CodeUsage(4)
    >>> usage.add(torch.tensor([1, 1, 0, 0]), torch.tensor([0.5, 0.5, 0.0, 0.0]), toks_seen=2)
    >>> round(usage.entropy(), 3), usage.statistics()["code_usage"]
    (0.693, 50.0)
    """

    def __init__(self, codebook_size: int) -> None:
        self.counts = torch.zeros(codebook_size, dtype=torch.int64)
        self.joint = torch.zeros(codebook_size, dtype=torch.float64)

    def add(self, counts: Tensor, joint: Tensor, toks_seen: float) -> None:
        """Add a batch: counts (2^L,), mean probabilities (2^L,) and the number of its tokens."""
        self.counts += counts.cpu()
        self.joint += joint.double().cpu() * toks_seen

    def entropy(self) -> float:
        """Entropy in nats of the mean probabilities of the codes."""
        joint = (self.joint / self.joint.sum()).clamp(min=1e-12)
        return float(-(joint * joint.log()).sum())

    def statistics(self) -> dict[str, float]:
        """As `code_statistics`, of the tokens seen."""
        return code_statistics(self.counts)


def code_statistics(counts: Tensor) -> dict[str, float]:
    """How evenly tokens use the codebook.

    Parameters
    ----------
    counts : Tensor
        (2^L,) int64, how often each token was seen.

    Returns
    -------
    dict of str to float
        `code_usage`: share of the codebook seen at least once, %; `normalized_entropy`: entropy of
        the token histogram over log2 of the tokens seen at least once, % (as the paper);
        `toks`: tokens counted.

    Example
    -------
    >>> code_statistics(torch.tensor([2, 2, 0, 0]))
    {'code_usage': 50.0, 'normalized_entropy': 100.0, 'toks': 4.0}
    """
    seen = counts[counts > 0].double()
    share = seen / seen.sum()
    entropy = float(-(share * share.log2()).sum())
    return {
        "code_usage": 100 * len(seen) / len(counts),
        "normalized_entropy": 100 * entropy / math.log2(len(seen)) if len(seen) > 1 else 0.0,
        "toks": float(seen.sum()),
    }
