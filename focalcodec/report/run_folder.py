"""Reads and checks the folder of an evaluation run.

A run has `SET/clips.json`, `SET/reference/*.flac`, and for each codec `SET/CODEC/card.json`,
`SET/CODEC/audio/*.flac` with the file names of the references and, if there is one stream of
tokens, `SET/CODEC/toks.npz` with an array for each clip, by the name of its reference.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError
from focalcodec.evaluation.intervals import Figure
from focalcodec.evaluation.speed import read_speed
from focalcodec.evaluation.summary import separate_judges
from focalcodec.files import read_json
from focalcodec.metrics.judge import Column

FORMAT = 1
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClipEntry:
    """A clip of a set."""

    id: str
    speaker: str
    language: str
    text: str
    seconds: float
    ref: Path
    """Recording that outputs are compared with."""
    input: Path | None = None
    """Input of the codecs, if it is not the reference (denoising)."""
    target: Path | None = None
    """Recording of the target speaker (conversion)."""


@dataclass(frozen=True)
class CardColumn(Column):
    """Description of one kind of score on a card."""

    judge: str


@dataclass(frozen=True)
class CodecRun:
    """Results of one codec on one set."""

    name: str
    folder: Path
    card: dict[str, Any]
    """The whole card."""
    columns: tuple[CardColumn, ...]
    figures: dict[str, Figure]
    languages: dict[str, dict[str, Figure]]
    """Figures by language and key, if there is more than one language."""
    scores: dict[str, dict[str, float]]
    """Scores by key and clip."""
    transcripts: dict[str, dict[str, str]]
    """Transcripts by clip and judge."""

    @property
    def codec(self) -> dict[str, Any]:
        """The card's description of the codec."""
        return self.card["codec"]

    @property
    def clips_sha256(self) -> str:
        """Hash of the set's list of clips, or ""."""
        return str((self.card.get("set") or {}).get("sha256") or "")

    @property
    def kbps(self) -> float | None:
        """Bitrate as sent, kbit/s; None if nothing is sent."""
        return finite(self.codec.get("kbps"))

    @property
    def speed(self) -> dict[str, Any]:
        """Speed and memory; empty if they were not measured."""
        return read_speed(self.card)

    @property
    def has_toks(self) -> bool:
        """True if its tokens are one stream and are stored."""
        return (self.folder / "toks.npz").is_file()

    def audio(self, clip: ClipEntry) -> Path:
        """Return the path of its output for a clip."""
        return self.folder / "audio" / clip.ref.name

    def toks(self, clip: ClipEntry) -> Ints | None:
        """Return the tokens (N,) of a clip; None if there are none."""
        return self._toks.get(clip.ref.stem)

    @cached_property
    def _toks(self) -> dict[str, Ints]:
        """Tokens of all clips, by the name of the clip's audio file."""
        path = self.folder / "toks.npz"
        if not path.is_file():
            return {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[f"{name}.npy"].reshape(-1).astype(np.int64) for name in arrays}
        except (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: damaged ({error}); evaluate again") from error


@dataclass(frozen=True)
class SetRun:
    """A set of clips and the codecs that were evaluated on it."""

    name: str
    task: str
    kind: str
    sha256: str
    clips: tuple[ClipEntry, ...]
    codecs: tuple[CodecRun, ...] = field(default=())
    notes: tuple[str, ...] = ()
    """A line for each card that is left out."""

    @property
    def seconds(self) -> float:
        """Total duration of the clips."""
        return sum(clip.seconds for clip in self.clips)

    @property
    def columns(self) -> tuple[CardColumn, ...]:
        """Columns of all codecs, in the order of the first card that has them."""
        found = {column.key: column for codec in self.codecs for column in codec.columns}
        return tuple(found.values())


def read_run(folder: Path) -> tuple[SetRun, ...]:
    """Read all sets with a card in the output folder of an evaluation.

    Sets are sorted by name, real speech first; codecs with tokens come first, then by bitrate. A
    card of other clips, from an earlier evaluation of a set with this name, is left out with a
    note. UserError if there is no set with a card, or a file is damaged or has another format.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the output folder of an evaluation")
    lists = {path: _read_json(path) for path in sorted(folder.glob("*/clips.json"))}
    paths = sorted(folder.glob("*/*/card.json"))
    codecs = [_read_codec(path, _read_json(path)) for path in paths]
    cards = separate_judges([codec.card for codec in codecs])
    codecs = [_read_codec(*each) for each in zip(paths, cards, strict=True)]
    sets = [found for path in lists if (found := _read_set(path, lists[path], codecs)).codecs]
    if not sets:
        raise UserError(
            f"{folder}: no SET/clips.json with a SET/CODEC/card.json beside it;"
            " give the output folder of an evaluation"
        )
    order = {"real": 0, "": 1, "synthetic": 2}
    return tuple(sorted(sets, key=lambda each: (order.get(each.kind, 1), each.name)))


def finite(value: Any) -> float | None:
    """Return a finite number, or None for any other JSON value."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _read_set(path: Path, listed: dict[str, Any], codecs: Sequence[CodecRun]) -> SetRun:
    folder, sha256 = path.parent, str(listed.get("sha256", ""))
    own = [codec for codec in codecs if codec.folder.parent == folder]
    of_these = [codec for codec in own if not sha256 or codec.clips_sha256 in ("", sha256)]
    try:
        first = of_these[0].card if of_these else {"set": {}}
        return SetRun(
            name=str(listed["name"]),
            task=str(first.get("task", "resynthesis")),
            kind=str(listed.get("kind") or first["set"].get("kind") or ""),
            sha256=sha256,
            clips=tuple(_clip(folder, clip) for clip in listed["clips"]),
            codecs=tuple(
                sorted(of_these, key=lambda c: (not c.has_toks, c.kbps or math.inf, c.name))
            ),
            notes=tuple(
                f"{codec.folder / 'card.json'}: left out, because it is of other clips"
                for codec in own
                if codec not in of_these
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise _damaged(path, error) from error


def _clip(folder: Path, clip: dict[str, Any]) -> ClipEntry:
    return ClipEntry(
        id=str(clip["id"]),
        speaker=str(clip.get("speaker", "")),
        language=str(clip.get("language", "")),
        text=str(clip.get("text", "")),
        seconds=float(clip["seconds"]),
        ref=_inside(folder, clip["ref"]),
        input=_inside(folder, clip["input"]) if clip.get("input") else None,
        target=_inside(folder, clip["target"]) if clip.get("target") else None,
    )


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a listed file. Files outside the run must not get into a page."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{folder / 'clips.json'}: {name!r} leaves the set's folder; remove it")
    return folder / path


def _read_codec(path: Path, card: dict[str, Any]) -> CodecRun:
    if card.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {card.get('format')!r}, this version reads {FORMAT}; evaluate again"
        )
    try:
        scores: dict[str, dict[str, float]] = {}
        for clip in card["clips"]:
            for key, score in clip["scores"].items():
                if (value := finite(score[0])) is not None:
                    scores.setdefault(key, {})[str(clip["id"])] = value
        return CodecRun(
            name=str(card["codec"]["name"]),
            folder=path.parent,
            card=card,
            columns=tuple(_column(column) for column in card["columns"]),
            figures=_figures(card["figures"]),
            languages={
                str(name): _figures(figures)
                for name, figures in (card.get("splits") or {}).get("language", {}).items()
            },
            scores=scores,
            transcripts={str(clip["id"]): _transcripts(clip) for clip in card["clips"]},
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _column(column: dict[str, Any]) -> CardColumn:
    key, title, unit, better = (str(column[name]) for name in ("key", "title", "unit", "better"))
    return CardColumn(key, title, unit, cast(Any, better), str(column.get("judge") or ""))


def _figures(figures: dict[str, Any]) -> dict[str, Figure]:
    return {key: found for key, figure in figures.items() if (found := _figure(figure)) is not None}


def _figure(figure: dict[str, Any] | None) -> Figure | None:
    value, low, high = (finite((figure or {}).get(name)) for name in ("value", "low", "high"))
    if value is None or figure is None:
        return None
    count, speakers = (int(figure.get(name) or 0) for name in ("count", "speakers"))
    low, high = (value if end is None else end for end in (low, high))
    return Figure(value, low, high, count, speakers)


def _transcripts(clip: dict[str, Any]) -> dict[str, str]:
    # Cards of earlier versions have the key "heard".
    found = clip.get("transcripts", clip.get("heard")) or {}
    return {str(judge): str(text) for judge, text in found.items()}


def _read_json(path: Path) -> dict[str, Any]:
    content = read_json(path, "evaluate again")
    if not isinstance(content, dict):
        raise _damaged(path, "no object")
    return content


def _damaged(path: Path, why: object) -> UserError:
    reason = f"no {why}" if isinstance(why, KeyError) else str(why)
    return UserError(f"{path}: damaged or not from an evaluation ({reason}); evaluate again")
