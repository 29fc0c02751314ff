"""The plan of an evaluation, and its folder, in which each process finds the finished clips.

    OUT/<set>/clips.json, reference/*.flac (denoising: input/, conversion: target/), records/
    OUT/<set>/<codec>/audio/*.flac, toks.npz, transcripts.csv, card.json
    OUT/<set>/<codec>/records/*.jsonl

A record is one line of JSON for one clip, appended when its work is complete; each process appends
to its own files. A record contains the key (hash) of everything that it depends on, so records of
another model, another judge or other clips are ignored. A process that is killed loses at most the
current batch. What is incomplete, because a process was killed or the disk was full, is computed
again: half a line, and audio that is missing or has another size than its record says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focalcodec import __version__
from focalcodec.choices import RESAMPLES, WINDOW_SECONDS
from focalcodec.coders import CodecSpec
from focalcodec.errors import UserError
from focalcodec.evaluation.sets import ClipSet, EvalClip
from focalcodec.files import append_line, atomic_path
from focalcodec.processes import FolderLock, Shard
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
    """From `coders.parse_specs`."""
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


def plan_text(plan: EvaluationPlan, loaded: Loaded) -> str:
    """Return what a run is going to do: sets, codecs and judges, each in a line."""
    count = sum(len(clip_set.clips) for clip_set in plan.sets)
    sets = [
        f"{s.name} ({f'{s.kind}, ' if s.kind else ''}{counted(len(s.clips), 'clip')},"
        f" {s.seconds:.0f} s)"
        for s in plan.sets
    ]
    judges = [judge["name"] for judge in loaded.judges]
    missing = f"; {len(loaded.missing)} not installed" if loaded.missing else ""
    return "\n".join(
        [
            f"plan: {plan.task} of {counted(count, 'clip')} by"
            f" {counted(len(plan.codecs), 'codec')}, in {plan.out}",
            f"  sets: {', '.join(sets)}",
            f"  codecs: {', '.join(spec.label for spec in plan.codecs)}",
            f"  judges: {', '.join(judges) or 'none'} (panel {plan.panel}){missing}",
        ]
    )


def counted(count: int, what: str) -> str:
    """Return a number of things in words.

    Example
    -------
    >>> counted(1, "clip"), counted(2, "clip")
    ('1 clip', '2 clips')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


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

    def _read(self, name: str, key: str, *fields: str) -> dict[str, dict[str, Any]]:
        """Return the records with these fields, by id."""
        ids = {clip.id for clip in self.clip_set.clips}
        records = {}
        # All processes' files, of this run and of earlier ones with another number of processes.
        for path in sorted((self.path / "records").glob(f"{name}.*.jsonl")):
            for record in _lines(path):
                if record.get("key") != key or record.get("id") not in ids:
                    continue
                if all(field in record for field in fields):
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
        clips = {clip.id: clip for clip in self.clip_set.clips}
        records = self._read("clips", self.clip_set.sha256)
        return {id for id, known in records.items() if _whole(self._files(clips[id]), known)}

    def add_copied(self, clip: EvalClip) -> None:
        """Record that the audio of a clip is complete."""
        sizes = [path.stat().st_size for path in self._files(clip)]
        self._append("clips", {"key": self.clip_set.sha256, "id": clip.id, "bytes": sizes})

    def _files(self, clip: EvalClip) -> list[Path]:
        return [self.audio(part, clip) for part in clip.parts]


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
        records = self._read("coded", key, "bits")
        return {name: known for name, known in records.items() if _whole([files[name]], known)}

    def add_coded(self, key: str, clip: EvalClip, record: dict[str, Any]) -> None:
        """Record that a clip is coded, after its audio is written."""
        sizes = [self.audio(clip).stat().st_size]
        self._append("coded", {"key": key, "id": clip.id, "bytes": sizes, **record})

    def scores(self, judge: str, key: str) -> dict[str, dict[str, Any]]:
        """Return the records, by id, of the clips that a judge has scored."""
        return self._read(f"scores-{judge}", key, "scores")

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


def _whole(files: Sequence[Path], record: Mapping[str, Any]) -> bool:
    """Return whether the files of a record exist, with the sizes that it says."""
    if not all(path.is_file() for path in files):
        return False
    sizes = [path.stat().st_size for path in files]
    return record.get("bytes", sizes) == sizes  # records of earlier versions have no sizes


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; NaN is an error."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, allow_nan=False) + "\n",
            encoding="utf-8",
        )
