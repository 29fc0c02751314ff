"""Options of `focalcodec tokenize` that change its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from focalcodec.choices import CHANNELS, TOKEN_FORMATS, WINDOW_SECONDS, Channels
from focalcodec.errors import UserError


@dataclass(frozen=True)
class TokenizeOptions:
    """Options that change the output; `UserError` if a value is not allowed.

    Parameters
    ----------
    channels : {"mix", "first", "error"}
        For a file with several channels: take their mean, take the first, or fail.
    batch_seconds : float
        Audio of a batch, padding included. A longer clip is a batch by itself.
    window_seconds : float
        Longer clips are encoded in windows of this length (see `encode_blocks`).
    part_clips : int
        Clips of a part: a process encodes one part at a time, and loses at most one if killed.
    formats : sequence of {"memmap", "parquet"}
        What to write.
    """

    channels: Channels = "mix"
    batch_seconds: float = 120.0
    window_seconds: float = WINDOW_SECONDS
    part_clips: int = 256
    formats: Sequence[str] = ("memmap",)

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise UserError(f"channels={self.channels!r}: not one of {', '.join(CHANNELS)}")
        for name in ("batch_seconds", "window_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name}={getattr(self, name)}: give a number above 0")
        if self.part_clips < 1:
            raise UserError(f"part_clips={self.part_clips}: give 1 or more")
        if not self.formats or not set(self.formats) <= set(TOKEN_FORMATS):
            raise UserError(
                f"formats={list(self.formats)}: give some of {', '.join(TOKEN_FORMATS)}"
            )
