"""Random crops of clips, cut after the encoder, which heard the whole utterance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from focalcodec.data.randomness import clip_generator
from focalcodec.errors import UserError


def check_crops(encoder: Any, min_seconds: float, name: str, crop_frames: int) -> None:
    """Refuse crops that are longer than the shortest clip.

    Parameters
    ----------
    encoder : Module
        Its feats are cropped.
    min_seconds : float
        Of training clips.
    name : str
        Knob that the number of frames is from.
    crop_frames : int
        Frames of a crop.

    Raises
    ------
    UserError
        They are.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> check_crops(LogMel(), 0.5, "crop_frames", 25)
    >>> check_crops(LogMel(), 0.5, "crop_frames", 26)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: crop_frames=26: the shortest clips, of min_seconds=0.5, have 25; \
raise min_seconds
    """
    shortest = int(min_seconds * encoder.sample_rate)
    frames = int(encoder.output_lengths(torch.tensor(shortest)))
    if min(frames, shortest // encoder.hop) < crop_frames:
        raise UserError(
            f"{name}={crop_frames}: the shortest clips, of min_seconds={min_seconds}, have"
            f" {frames}; raise min_seconds"
        )


def cut_crops(
    feats: Tensor,
    frames: Tensor,
    batch: Any,
    length: int,
    hop: int,
    draw: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """One random crop of each clip's feats, and of its sig.

    Parameters
    ----------
    feats : Tensor
        (B, N, D).
    frames : Tensor
        (B,) int64, valid frames.
    batch : AudioBatch
        The clips: their IDs and sig.
    length : int
        Frames of a crop; no clip has fewer.
    hop : int
        Samples of a frame.
    draw : tuple of int
        Seed, epoch and step: with a clip's ID they say where its crop lies.

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
