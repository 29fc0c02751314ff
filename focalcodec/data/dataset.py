"""Clips as training reads them: resampled on the fly, broken ones left out and reported."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from focalcodec.audio import Channels, read_audio
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.errors import UserError

_logger = logging.getLogger(__name__)


class AudioDataset(Dataset[dict[str, Any] | None]):
    """Whole clips of a manifest, mono, at one sample rate.

    An item is a dict: `id`, `wav` (path), `spk_id`, `wrd`, `sig` (T,) float32 and `feats`
    (N, D) where a cache has them, else None. A clip whose file turns out to be broken gives
    None, which `pad_collate` leaves out, and a line in the report.

    Parameters
    ----------
    rows : sequence of dict
        From `read_manifest`.
    sample_rate : int
        Rate of `sig`, Hz: the encoder's.
    max_seconds : float, optional
        Leave out longer clips.
    channels : {"error", "mix", "first"}
        Stereo files are broken, or are read as their mean or first channel.
    report : str or path, optional
        CSV file that broken clips are listed in (path, reason).
    cache : FeatureCache, optional
        Where `feats` may be.
    with_sig : bool
        False leaves `sig` empty, (0,), and the file unread, for clips whose `feats` are cached.

    Raises
    ------
    UserError
        No clips, or all of them longer than `max_seconds`.

    Example
    -------
    >>> from focalcodec.data.embedded import embedded_corpus
    >>> wav = str(next(embedded_corpus("LibriSpeech").glob("test-real/91/1/*-0000.flac")))
    >>> row = {"ID": "a", "duration": 6.0, "wav": wav, "spk_id": "91", "wrd": ""}
    >>> AudioDataset([row], sample_rate=8000)[0]["sig"].dtype
    torch.float32
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        sample_rate: int,
        max_seconds: float | None = None,
        channels: Channels = "error",
        report: str | Path | None = None,
        cache: FeatureCache | None = None,
        with_sig: bool = True,
    ) -> None:
        limit = float("inf") if max_seconds is None else max_seconds
        self.rows = [row for row in rows if row["duration"] <= limit]
        if not self.rows:
            raise UserError(f"max_seconds={max_seconds}: no clip of {len(rows)} is left; raise it")
        if len(self.rows) < len(rows):
            left_out = len(rows) - len(self.rows)
            _logger.info(f"{left_out} of {len(rows)} clips are longer than {limit} s; left out")
        self.sample_rate, self.channels = sample_rate, channels
        self.report = None if report is None else Path(report)
        self.cache, self.with_sig = cache, with_sig

    @property
    def durations(self) -> list[float]:
        """Seconds of each clip, for the sampler."""
        return [row["duration"] for row in self.rows]

    def __len__(self) -> int:
        """Clips."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        """Clip, or None where its file is broken."""
        row = self.rows[index]
        feats = None if self.cache is None else self.cache.get(row["wav"])
        sig = torch.zeros(0)
        if feats is None or self.with_sig:
            try:
                sig = read_audio(row["wav"], self.sample_rate, channels=self.channels)
            except UserError as error:
                if self.report is not None:
                    report_broken(self.report, row["wav"], str(error))
                return None
        names = {name: row[name] for name in ("wav", "spk_id", "wrd")}
        return {"id": row["ID"], **names, "sig": sig, "feats": feats}


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
    """

    id: list[str]
    wav: list[str]
    spk_id: list[str]
    wrd: list[str]
    sig: Tensor
    lengths: Tensor
    feats: list[Tensor | None]

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
        )

    def pin_memory(self) -> AudioBatch:
        """Batch in page-locked memory; the data loader calls it."""
        return replace(
            self,
            sig=self.sig.pin_memory(),
            lengths=self.lengths.pin_memory(),
            feats=[None if x is None else x.pin_memory() for x in self.feats],
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
    return AudioBatch(
        **{name: [item[name] for item in kept] for name in ("id", "wav", "spk_id", "wrd")},
        sig=pad_sequence([item["sig"] for item in kept], batch_first=True),
        lengths=torch.tensor([len(item["sig"]) for item in kept], dtype=torch.int64),
        feats=[item["feats"] for item in kept],
    )


def report_broken(report: Path, wav: str, reason: str) -> None:
    """List a broken clip in a CSV report, once.

    Parameters
    ----------
    report : Path
        CSV file with the columns path and reason; begun when it is not there.
    wav : str
        Path of the clip.
    reason : str
        What is wrong with it.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report_broken(Path(folder) / "skipped.csv", "a.flac", "empty")
    ...     report_broken(Path(folder) / "skipped.csv", "a.flac", "empty")
    ...     print((Path(folder) / "skipped.csv").read_text())
    path,reason
    a.flac,empty
    <BLANKLINE>
    """
    report.parent.mkdir(parents=True, exist_ok=True)
    # Appended to, a line at a time, since the loader's workers report side by side.
    encoding: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with report.open("a+", **encoding) as file:
        file.seek(0)
        known = [line[0] for line in csv.reader(file) if line]
        writer = csv.writer(file, lineterminator="\n")
        if not known:
            writer.writerow(["path", "reason"])
        if wav not in known:
            writer.writerow([wav, reason])
            _logger.warning(f"left out: {reason}")
