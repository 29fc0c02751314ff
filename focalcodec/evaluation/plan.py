"""The plan of a run, and its folder, in which each process finds the finished clips.

    OUT/<set>/clips.json, reference/*.flac (denoising: input/, conversion: target/), records/
    OUT/<set>/<codec>/audio/*.flac, toks.npz, transcripts.csv, card.json
    OUT/<set>/<codec>/records/*.jsonl

A record is one line of JSON for one clip, appended when its work is complete; each process appends
to its own files. A record contains the key (hash) of everything that it depends on, so records of
another model, another judge or other clips are ignored. A process that is killed loses at most the
current batch, and an incomplete last line is computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focalcodec import __version__
from focalcodec.coders.spec import CodecSpec
from focalcodec.errors import UserError
from focalcodec.evaluation.intervals import RESAMPLES
from focalcodec.evaluation.sets import ClipSet, EvalClip
from focalcodec.files import append_line, atomic_path
from focalcodec.locks import FolderLock
from focalcodec.long_audio.coding import WINDOW_SECONDS
from focalcodec.processes import Shard
from focalcodec.tokenize.parts import plan_batches


@dataclass(frozen=True)
class EvaluationPlan:
    """The plan of a run; the same in every process.

    Raises
    ------
    UserError
        Two sets or a codec's label would share a folder.
    """

    sets: tuple[ClipSet, ...]
    """From `sets.read_sets`."""
    codecs: tuple[CodecSpec, ...]
    """From `coders.spec.parse_specs`."""
    out: Path
    """Folder of the run."""
    task: str = "resynthesis"
    """One of `sets.TASKS`."""
    panel: str = "offline"
    """Name of the panel of judges."""
    device: str = "cpu"
    """Device of codecs and judges."""
    seed: int = 1986
    bootstrap_samples: int = RESAMPLES
    """Draws for the intervals, with `seed`."""
    batch_seconds: float = 60.0
    """Audio of a batch, padding included."""
    window_seconds: float = WINDOW_SECONDS
    """Longer clips are coded in windows of this length."""
    speed_clips: int = 4
    """Number of clips for measuring the speed; 0 skips it."""
    command: str = ""
    """Command line, for the cards."""

    def __post_init__(self) -> None:
        names = [clip_set.name.lower() for clip_set in self.sets]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{name}: two sets have this name; rename one of the sources")
        for spec in self.codecs:
            if spec.folder.lower() in ("reference", "input", "target"):
                raise UserError(f"codecs: {spec.label}: the name is taken; give NAME={spec.label}")

    def batches(self, clip_set: ClipSet, shard: Shard) -> list[list[EvalClip]]:
        """Return the batches of one process, each of clips of similar length, longest first."""
        clips = clip_set.clips
        short = {i: c.seconds for i, c in enumerate(clips) if c.seconds <= self.window_seconds}
        # A clip longer than a window is a batch by itself.
        batches = [[i] for i in range(len(clips)) if i not in short]
        batches += plan_batches(short, self.batch_seconds)
        return [[clips[i] for i in batch] for batch in batches[shard.index :: shard.count]]


@dataclass
class Loaded:
    """Codecs and judges that a process could load, JSON-ready."""

    coders: dict[str, dict[str, Any]] = field(default_factory=dict)
    """`Coder.describe()` by label."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why a codec can't be used, by label."""
    judges: list[dict[str, Any]] = field(default_factory=list)
    """Name, columns and description of each judge."""
    missing: list[str] = field(default_factory=list)
    """A line for each judge that is not installed."""


# -- keys ------------------------------------------------------------------------------------------


def digest(*parts: Any) -> str:
    """Return a key of JSON-ready parts, 16 hexadecimal digits.

    Example
    -------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def coded_key(plan: EvaluationPlan, clip_set: ClipSet, coder: dict[str, Any]) -> str:
    """Return the key of a codec's output on a set."""
    known = {
        name: value
        for name, value in coder.items()
        # The weights identify a model; its folder may change.
        if name != "source" or not coder["weights_sha256"]
    }
    return digest(__version__, plan.task, clip_set.sha256, known)


