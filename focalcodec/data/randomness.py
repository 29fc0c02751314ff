"""Randomness that depends on what is drawn for, not on who draws it or when."""

from __future__ import annotations

import hashlib

import torch


def stable_seed(*parts: int | str) -> int:
    """Seed that is the same in every process and Python version.

    Parameters
    ----------
    *parts : int or str
        What the randomness is for.

    Returns
    -------
    int
        In [0, 2^63).

    Example
    -------
    >>> stable_seed(0, "order") == stable_seed(0, "order") != stable_seed(1, "order")
    True
    """
    # File names, which IDs are made of, need not be UTF-8.
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(text).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def clip_generator(seed: int, epoch: int, clip_id: str) -> torch.Generator:
    """Make the generator for one clip in one epoch, e.g. for its random crop.

    Draws do not depend on the clip's place in the batch, on the worker or on the number of
    processes, and a resumed run draws what an uninterrupted one does.

    Parameters
    ----------
    seed : int
        Of the run.
    epoch : int
        Epoch.
    clip_id : str
        ID of the clip in the manifest.

    Returns
    -------
    torch.Generator
        On the CPU.

    Example
    -------
    >>> int(torch.randint(100, (1,), generator=clip_generator(0, 1, "84-121123-0000")))
    73
    """
    return torch.Generator().manual_seed(stable_seed(seed, epoch, clip_id))
