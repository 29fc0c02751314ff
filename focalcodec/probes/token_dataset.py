"""Data set and padded batches of stored tokens, read directly from the memmap."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from focalcodec.data.dataset import AudioBatch, AudioDataset, pad_collate
from focalcodec.errors import UserError
from focalcodec.tokenize.store import TokenStore

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class TokenBatch:
    """Padded tokens. Move it with `.to(device)`."""

    id: list[str]
    group: list[str]
    """Group of each clip; "" without groups."""
    rows: list[Row]
    """Manifest rows of the clips: labels, texts, files."""
    toks: Tensor
    """(B, N) int64, or (B, N, Q) of Q streams; 0 in the padding."""
    lengths: Tensor
    """(B,) int64, frames."""
    targets: Tensor | None = None
    """(B, N, S, Q) int64: tokens of the S recordings to predict."""
    audio: AudioBatch | None = None
    """Audio of the clips, if the probe's input is features."""

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.id)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBatch:
        """Return the batch with its tensors on a device."""
        return replace(
            self,
            toks=self.toks.to(device, non_blocking=non_blocking),
            lengths=self.lengths.to(device, non_blocking=non_blocking),
            targets=None
            if self.targets is None
            else self.targets.to(device, non_blocking=non_blocking),
            audio=None if self.audio is None else self.audio.to(device, non_blocking),
        )

    def pin_memory(self) -> TokenBatch:
        """Return the batch in page-locked memory; the data loader calls this."""
        return replace(
            self,
            toks=self.toks.pin_memory(),
            lengths=self.lengths.pin_memory(),
            targets=None if self.targets is None else self.targets.pin_memory(),
            audio=None if self.audio is None else self.audio.pin_memory(),
        )


class TokenDataset(Dataset[dict[str, Any] | None]):
    """Clips of a set with their tokens, and with audio if features are computed from it.

    Parameters
    ----------
    rows : sequence of dict
        Rows of a manifest.
    store : TokenStore
        Input tokens of the clips, by their IDs.
    targets : sequence of TokenStore
        Tokens to predict, a store for each target column.
    min_seconds, max_seconds : float
        Shorter and longer clips are skipped.
    group_by : str, optional
        Column with the group of a clip.
    usable : callable, optional
        Rows for which it returns False are skipped, such as those without a text.
    audio : callable, optional
        Makes the `AudioDataset` of the rows that remain.

    Raises
    ------
    UserError
        No clip remains, there is no column `group_by`, or a clip's recordings differ in length.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        store: TokenStore,
        targets: Sequence[TokenStore] = (),
        min_seconds: float = 0.0,
        max_seconds: float = float("inf"),
        group_by: str | None = None,
        usable: Callable[[Row], bool] | None = None,
        audio: Callable[[Sequence[dict[str, Any]]], AudioDataset] | None = None,
    ) -> None:
        self.store, self.targets, self.group_by = store, list(targets), group_by
        # The stores do not have clips with broken files.
        known = [
            {name: place for place, name in enumerate(kept.ids) if kept.index[place, 1]}
            for kept in self._stores
        ]
        self.rows = [
            dict(row)
            for row in rows
            if min_seconds <= row["duration"] <= max_seconds
            and (usable is None or usable(row))
            and all(row["ID"] in places for places in known)
        ]
        if not self.rows:
            raise UserError(
                f"no clip of {len(rows)} is left: each has no tokens, no target, or is not within"
                f" min_seconds={min_seconds} and max_seconds={max_seconds}"
            )
        if len(self.rows) < len(rows):
            skipped = len(rows) - len(self.rows)
            logger.info("%d of %d clips are skipped: length or no target", skipped, len(rows))
        self.places = np.array([[places[row["ID"]] for places in known] for row in self.rows])
        for row in self.rows if group_by is not None else ():
            if group_by not in row:
                raise UserError(
                    f"group_by={group_by!r}: no such column in the manifest of clip {row['ID']!r},"
                    f" which has {', '.join(row)}; name one of them, or null"
                )
        self._check_frames()
        self.audio = None if audio is None else audio(self.rows)

    def _check_frames(self) -> None:
        # Recordings of a clip may differ by some samples, so by one frame.
        kept = [x.index[place, 1] for x, place in zip(self._stores, self.places.T, strict=True)]
        frames = np.stack(kept) // self.store.streams
        (wrong,) = np.nonzero(frames.max(axis=0) - frames.min(axis=0) > 1)
        if len(wrong):
            counts = ", ".join(map(str, frames[1:, wrong[0]].tolist()))
            raise UserError(
                f"clip {self.rows[wrong[0]]['ID']!r}: {frames[0, wrong[0]]} input frames, {counts}"
                " target frames; the recordings of a clip must have the same length"
            )

    @property
    def _stores(self) -> list[TokenStore]:
        return [self.store, *self.targets]

    @property
    def durations(self) -> list[float]:
        """Duration of each clip in seconds, for the sampler."""
        return [row["duration"] for row in self.rows]

    @property
    def groups(self) -> list[str] | None:
        """Group of each clip, for the sampler; None without `group_by`."""
        return None if self.group_by is None else [str(row[self.group_by]) for row in self.rows]

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        """Return a clip; None if its audio is needed and broken."""
        row, places = self.rows[index], self.places[index].tolist()
        audio = None
        if self.audio is not None:
            audio = self.audio[index]
            if audio is None:
                return None
        toks, *wanted = (store[place] for store, place in zip(self._stores, places, strict=True))
        targets = [target.view(-1, self.store.streams) for target in wanted]  # S times (N, Q)
        if targets:
            frames = min(len(toks), *map(len, targets))
            toks, targets = toks[:frames], [target[:frames] for target in targets]
        return {
            "id": row["ID"],
            "row": row,
            "group": "" if self.group_by is None else str(row[self.group_by]),
            "toks": toks,
            "targets": torch.stack(targets, dim=1) if targets else None,
            "audio": audio,
        }


def collate_tokens(items: Sequence[dict[str, Any] | None]) -> TokenBatch | None:
    """Join items of `TokenDataset`; None, a broken clip, is skipped, and None if no clip remains.

    Example
    -------
    >>> names = {"id": "a", "row": {}, "group": "", "targets": None, "audio": None}
    >>> batch = collate_tokens([{**names, "toks": torch.tensor([3, 5])}, None])
    >>> batch.toks, batch.lengths
    (tensor([[3, 5]]), tensor([2]))
    """
    kept = [item for item in items if item is not None]
    if not kept:
        return None
    targets = None
    if kept[0]["targets"] is not None:
        targets = pad_sequence([item["targets"] for item in kept], batch_first=True)
    audio = [item["audio"] for item in kept]
    return TokenBatch(
        id=[item["id"] for item in kept],
        group=[item["group"] for item in kept],
        rows=[item["row"] for item in kept],
        toks=pad_sequence([item["toks"] for item in kept], batch_first=True),
        lengths=torch.tensor([len(item["toks"]) for item in kept], dtype=torch.int64),
        targets=targets,
        audio=None if audio[0] is None else pad_collate(audio),
    )