def score_key(
    plan: EvaluationPlan, clip_set: ClipSet, coder: dict[str, Any], judge: dict[str, Any]
) -> str:
    """Return the key of a judge's scores of a codec's output."""
    return digest(coded_key(plan, clip_set, coder), judge["describe"])


# -- folder ----------------------------------------------------------------------------------------


class _Records:
    """Records of clips in a folder, by name and key."""

    def __init__(self, path: Path, clip_set: ClipSet, rank: int) -> None:
        self.path, self.clip_set, self.rank = path, clip_set, rank

    def _claim(self, name: str, key: str) -> None:
        """Delete the records of audio with another key, which is about to be overwritten."""
        folder = self.path / "records"
        owner = folder / f"{name}.key"
        with FolderLock(folder):
            if owner.is_file() and owner.read_text(encoding="ascii") == key:
                return
            for path in folder.glob(f"{name}.*.jsonl"):
                path.unlink()
            with atomic_path(owner) as temporary:
                temporary.write_text(key, encoding="ascii")

    def _read(self, name: str, key: str) -> dict[str, dict[str, Any]]:
        ids = {clip.id for clip in self.clip_set.clips}
        records = {}
        # All processes' files, of this run and of earlier ones with another number of processes.
        for path in sorted((self.path / "records").glob(f"{name}.*.jsonl")):
            for record in _lines(path):
                if record.get("key") == key and record.get("id") in ids:
                    records[record["id"]] = record
        return records

    def _append(self, name: str, record: dict[str, Any]) -> None:
        path = self.path / "records" / f"{name}.{self.rank}.jsonl"
        append_line(path, json.dumps(record, allow_nan=False))


class SetFolder(_Records):
    """Folder of a set in a run: the recordings that outputs are compared with."""

    def __init__(self, out: Path, clip_set: ClipSet, rank: int = 0) -> None:
        super().__init__(out / clip_set.name, clip_set, rank)

    def audio(self, part: str, clip: EvalClip) -> Path:
        """Return the file of a clip; part is reference, input or target."""
        return self.path / part / f"{clip.file}.flac"

    def claim(self) -> None:
        """Remove the record of other clips of the same name."""
        self._claim("clips", self.clip_set.sha256)

    def copied(self) -> set[str]:
        """Return the ids of the clips with complete audio."""
        return set(self._read("clips", self.clip_set.sha256))

    def add_copied(self, clip: EvalClip) -> None:
        """Record that the audio of a clip is complete."""
        self._append("clips", {"key": self.clip_set.sha256, "id": clip.id})


class CodecFolder(_Records):
    """Folder of a codec on a set in a run."""

    def __init__(self, out: Path, clip_set: ClipSet, spec: CodecSpec, rank: int = 0) -> None:
        super().__init__(out / clip_set.name / spec.folder, clip_set, rank)

    def audio(self, clip: EvalClip) -> Path:
        """Return the file of a clip's output."""
        return self.path / "audio" / f"{clip.file}.flac"

    @property
    def card(self) -> Path:
        """File of the result card."""
        return self.path / "card.json"

    def claim(self, key: str) -> None:
        """Remove the record of audio with another key."""
        self._claim("coded", key)

    def coded(self, key: str) -> dict[str, dict[str, Any]]:
        """Return the records, by id, of the clips that are coded and have audio."""
        files = {clip.id: self.audio(clip) for clip in self.clip_set.clips}
        records = self._read("coded", key)
        return {name: record for name, record in records.items() if files[name].is_file()}

    def add_coded(self, key: str, clip: EvalClip, record: dict[str, Any]) -> None:
        """Record that a clip is coded, after its audio is written."""
        self._append("coded", {"key": key, "id": clip.id, **record})

    def scores(self, judge: str, key: str) -> dict[str, dict[str, Any]]:
        """Return the records, by id, of the clips that a judge has scored."""
        return self._read(f"scores-{judge}", key)

    def add_score(self, judge: str, key: str, clip: EvalClip, record: dict[str, Any]) -> None:
        """Record a judge's result for a clip."""
        self._append(f"scores-{judge}", {"key": key, "id": clip.id, **record})


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file; an incomplete line is skipped."""
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; NaN is an error."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, allow_nan=False) + "\n",
            encoding="utf-8",
        )
