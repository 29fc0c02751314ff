"""The clips of one set, to draw voices from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from focalcodec.data.clip_audio import read_clip

Signal: TypeAlias = npt.NDArray[np.float64]


class ClipPool:
    """Clips by speaker; what is drawn does not depend on the order of the rows.

    Parameters
    ----------
    rows : sequence of mapping
        From `read_manifest`.
    sample_rate : int
        Rate of what is read, Hz.

    Example
    -------
    >>> rows = [{"ID": "a", "spk_id": "1"}, {"ID": "b", "spk_id": "2"}]
    >>> pool = ClipPool(rows, 16000)
    >>> pool.draw(np.random.default_rng(0), ["2"])["ID"]
    'a'
    >>> pool.draw(np.random.default_rng(0), ["1", "2"]) is None
    True
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._by_speaker: dict[str, list[Mapping[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: row["ID"]):
            self._by_speaker.setdefault(row["spk_id"], []).append(row)
        self.speakers = sorted(self._by_speaker)

    def draw(self, rng: np.random.Generator, without: Collection[str]) -> Mapping[str, Any] | None:
        """Any clip of any speaker but some; None where there is no other."""
        others = [name for name in self.speakers if name not in without]
        if not others:
            return None
        clips = self._by_speaker[others[rng.integers(len(others))]]
        return clips[rng.integers(len(clips))]

    def read(self, row: Mapping[str, Any]) -> Signal:
        """Signal (T,) of a clip."""
        span = (row["start"], row["stop"]) if "start" in row else None
        channels: Any = row.get("channels") or "error"
        return read_clip(row["wav"], self.sample_rate, span, channels).numpy().astype(np.float64)
