"""Clips as training reads them: resampled on the fly, broken ones left out and reported."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from focalcodec.audio import Channels
from focalcodec.data.batch import Span
from focalcodec.data.clip_audio import read_clip
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.errors import UserError

_logger = logging.getLogger(__name__)


class Mixed(NamedTuple):
    """A clip as it is heard and as it was said: (T,) float32 both, at the dataset's rate."""

    noisy: Tensor
    clean: Tensor


Mixer: TypeAlias = Callable[[Mapping[str, Any], int], Mixed]
"""Makes a clip's mixture anew: (row of the manifest, how often it was drawn before)."""


class AudioDataset(Dataset[dict[str, Any] | None]):
    """Clips of a manifest, files or parts of them, mono, at one sample rate.

    An item is a dict: `id`, `wav` (path), `spk_id`, `wrd`, `span` (start and stop where the row
    has them, else None), `channels`, `group`, `sig` (T,) float32 and `feats` (N, D) where a cache
    has them, else None. `mixture` is a dict with `wav`, `sig` and `feats` of the clip as it is
    heard, or None: it is read from the column `noisy`, or made by the mixer. A clip whose file
    turns out to be broken gives None, which `pad_collate` leaves out, and a line in the report.

    Parameters
    ----------
    rows : sequence of dict
        From `read_manifest`.
    sample_rate : int
        Rate of `sig`, Hz: the encoder's.
    max_seconds : float, optional
        Leave out longer clips.
    channels : {"error", "mix", "first"}
        Stereo files are broken, or are read as their mean or first channel, of rows without a
        column `channels`, which says so of the clip.
    report : str or path, optional
        CSV file that broken clips are listed in (path, reason).
    cache : FeatureCache, optional
        Where `feats` may be.
    with_sig : bool
        False leaves `sig` empty, (0,), and the file unread, for clips whose `feats` are cached.
    group_by : str, optional
        Column whose value is a clip's `group`, e.g. language.
    mixer : Mixer, optional
        Makes the mixtures of clips whose rows have no column `noisy`. Its part `clean` is `sig`.

    Raises
    ------
    UserError
        No clips, or all of them longer than `max_seconds`; no column `group_by`; a mixer and a
        cache, since mixtures that are new each time can't be kept.

    Example
    -------
    >>> from focalcodec.data.embedded import embedded_corpus
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
                f"clip {clean[0]!r} has no column noisy, others have one; give it to all of the"
                " set or to none"
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
        """Clips."""
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any] | None:
        """Clip, or None where its file is broken.

        Parameters
        ----------
        index : int or (int, int)
            Place in the manifest, and how often the clip was drawn before, default 0: a mixer
            makes another mixture each time.
        """
        place, draw = index if isinstance(index, tuple) else (index, 0)
        row = self.rows[place]
        try:
            heard, said = self._read(row, draw)
        except UserError as error:
            if self.report is not None:
                report_broken(self.report, row["wav"], str(error))
            return None
        names = {name: row[name] for name in ("wav", "spk_id", "wrd")}
        group = "" if self.group_by is None else str(row[self.group_by])
        item = {"id": row["ID"], **names, "span": _span(row), "group": group}
        item["channels"] = self._channels(row)
        return {**item, **said, "mixture": heard}

    def _read(
        self, row: Mapping[str, Any], draw: int
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Wav, sig and feats of a clip as it is heard, None without a mixture, and as it was said.

        Both have the same samples: features of one are predicted from those of the other.
        """
        if "noisy" not in row and self.mixer is None:
            return None, self._read_file(row, row["wav"])
        if "noisy" in row:
            heard, said = (self._read_file(row, row[name]) for name in ("noisy", "wav"))
        else:
            assert self.mixer is not None
            mixed = self.mixer(row, draw)
            heard, said = (
                {"wav": row["wav"], "sig": sig, "feats": None} for sig in (mixed.noisy, mixed.clean)
            )
        samples = [len(part["sig"]) for part in (heard, said)]
        # What the cache has was not read, and has no samples.
        if samples[0] != samples[1] and all(samples):
            raise UserError(
                f"{heard['wav']}: {samples[0]} samples at {self.sample_rate} Hz, its clean"
                f" recording {row['wav']} {samples[1]}; they must be of one length"
            )
        return heard, said

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
