"""Data set of training: reads clips one at a time from a manifest, joins them to padded batches."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from focalcodec.audio import Channels
from focalcodec.data.clips import Span, read_clip
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.errors import UserError

_logger = logging.getLogger(__name__)


class Mixed(NamedTuple):
    """A mixture and its clean speech, (T,) float32 both, at the dataset's rate."""

    noisy: Tensor
    clean: Tensor


Mixer: TypeAlias = Callable[[Mapping[str, Any], int], Mixed]
"""Makes a new mixture of a clip: (row of the manifest, how often it was drawn before)."""


# -- batches ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AudioBatch:
    """Padded clips. Move the batch with `.to(device)`."""

    id: list[str]
    wav: list[str]  # path
    spk_id: list[str]  # speaker
    wrd: list[str]  # transcript
    sig: Tensor  # (B, T) float32, zero after the end of a clip
    lengths: Tensor  # (B,) int64, samples of each clip; 0 if only cached features were read
    feats: list[Tensor | None]  # (N, D) of each clip that the cache has
    span: list[Span | None] = field(default_factory=list)  # None: the whole file
    channels: list[Channels] = field(default_factory=list)  # how files with several are read
    group: list[str] = field(default_factory=list)  # e.g. the language, or ""
    # The model's input for the same clips, noisy or overlapped, aligned with `sig` sample by
    # sample; its `wav` are the noisy files.
    mixture: AudioBatch | None = None

    def __post_init__(self) -> None:
        """Fill in the defaults: whole files, one channel, no group."""
        if not self.span:
            object.__setattr__(self, "span", [None] * len(self.id))
        if not self.channels:
            object.__setattr__(self, "channels", ["error"] * len(self.id))
        if not self.group:
            object.__setattr__(self, "group", [""] * len(self.id))

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.id)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> AudioBatch:
        """Copy of the batch with its tensors on a device."""
        return self._map(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> AudioBatch:
        """Copy of the batch in page-locked memory; the data loader calls it."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> AudioBatch:
        return replace(
            self,
            sig=move(self.sig),
            lengths=move(self.lengths),
            feats=[None if x is None else move(x) for x in self.feats],
            mixture=None if self.mixture is None else self.mixture._map(move),
        )


def pad_collate(items: Sequence[dict[str, Any] | None]) -> AudioBatch | None:
    """Join items of `AudioDataset`, except None items (broken clips); None if no clip is left.

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
        sig=pad_sequence([item["sig"] for item in items], batch_first=True),  # (B, T)
        lengths=torch.tensor([len(item["sig"]) for item in items], dtype=torch.int64),  # (B,)
        feats=[item["feats"] for item in items],
        span=[item.get("span") for item in items],
        channels=[item.get("channels", "error") for item in items],
        group=[item.get("group", "") for item in items],
    )


# -- clips -----------------------------------------------------------------------------------------


