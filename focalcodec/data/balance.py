"""Batches balanced over groups, such as languages: how much of each, and in which order.

How large a share temperature gives to small groups: Arivazhagan et al., "Massively Multilingual
Neural Machine Translation in the Wild", 2019, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def group_codes(groups: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Give numbers to groups.

    Parameters
    ----------
    groups : sequence of str
        Group of each clip.

    Returns
    -------
    names : list of str
        Of the groups, sorted.
    codes : np.ndarray
        (clips,) int64, place of each clip's group in `names`.

    Example
    -------
    >>> group_codes(["it", "en", "it"])
    (['en', 'it'], array([1, 0, 1]))
    """
    names = sorted(set(groups))
    places = {name: place for place, name in enumerate(names)}
    return names, np.fromiter(map(places.__getitem__, groups), np.int64, len(groups))


def group_quotas(counts: np.ndarray, total: int, temperature: float) -> np.ndarray:
    """Clips that each group has in an epoch.

    Parameters
    ----------
    counts : np.ndarray
        (G,) int64, clips of each group in the corpus.
    total : int
        Clips in the epoch.
    temperature : float
        Shares are proportional to counts^(1 / temperature): 1 leaves them as the corpus has
        them, infinity makes all groups alike.

    Returns
    -------
    np.ndarray
        (G,) int64; their sum is `total`.

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
    """Draw a group's clips for one epoch.

    Epoch after epoch reads on in one endless round of the group's clips, in an order that the
    seed gives. So each clip comes floor or ceil times in an epoch and over the whole run alike.

    Parameters
    ----------
    members : np.ndarray
        (M,) int64, indices of the group's clips.
    quota : int
        Clips to draw.
    epoch : int
        Epoch, counted from 0.
    seed : int
        Of the round.
    generator : torch.Generator, optional
        Shuffles the epoch's clips, each round by itself; default leaves them as they are.

    Returns
    -------
    drawn : np.ndarray
        (quota,) int64, indices of clips.
    draws : np.ndarray
        (quota,) int64, how often the clip was drawn before.

    Example
    -------
    >>> drawn, draws = cyclic_draws(np.array([7, 8, 9]), 4, epoch=0, seed=0, generator=None)
    >>> sorted(drawn[:3].tolist()), draws.tolist()
    ([7, 8, 9], [0, 0, 0, 1])
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
    """Spread groups evenly over blocks: each block has of each group what its size says.

    The clips of a group keep their order. A block's count of a group is its exact share rounded
    up or down.

    Parameters
    ----------
    codes : np.ndarray
        (n,) int64, group of each clip.
    sizes : sequence of int
        Clips of the blocks, in order: all alike, but for the first and the last, which may be
        smaller. Their sum is n.
    generator : torch.Generator
        Says which blocks get the clips that can't be divided.

    Returns
    -------
    np.ndarray
        (n,) int64, places of the clips in the new order, block after block.

    Example
    -------
    >>> codes = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    >>> codes[spread(codes, [3, 3, 3], torch.Generator())].reshape(3, 3).tolist()
    [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
    """
    left = np.bincount(codes)
    counts = np.zeros((len(sizes), len(left)), np.int64)
    whole = list(range(len(sizes)))
    # The smaller blocks are filled first, then the others deal out what is left like cards.
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
    """Systematic sample of clips that lie in a row, group after group: how many of each."""
    phase = float(torch.rand((), generator=generator, dtype=torch.float64))
    ends = np.concatenate([[0], np.cumsum(counts)])
    marks = np.floor(ends * size / ends[-1] + phase).astype(np.int64)
    marks[-1] = size
    return np.diff(marks)


def _deal(counts: np.ndarray, blocks: int, generator: torch.Generator) -> np.ndarray:
    """Deal clips that lie in a row, group after group: (blocks, groups), how many each gets."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    dealt = (ends[None] - np.arange(blocks)[:, None] + blocks - 1) // blocks
    shuffled = torch.randperm(blocks, generator=generator).numpy()
    return np.diff(dealt, axis=1)[shuffled]
