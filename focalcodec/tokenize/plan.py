"""The plan of a run: a pure function of corpus, model and options, the same in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from focalcodec.choices import CHANNELS, TOKEN_FORMATS, WINDOW_SECONDS, Channels
from focalcodec.errors import UserError

if TYPE_CHECKING:  # these import torch, and the parser of the command needs the options only
    from focalcodec.processes import Shard
    from focalcodec.tokenize.clips import CorpusClip, CorpusSource
    from focalcodec.tokenize.store import TokenVocabulary

PART_BYTES = 1 << 27  # of audio files: a part of hour-long recordings must not take days
_VERSION = 1  # version of the plan: increase it if the same key would give another output


class ModelIdentity(NamedTuple):
    """The model in the metadata of the tokens."""

    name: str
    weights_sha256: str  # before a change of precision
    precision: str = "fp32"
    streams: int = 1  # tokens per frame


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


@dataclass(frozen=True)
class TokenizePlan:
    """All clips of a corpus in order, cut into parts.

    Example
    -------
    >>> from focalcodec.processes import Shard
    >>> from focalcodec.tokenize.clips import CorpusClip, FileSource
    >>> from focalcodec.tokenize.store import TokenVocabulary
    >>> source = FileSource([CorpusClip(name, name) for name in "abcde"], "")
    >>> options = TokenizeOptions(part_clips=2)
    >>> plan = TokenizePlan(source, ModelIdentity("m", "00"), options, TokenVocabulary(8))
    >>> [[clip.id for clip in plan.clips(part)] for part in range(plan.parts)]
    [['a', 'b'], ['c', 'd'], ['e']]
    >>> list(plan.parts_of(Shard(0, 2)))
    [0, 2]
    """

    source: CorpusSource
    model: ModelIdentity
    options: TokenizeOptions
    vocabulary: TokenVocabulary  # of the memmap

    @cached_property
    def key(self) -> dict[str, Any]:
        """Everything that the output depends on, ready for JSON."""
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
            # one stream is left out, so that the keys of older runs stay valid
            **({"streams": self.model.streams} if self.model.streams > 1 else {}),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the key, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _starts(self) -> list[int]:
        """Index of the first clip of each part, and the number of clips."""
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

    def clips(self, part: int) -> Sequence[CorpusClip]:
        """Clips of a part."""
        return self.source.clips[self._starts[part] : self._starts[part + 1]]

    def parts_of(self, shard: Shard) -> Iterator[int]:
        """Parts of one process, in order."""
        yield from range(shard.index, self.parts, shard.count)
