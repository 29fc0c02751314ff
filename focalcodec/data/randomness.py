"""Random numbers that depend on the clip and epoch, not on the process, the worker or the time."""

from __future__ import annotations

import hashlib

import torch


def stable_seed(*parts: int | str) -> int:
    """Seed in [0, 2^63), the same for the same parts in every process and Python version."""
    # IDs are made from file names, which need not be UTF-8.
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(text).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def clip_generator(seed: int, epoch: int, clip_id: str) -> torch.Generator:
    """Make the generator (CPU) of one clip in one epoch, e.g. for its random crop.

    Draws do not depend on the clip's place in the batch, the worker or the number of processes. A
    resumed run has the same draws as a run without interruption.
    """
    return torch.Generator().manual_seed(stable_seed(seed, epoch, clip_id))
