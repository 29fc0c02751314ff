"""Random numbers that depend on the clip and epoch, not on the process, the worker or the time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from focalcodec.data.dataset import AudioBatch


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


def clip_draws(what: str, ids: Iterable[str], draw: tuple[int, int, int]) -> Tensor:
    """One uniform number in [0, 1) for each clip, (B,): `draw` is seed, epoch and step."""
    seed, epoch, step = draw
    generators = (clip_generator(seed, epoch, f"{what}:{clip_id}:{step}") for clip_id in ids)
    return torch.stack([torch.rand((), generator=generator) for generator in generators])


def cut_crops(
    feats: Tensor,
    frames: Tensor,
    batch: AudioBatch,
    length: int,
    hop: int,
    draw: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """One random crop of each clip's feats, and of its sig.

    Parameters
    ----------
    feats, frames : Tensor
        (B, N, D), and (B,) int64 valid frames.
    batch : AudioBatch
        The clips: their IDs and sig.
    length, hop : int
        Frames of a crop (no clip has fewer), and samples of a frame.
    draw : tuple of int
        Seed, epoch and step; together with a clip's ID they determine the position of its crop.

    Returns
    -------
    feats : Tensor
        (B, length, D).
    sig : Tensor
        (B, length * hop).
    """
    seed, epoch, step = draw
    usable = torch.minimum(frames, batch.lengths // hop).tolist()
    cut_feats, cut_sig = [], []
    for item, clip_id in enumerate(batch.id):
        generator = clip_generator(seed, epoch, f"{clip_id}:{step}")
        span = max(usable[item] - length, 0) + 1
        start = int(torch.randint(span, (), generator=generator))
        cut_feats.append(feats[item, start : start + length])
        cut_sig.append(batch.sig[item, start * hop : (start + length) * hop])
    return torch.stack(cut_feats), torch.stack(cut_sig)
