"""What there is to do: a pure function of corpus, model and options, the same in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from focalcodec.audio import CHANNELS, Channels
from focalcodec.errors import UserError
from focalcodec.long_audio.coding import WINDOW_SECONDS
from focalcodec.tokenize.sources import Clip, Source
from focalcodec.tokenize.vocabulary import TokenVocabulary

FORMATS = ("memmap", "parquet")
PART_BYTES = 1 << 27  # of audio files: a part of hour-long recordings must not last for days
_VERSION = 1  # of the plan: a new number where the same key would give other output


class ModelIdentity(NamedTuple):
    """What the tokens' metadata say of the model.

    `weights_sha256` is that of the model before a change of precision; `streams` are the tokens of
    a frame.
    """

    name: str
    weights_sha256: str
    precision: str = "fp32"
    streams: int = 1


@dataclass(frozen=True)
class TokenizeOptions:
    """What shapes the output.

    Parameters
    ----------
    channels : {"mix", "first", "error"}
        Files with several channels are averaged, read for their first, or fail.
    batch_seconds : float
        Audio of a batch, padding included. A longer clip is a batch of its own.
    window_seconds : float
        Longer clips go through the codec in windows of this length (see `encode_blocks`).
    part_clips : int
        Clips of a part: what one process does at a time, and at most loses when it is killed.
    formats : sequence of {"memmap", "parquet"}
        What to write.

    Raises
    ------
    UserError
        A value that is none.

    Example
    -------
    >>> TokenizeOptions(part_clips=0)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: part_clips=0: give 1 or more
    """

    channels: Channels = "mix"
    batch_seconds: float = 120.0
    window_seconds: float = WINDOW_SECONDS
    part_clips: int = 256
    formats: Sequence[str] = ("memmap",)

    def __post_init__(self) -> None:
        """Refuse values that are none before any file is looked at."""
        if self.channels not in CHANNELS:
            raise UserError(f"channels={self.channels!r}: not one of {', '.join(CHANNELS)}")
        for name in ("batch_seconds", "window_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name}={getattr(self, name)}: give a number above 0")
        if self.part_clips < 1:
            raise UserError(f"part_clips={self.part_clips}: give 1 or more")
        if not self.formats or not set(self.formats) <= set(FORMATS):
            raise UserError(f"formats={list(self.formats)}: give some of {', '.join(FORMATS)}")


@dataclass(frozen=True)
class Shard:
    """Which of how many processes this is."""

    index: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Shard:
        """Shard from RANK and WORLD_SIZE, as torchrun sets them; else the only one.

        Example
        -------
        >>> Shard.from_environment({"RANK": "1", "WORLD_SIZE": "4"})
        Shard(index=1, count=4)
        """
        return cls(int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1)))

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Shard from text such as "0/4".

        Raises
        ------
        UserError
            It is not that.

        Example
        -------
        >>> Shard.parse("3/4")
        Shard(index=3, count=4)
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise UserError(f"shard {text!r}: give INDEX/COUNT, e.g. 0/4 to 3/4 for four processes")
        return cls(int(index), int(count))


@dataclass(frozen=True)
class Plan:
    """All clips in order, cut into parts.

    Parameters
    ----------
    source : Source
        Corpus.
    model : ModelIdentity
        Model.
    options : TokenizeOptions
        Options.
    vocabulary : TokenVocabulary
        For the memmap.

    Example
    -------
    >>> from focalcodec.tokenize.sources import FileSource
    >>> source = FileSource([Clip(name, name) for name in "abcde"], "")
    >>> options = TokenizeOptions(part_clips=2)
    >>> plan = Plan(source, ModelIdentity("m", "00"), options, TokenVocabulary(8))
    >>> [[clip.id for clip in plan.clips(part)] for part in range(plan.parts)]
    [['a', 'b'], ['c', 'd'], ['e']]
    >>> list(plan.parts_of(Shard(0, 2)))
    [0, 2]
    """

    source: Source
    model: ModelIdentity
    options: TokenizeOptions
    vocabulary: TokenVocabulary

    @cached_property
    def key(self) -> dict[str, Any]:
        """All that the output depends on, JSON-ready."""
        options = asdict(self.options)
        seconds = {name: float(x) for name, x in options.items() if name.endswith("_seconds")}
        return {
            "version": _VERSION,
            "weights_sha256": self.model.weights_sha256,
            "precision": self.model.precision,
            "source_clips": len(self.source.clips),
            "source_sha256": self.source.digest,
            **{**options, **seconds, "formats": sorted(options["formats"])},
            "vocabulary": self.vocabulary.config,
            # left out as before there were several, so that corpora that are done stay so
            **({"streams": self.model.streams} if self.model.streams > 1 else {}),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the key, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _starts(self) -> list[int]:
        """First clip of each part, and the number of clips."""
        starts, size = [0], 0
        for index, clip in enumerate(self.source.clips):
            full = index - starts[-1] == self.options.part_clips
            if full or (index > starts[-1] and size + clip.size > PART_BYTES):
                starts.append(index)
                size = 0
            size += clip.size
        return [*starts, len(self.source.clips)]

    @property
    def parts(self) -> int:
        """Number of parts."""
        return len(self._starts) - 1

    def clips(self, part: int) -> Sequence[Clip]:
        """Clips of a part."""
        return self.source.clips[self._starts[part] : self._starts[part + 1]]

    def parts_of(self, shard: Shard) -> Iterator[int]:
        """Parts that a process sees to, in order."""
        yield from range(shard.index, self.parts, shard.count)
