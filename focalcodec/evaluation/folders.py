"""A run's folder: where audio, records and cards are, and what of it is done.

    OUT/<set>/clips.json, reference/*.flac (denoising: input/, conversion: target/), records/
    OUT/<set>/<codec>/audio/*.flac, toks.npz, transcripts.csv, card.json
    OUT/<set>/<codec>/records/*.jsonl

A record is one line of JSON, of one clip, appended when its work is done; each process appends to
files of its own. It bears the key of all that it depends on: what another model, another judge or
other clips left is not counted. So a kill loses at most the batch in work, and a line that it cut
short is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from focalcodec.coders.spec import CodecSpec
from focalcodec.evaluation.clips import ClipSet, EvalClip
from focalcodec.files import atomic_path


def digest(*parts: Any) -> str:
    """Key of JSON-ready parts, 16 hexadecimal digits.

    Example
    -------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, allow_nan=False) + "\n",
            encoding="utf-8",
        )


class _Records:
    """Records of clips under a folder, by name and key."""

    def __init__(self, path: Path, clip_set: ClipSet, rank: int) -> None:
        self.path, self.clip_set, self.rank = path, clip_set, rank

    def _claim(self, name: str, key: str) -> None:
        """Give up the records of audio that is about to be written over by that of another key."""
        folder = self.path / "records"
        folder.mkdir(parents=True, exist_ok=True)
        owner = folder / f"{name}.key"
        with FileLock(folder / ".lock"):
            if owner.is_file() and owner.read_text(encoding="ascii") == key:
                return
            for path in folder.glob(f"{name}.*.jsonl"):
                path.unlink()
            with atomic_path(owner) as temporary:
                temporary.write_text(key, encoding="ascii")

    def _records(self, name: str, key: str) -> dict[str, dict[str, Any]]:
        known = {clip.id for clip in self.clip_set.clips}
        found = {}
        for path in sorted((self.path / "records").glob(f"{name}.*.jsonl")):
            for record in _lines(path):
                if record.get("key") == key and record.get("id") in known:
                    found[record["id"]] = record
        return found

    def _append(self, name: str, record: dict[str, Any]) -> None:
        path = self.path / "records" / f"{name}.{self.rank}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record, allow_nan=False) + "\n"
        with path.open("ab") as file:
            if file.tell() and not _ends_in_newline(path):
                line = "\n" + line
            file.write(line.encode("ascii"))


class SetFolder(_Records):
    """What a run keeps of one set.

    Parameters
    ----------
    out : Path
        Folder of the run.
    clip_set : ClipSet
        Set.
    rank : int
        Which of the processes this is.
    """

    def __init__(self, out: Path, clip_set: ClipSet, rank: int = 0) -> None:
        super().__init__(out / clip_set.name, clip_set, rank)

    def audio(self, part: str, clip: EvalClip) -> Path:
        """File of a clip in reference, input or target."""
        return self.path / part / f"{clip.file}.flac"

    def claim(self) -> None:
        """Make the audio of this set's clips that of the folder."""
        self._claim("clips", self.clip_set.sha256)

    def kept(self) -> set[str]:
        """Ids of the clips whose audio is there."""
        return set(self._records("clips", self.clip_set.sha256))

    def add_kept(self, clip: EvalClip) -> None:
        """Keep that it is."""
        self._append("clips", {"key": self.clip_set.sha256, "id": clip.id})


class CodecFolder(_Records):
    """What a run keeps of one codec on one set.

    Parameters
    ----------
    out : Path
        Folder of the run.
    clip_set : ClipSet
        Set.
    spec : CodecSpec
        Codec.
    rank : int
        Which of the processes this is.
    """

    def __init__(self, out: Path, clip_set: ClipSet, spec: CodecSpec, rank: int = 0) -> None:
        super().__init__(out / clip_set.name / spec.folder, clip_set, rank)

    def audio(self, clip: EvalClip) -> Path:
        """File of a clip's output."""
        return self.path / "audio" / f"{clip.file}.flac"

    @property
    def card(self) -> Path:
        """File of the result card."""
        return self.path / "card.json"

    def claim(self, key: str) -> None:
        """Make the audio of this key that of the folder."""
        self._claim("coded", key)

    def coded(self, key: str) -> dict[str, dict[str, Any]]:
        """Records of the clips that are coded and whose audio is there, by id."""
        files = {clip.id: self.audio(clip) for clip in self.clip_set.clips}
        records = self._records("coded", key)
        return {name: record for name, record in records.items() if files[name].is_file()}

    def add_coded(self, key: str, clip: EvalClip, record: dict[str, Any]) -> None:
        """Keep that a clip is coded, once its audio is there."""
        self._append("coded", {"key": key, "id": clip.id, **record})

    def scores(self, judge: str, key: str) -> dict[str, dict[str, Any]]:
        """Records of the clips that a judge has scored, by id."""
        return self._records(f"scores-{judge}", key)

    def add_score(self, judge: str, key: str, clip: EvalClip, record: dict[str, Any]) -> None:
        """Keep what a judge says of a clip."""
        self._append(f"scores-{judge}", {"key": key, "id": clip.id, **record})


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a file; a line that a kill cut short is passed over."""
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
