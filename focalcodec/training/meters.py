"""Figures of a stage: averages, as sums and counts, and usage of the codebook."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from focalcodec.errors import UserError


class Meters:
    """Running averages of named quantities, weighted by numbers of frames or items.

    A mean of means is wrong if batches differ in size, and so is a mean that restarts when training
    resumes. So sums and counts are stored, also in the checkpoint.

    Example
    -------
    >>> meters = Meters()
    >>> meters.add("loss", 6.0, 2.0)
    >>> with meters.of(["it", "it"]):
    ...     meters.add("loss", 1.0, 1.0)
    >>> round(meters.averages()["loss"], 3), meters.averages("it")
    (2.333, {'loss': 1.0})
    """

    def __init__(self) -> None:
        self._group = ""
        self._totals: dict[str, dict[str, tuple[float, float]]] = {"": {}}

    @property
    def groups(self) -> list[str]:
        """Names of the groups of all clips so far."""
        return sorted(group for group in self._totals if group)

    @contextmanager
    def of(self, groups: Sequence[str]) -> Iterator[None]:
        """In this context, `add` counts for the group of these clips and for the whole.

        Parameters
        ----------
        groups : sequence of str
            Group of each clip of a batch, the same for all; "" is no group.

        Raises
        ------
        UserError
            The clips have several groups.
        """
        self._group, *others = sorted(set(groups))
        if others:
            raise UserError(
                f"a batch has clips of {self._group!r} and {others[0]!r}: figures of each group"
                " need an EpochBatchSampler with pure=True"
            )
        try:
            yield
        finally:
            self._group = ""

    def add(self, name: str, total: Tensor | float, count: Tensor | float = 1.0) -> None:
        """Add a sum over `count` frames or items."""
        for group in {"", self._group}:
            totals = self._totals.setdefault(group, {})
            old_total, old_count = totals.get(name, (0.0, 0.0))
            totals[name] = (old_total + float(total), old_count + float(count))

    def averages(self, group: str = "") -> dict[str, float]:
        """Average of each quantity over a group, or over all clips."""
        totals = self._totals.get(group, {})
        return {name: total / count for name, (total, count) in totals.items() if count}

    def since(self, before: dict[str, list[float]]) -> dict[str, float]:
        """Average of what was added after `state_dict` returned `before`."""
        added = Meters()
        for name, (total, count) in self._totals[""].items():
            old_total, old_count = before.get(name, (0.0, 0.0))
            added.add(name, total - old_total, count - old_count)
        return added.averages()

    def reset(self) -> None:
        """Remove all sums and counts."""
        self._totals = {"": {}}

    def state_dict(self) -> dict[str, list[float]]:
        """Sums and counts of all clips, for JSON; training, which can resume, has no groups."""
        return {name: list(pair) for name, pair in self._totals[""].items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Continue from stored sums and counts."""
        self._totals = {"": {name: (pair[0], pair[1]) for name, pair in state.items()}}


class CodeUsage:
    """Counts of tokens and probabilities of codes, summed over the batches of a set.

    The codebook's entropy is computed over the whole set: entropies of batches can't be averaged.

    Parameters
    ----------
    codebook_size : int
        2^L.

    Attributes
    ----------
    counts : Tensor
        (2^L,) int64, how often each token was used.
    joint : Tensor
        (2^L,) float64, probability of each code, summed over tokens.

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
        """`code_statistics` of the counted tokens."""
        return code_statistics(self.counts)


def code_statistics(counts: Tensor) -> dict[str, float]:
    """How evenly tokens use the codebook.

    Parameters
    ----------
    counts : Tensor
        (2^L,) int64, how often each token was used.

    Returns
    -------
    dict of str to float
        `code_usage`: share of the codebook that is used at least once, %; `normalized_entropy`:
        entropy of the token histogram over log2 of the number of codes used, % (as in the paper);
        `toks`: number of tokens.

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
