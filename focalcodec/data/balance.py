"""Batches balanced over groups, such as languages: how many clips of each, and in which order.

The temperature that raises the share of small groups: Arivazhagan et al., "Massively Multilingual
Neural Machine Translation in the Wild", 2019, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def group_codes(groups: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Number the groups: sorted names, and (clips,) int64, the place of each clip's group."""
    names = sorted(set(groups))
    places = {name: place for place, name in enumerate(names)}
    return names, np.fromiter(map(places.__getitem__, groups), np.int64, len(groups))


def group_quotas(counts: np.ndarray, total: int, temperature: float) -> np.ndarray:
    """Clips of each group in an epoch of `total` clips: (G,) int64, from counts (G,) int64.

    Shares are proportional to counts^(1 / temperature): 1 keeps the corpus' shares, infinity makes
    all groups equal.

    Example
    -------
    >>> group_quotas(np.array([900, 100]), 1000, temperature=2.0)
    array([750, 250])
    """
    weights = counts.astype(np.float64) ** (1 / temperature)
    exact = total * weights / weights.sum()
    quotas = np.floor(exact + 1e-6).astype(np.int64)
    largest = np.argsort(quotas - exact, kind="stable")
    quotas[largest[: total - quotas.sum()]] += 1
    return quotas


def cyclic_draws(
    members: np.ndarray, quota: int, epoch: int, seed: int, generator: torch.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `quota` of a group's clips, members (M,) int64, for one epoch counted from 0.

    The seed gives an order of the group's clips. The epochs take clips from this order one after
    the other, and start again at its end. So the numbers of draws of any two clips differ by one at
    most, in an epoch and in a whole run.
    The generator shuffles the epoch's clips, each round by itself. Returns (quota,) int64 twice:
    indices of clips, and how often each was drawn before.
    """
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed)).numpy()
    places = np.arange(epoch * quota, (epoch + 1) * quota)
    drawn, draws = members[order[places % len(members)]], places // len(members)
    if generator is not None:
        keys = torch.rand(quota, generator=generator, dtype=torch.float64).numpy()
        keys += np.arange(quota) // len(members)
        shuffled = np.argsort(keys, kind="stable")
        drawn, draws = drawn[shuffled], draws[shuffled]
    return drawn, draws


def spread(codes: np.ndarray, sizes: Sequence[int], generator: torch.Generator) -> np.ndarray:
    """Spread groups evenly over blocks: each block has each group's share, rounded up or down.

    `codes` (n,) int64 are the groups of the clips, `sizes` the clips of the blocks: equal, except
    the first and the last, which may be smaller. The clips of a group keep their order; the
    generator decides which blocks get the clips that can't be divided. Returns (n,) int64, places
    of the clips in the new order, block after block.

    Example
    -------
    >>> codes = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    >>> codes[spread(codes, [3, 3, 3], torch.Generator())].reshape(3, 3).tolist()
    [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
    """
    left = np.bincount(codes)
    counts = np.zeros((len(sizes), len(left)), np.int64)
    whole = list(range(len(sizes)))
    # The smaller blocks are filled first, then the others get the rest, one clip after the other.
    for block in sorted({0, len(sizes) - 1}):
        if sizes[block] < max(sizes):
            counts[block] = _sample(left, sizes[block], generator)
            left = left - counts[block]
            whole.remove(block)
    counts[whole] = _deal(left, len(whole), generator)
    by_group = np.argsort(codes, kind="stable")
    blocks = np.tile(np.arange(len(sizes)), counts.shape[1])
    return by_group[np.argsort(np.repeat(blocks, counts.T.reshape(-1)), kind="stable")]


def _sample(counts: np.ndarray, size: int, generator: torch.Generator) -> np.ndarray:
    """Systematic sample of `size` clips in a row, group after group: (G,), clips of each."""
    phase = float(torch.rand((), generator=generator, dtype=torch.float64))
    ends = np.concatenate([[0], np.cumsum(counts)])
    marks = np.floor(ends * size / ends[-1] + phase).astype(np.int64)
    marks[-1] = size
    return np.diff(marks)


def _deal(counts: np.ndarray, blocks: int, generator: torch.Generator) -> np.ndarray:
    """Deal clips in a row, group after group: (blocks, G), clips of each group for each block."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    dealt = (ends[None] - np.arange(blocks)[:, None] + blocks - 1) // blocks
    shuffled = torch.randperm(blocks, generator=generator).numpy()
    return np.diff(dealt, axis=1)[shuffled]
