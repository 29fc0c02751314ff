"""A bar of hours of audio whose end is estimated from the clips that are left."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from focalcodec.tokenize.part_encoder import EncodedClip
from focalcodec.tokenize.plan import Shard


class HoursBar:
    """Hours of this process' share, and the time left; the first process shows it.

    Lengths are known when files are read, so the whole is the mean of what is done times the
    number of clips, told after the first part. Without a terminal nothing is shown.

    Parameters
    ----------
    num_clips : int
        Clips of this process.
    shard : Shard
        Which process this is.

    Example
    -------
    >>> with HoursBar(2, Shard()) as bar:
    ...     bar.add_seconds(360.0)
    """

    def __init__(self, num_clips: int, shard: Shard) -> None:
        self._num_clips, self._done_clips = num_clips, 0
        self._part_hours = 0.0
        self._bar = tqdm(
            desc="tokenize" if shard.count == 1 else f"tokenize, {shard.index} of {shard.count}",
            disable=None if shard.index == 0 else True,
            unit="h",
            unit_scale=True,
        )

    def __enter__(self) -> HoursBar:
        """Give the bar."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the line."""
        self._bar.close()

    def add_seconds(self, seconds: float) -> None:
        """Count audio that was encoded just now."""
        self._part_hours += seconds / 3600
        self._bar.update(seconds / 3600)

    def end_part(self, clips: Sequence[EncodedClip]) -> None:
        """Count a finished part; one that was done before does not count as speed."""
        if self._bar.disable:
            return
        hours = sum(clip.seconds for clip in clips) / 3600
        earlier, self._part_hours = hours - self._part_hours, 0.0
        self._done_clips += len(clips)
        self._bar.initial += earlier
        self._bar.n += earlier
        self._bar.total = self._bar.n / self._done_clips * self._num_clips
        self._bar.refresh()
