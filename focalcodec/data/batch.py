"""Padded clips, as they leave the data loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from focalcodec.audio import Channels

Span: TypeAlias = "tuple[int, int]"
"""First sample of a segment and the one behind its last, at the file's own rate."""


@dataclass(frozen=True)
class AudioBatch:
    """Padded clips. Move it with `.to(device)`.

    Parameters
    ----------
    id, wav, spk_id, wrd : list of str
        Of each clip.
    sig : Tensor
        (B, T) float32, zero beyond a clip's length.
    lengths : Tensor
        (B,) int64, samples of each clip; 0 where only cached features were read.
    feats : list of Tensor or None
        (N, D) of each clip that the cache has.
    span : list of (int, int) or None
        Part of the file that is the clip; None for the whole file. Empty: whole files.
    channels : list of {"error", "mix", "first"}
        What is done with several channels of a clip's file. Empty: refused.
    group : list of str
        Group of each clip, e.g. its language; "" without. Empty: no groups.
    mixture : AudioBatch, optional
        The same clips as they are heard, noisy or overlapped, sample by sample in line with
        `sig`; its `wav` are the noisy files.
    """

    id: list[str]
    wav: list[str]
    spk_id: list[str]
    wrd: list[str]
    sig: Tensor
    lengths: Tensor
    feats: list[Tensor | None]
    span: list[Span | None] = field(default_factory=list)
    channels: list[Channels] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    mixture: AudioBatch | None = None

    def __post_init__(self) -> None:
        """Whole files of no group, where nothing else is said."""
        if not self.span:
            object.__setattr__(self, "span", [None] * len(self.id))
        if not self.channels:
            object.__setattr__(self, "channels", ["error"] * len(self.id))
        if not self.group:
            object.__setattr__(self, "group", [""] * len(self.id))

    def __len__(self) -> int:
        """Clips."""
        return len(self.id)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> AudioBatch:
        """Batch with its tensors on a device."""
        return replace(
            self,
            sig=self.sig.to(device, non_blocking=non_blocking),
            lengths=self.lengths.to(device, non_blocking=non_blocking),
            feats=[
                None if x is None else x.to(device, non_blocking=non_blocking) for x in self.feats
            ],
            mixture=None if self.mixture is None else self.mixture.to(device, non_blocking),
        )

    def pin_memory(self) -> AudioBatch:
        """Batch in page-locked memory; the data loader calls it."""
        return replace(
            self,
            sig=self.sig.pin_memory(),
            lengths=self.lengths.pin_memory(),
            feats=[None if x is None else x.pin_memory() for x in self.feats],
            mixture=None if self.mixture is None else self.mixture.pin_memory(),
        )


def pad_collate(items: Sequence[dict[str, Any] | None]) -> AudioBatch | None:
    """Join items of `AudioDataset`, the broken ones left out.

    Parameters
    ----------
    items : sequence of dict or None
        Items; None for broken clips.

    Returns
    -------
    AudioBatch or None
        None when no clip is left: such a step must be passed over.

    Example
    -------
    >>> names = {"id": "a", "wav": "a.flac", "spk_id": "", "wrd": "", "feats": None}
    >>> items = [{**names, "sig": torch.ones(2)}, None, {**names, "sig": torch.ones(3)}]
    >>> batch = pad_collate(items)
    >>> batch.sig.tolist(), batch.lengths.tolist()
    ([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [2, 3])
    """
    kept = [item for item in items if item is not None]
    if not kept:
        return None
    batch = _join(kept)
    if kept[0].get("mixture") is None:
        return batch
    return replace(batch, mixture=_join([{**item, **item["mixture"]} for item in kept]))


def _join(items: Sequence[dict[str, Any]]) -> AudioBatch:
    return AudioBatch(
        id=[item["id"] for item in items],
        wav=[item["wav"] for item in items],
        spk_id=[item["spk_id"] for item in items],
        wrd=[item["wrd"] for item in items],
        sig=pad_sequence([item["sig"] for item in items], batch_first=True),
        lengths=torch.tensor([len(item["sig"]) for item in items], dtype=torch.int64),
        feats=[item["feats"] for item in items],
        span=[item.get("span") for item in items],
        channels=[item.get("channels", "error") for item in items],
        group=[item.get("group", "") for item in items],
    )