class AudioDataset(Dataset[dict[str, Any] | None]):
    """Clips of a manifest, files or parts of files, mono, at one sample rate.

    An item is a dict: `id`, `wav` (path), `spk_id`, `wrd`, `span` (start and stop, or None),
    `channels`, `group`, `sig` (T,) float32 and `feats` (N, D) if a cache has them, else None.
    `mixture` is a dict with `wav`, `sig` and `feats` of the model's input, read from the column
    `noisy` or made by the mixer, or None. A clip with a broken file gives None, which `pad_collate`
    leaves out, and a line in the report.

    Raises `UserError` if no clip is left or has the column `group_by`, and for a mixer together
    with a cache, because mixtures that are new each time can't be stored.

    Parameters
    ----------
    rows : sequence of dict
        Result of `read_manifest`.
    sample_rate : int
        Rate of `sig`, Hz: the encoder's.
    max_seconds : float, optional
        Leave out longer clips.
    channels : {"error", "mix", "first"}
        Stereo files count as broken, or are read as their mean or first channel; a row's own
        column `channels` comes first.
    report : str or path, optional
        CSV file that lists broken clips (path, reason).
    cache, with_sig : FeatureCache, bool
        Cache that may have `feats`. If `with_sig` is False, the file of a cached clip is not read:
        `sig` is (0,).
    group_by : str, optional
        Column with the `group` of a clip, e.g. language.
    mixer : Mixer, optional
        Makes mixtures of clips if the rows have no column `noisy`. Its `clean` is `sig`.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> wav = str(next(embedded_corpus("LibriSpeech").glob("test-real/91/1/*-0000.flac")))
    >>> row = {"ID": "a", "duration": 6.0, "wav": wav, "spk_id": "91", "wrd": ""}
    >>> dataset = AudioDataset([row], sample_rate=8000, group_by="spk_id")
    >>> dataset[0]["sig"].dtype, dataset.groups
    (torch.float32, ['91'])
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
        group_by: str | None = None,
        mixer: Mixer | None = None,
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
        self.group_by, self.mixer = group_by, mixer
        self._check_columns()

    def _check_columns(self) -> None:
        for row in self.rows if self.group_by is not None else ():
            if self.group_by not in row:
                raise UserError(
                    f"group_by={self.group_by!r}: no such column in the manifest of clip"
                    f" {row['ID']!r}, which has {', '.join(row)}; name one of them, or null"
                )
        clean = [row["ID"] for row in self.rows if "noisy" not in row]
        if clean and self.mixer is not None and self.cache is not None:
            raise UserError(
                "feature_cache: a mixer makes new mixtures each epoch, which can't be kept; set"
                " feature_cache to null, or write the mixtures to disk"
            )
        if self.mixer is None and 0 < len(clean) < len(self.rows):
            raise UserError(
                f"clip {clean[0]!r} has no column noisy, others have one; give all clips of the set"
                " this column, or none"
            )

    @property
    def durations(self) -> list[float]:
        """Seconds of each clip, for the sampler."""
        return [row["duration"] for row in self.rows]

    @property
    def groups(self) -> list[str] | None:
        """Group of each clip, for the sampler; None without `group_by`."""
        return None if self.group_by is None else [str(row[self.group_by]) for row in self.rows]

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any] | None:
        """Read a clip; None if its file is broken.

        `index` is the row of the manifest, or a pair of this and how often the clip was drawn
        before; a mixer makes another mixture each time.
        """
        place, draw = index if isinstance(index, tuple) else (index, 0)
        row = self.rows[place]
        try:
            mixture, clean = self._read(row, draw)
        except UserError as error:
            if self.report is not None:
                report_broken(self.report, row["wav"], str(error))
            return None
        names = {name: row[name] for name in ("wav", "spk_id", "wrd")}
        group = "" if self.group_by is None else str(row[self.group_by])
        item = {"id": row["ID"], **names, "span": _span(row), "group": group}
        item["channels"] = self._channels(row)
        return {**item, **clean, "mixture": mixture}

    def _read(
        self, row: Mapping[str, Any], draw: int
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Wav, sig and feats of the mixture, or None, and of the clean clip.

        Both have the same samples, because feats of one are predicted from feats of the other.
        """
        if "noisy" not in row and self.mixer is None:
            return None, self._read_file(row, row["wav"])
        if "noisy" in row:
            mixture, clean = (self._read_file(row, row[name]) for name in ("noisy", "wav"))
        else:
            assert self.mixer is not None
            mixed = self.mixer(row, draw)
            mixture, clean = (
                {"wav": row["wav"], "sig": sig, "feats": None} for sig in (mixed.noisy, mixed.clean)
            )
        samples = [len(part["sig"]) for part in (mixture, clean)]
        # Clips that the cache has were not read, and have no samples.
        if samples[0] != samples[1] and all(samples):
            raise UserError(
                f"{mixture['wav']}: {samples[0]} samples at {self.sample_rate} Hz, its clean"
                f" recording {row['wav']} {samples[1]}; they must have the same length"
            )
        return mixture, clean

    def _read_file(self, row: Mapping[str, Any], wav: str) -> dict[str, Any]:
        span, channels = _span(row), self._channels(row)
        feats = None if self.cache is None else self.cache.get(wav, span, channels)
        sig = torch.zeros(0)
        if feats is None or self.with_sig:
            sig = read_clip(wav, self.sample_rate, span, channels)
        return {"wav": wav, "sig": sig, "feats": feats}

    def _channels(self, row: Mapping[str, Any]) -> Channels:
        return row.get("channels") or self.channels


def _span(row: Mapping[str, Any]) -> Span | None:
    return (row["start"], row["stop"]) if "start" in row else None


def report_broken(report: Path, wav: str, reason: str) -> None:
    """Add a broken clip to a CSV report (path, reason), unless it is listed already."""
    report.parent.mkdir(parents=True, exist_ok=True)
    # Appended line by line, not rewritten, because the loader's workers report at the same time.
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
