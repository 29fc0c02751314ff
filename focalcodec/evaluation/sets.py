"""Sets of clips for an evaluation, from manifests or folders of audio."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from focalcodec.audio import AudioInfo, audio_info
from focalcodec.choices import TASKS
from focalcodec.data.manifest import DATA_ROOT, read_manifest, refuse_segments
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.files import distinct_file_names, file_sha256, safe_file_name
from focalcodec.tokenize.sources import folder_clips

KIND_NAMES = ("synthetic", "real", "")
VOICE_CLIPS = 20  # largest number of clips of the target speaker: some minutes


@dataclass(frozen=True)
class EvalClip:
    """One clip of a set; audio files are paths."""

    id: str
    file: str
    """Its file name in a run's folders, without a suffix."""
    reference: str
    """Recording that the output is compared with."""
    input: str
    """Input of the codec; the noisy recording for denoising, else the reference."""
    seconds: float
    sha256: str
    """Hash of all its audio files."""
    speaker: str = ""
    language: str = "en"
    text: str = ""
    target: str = ""
    """Conversion: recording of the target speaker that the output's voice is compared with."""
    voice: tuple[str, ...] = ()
    """Conversion: recordings of the target speaker that the codec may use."""

    @property
    def parts(self) -> dict[str, str]:
        """Recordings that a run keeps a copy of, by the name of the copies' folder."""
        parts = {"reference": self.reference}
        if self.input != self.reference:
            parts["input"] = self.input
        return {**parts, "target": self.target} if self.target else parts


@dataclass(frozen=True)
class ClipSet:
    """A named list of clips; `kind` is "synthetic", "real", or "" if it is unknown."""

    name: str
    clips: tuple[EvalClip, ...]
    kind: str = ""

    @cached_property
    def sha256(self) -> str:
        """Hash of ids, audio, speakers, languages and texts, but not of the files' places."""
        rows = [[c.id, c.sha256, c.speaker, c.language, c.text] for c in self.clips]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def seconds(self) -> float:
        """Total duration of the clips."""
        return sum(clip.seconds for clip in self.clips)


@dataclass(frozen=True)
class SetOptions:
    """How a source is read.

    Parameters
    ----------
    task : {"resynthesis", "denoising", "conversion"}
        Denoising needs a column `noisy`; conversion needs speakers.
    data_folder : str, optional
        Replaces `$data_root` in the paths of a manifest.
    kind : {"synthetic", "real", ""}
        Kind of the clips if the manifest has no column `kind`.
    language : str
        Language (ISO 639-1) of the clips if the manifest has no column `language`.
    seed : int
        Seed for the choice of clips and of target speakers.
    max_clips : int, optional
        Largest number of clips, chosen at random.
    """

    task: str = "resynthesis"
    data_folder: str | None = None
    kind: str = ""
    language: str = "en"
    seed: int = 1986
    max_clips: int | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UserError(f"task={self.task!r}: not one of {', '.join(TASKS)}")
        _check_kind("kind", self.kind)


def read_sets(
    source: str | Path, options: SetOptions | None = None, name: str = ""
) -> list[ClipSet]:
    """Read the sets of a manifest or a folder: one, or one for each kind in the manifest.

    Parameters
    ----------
    source : str or path
        CSV with ID, duration and wav, optionally noisy, spk_id, wrd, language and kind; or a
        folder of audio files, where the first folder below it is the speaker.
    options : SetOptions, optional
        How the source is read.
    name : str
        Name of the set; by default that of the source.

    Raises
    ------
    UserError
        There are no clips, a file is missing or broken, a column is missing, or there are too few
        speakers.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> (found,) = read_sets(embedded_corpus("LibriSpeech") / "test-real")
    >>> found.name, len(found.clips), found.clips[0].speaker
    ('test-real', 7, '91')
    """
    options = options or SetOptions()
    path = Path(source).expanduser()
    rows = _folder_rows(path) if path.is_dir() else _manifest_rows(path, options)
    name = name or set_name(source)
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        kind = row.get("kind") or options.kind
        _check_kind(f"{source}: kind of {row['ID']}", kind)
        by_kind[kind].append(row)
    return [
        ClipSet(
            safe_file_name(f"{name}-{kind}" if len(by_kind) > 1 and kind else name),
            _clips(source, some, options),
            kind,
        )
        for kind, some in by_kind.items()
    ]


def set_name(source: str | Path) -> str:
    """Return the name of a source's set: of a folder, or of a manifest without its suffix."""
    path = Path(source).expanduser()
    return path.resolve().name if path.is_dir() else path.stem


def describe_clips(clip_set: ClipSet) -> dict[str, Any]:
    """Return the content of a set's `clips.json`; paths are relative to the set's folder."""
    clips = []
    for clip in clip_set.clips:
        row = {key: value for key, value in asdict(clip).items() if key in _SHOWN}
        copies = {part: f"{part}/{clip.file}.flac" for part in clip.parts}
        clips.append({**row, "ref": copies.pop("reference"), **copies})
    return {
        "name": clip_set.name,
        "sha256": clip_set.sha256,
        "kind": clip_set.kind,
        "clips": clips,
    }


_SHOWN = ("id", "speaker", "language", "text", "seconds", "sha256")


def _folder_rows(folder: Path) -> list[dict[str, Any]]:
    clips = folder_clips(folder)
    if not clips:
        raise UserError(f"{folder}: no audio files; check the path")
    return [
        {
            "ID": clip.id,
            "wav": clip.location.replace(DATA_ROOT, str(folder), 1),
            "spk_id": clip.id.split("/")[0] if "/" in clip.id else "",
            "wrd": "",
        }
        for clip in clips
    ]


def _manifest_rows(path: Path, options: SetOptions) -> list[dict[str, Any]]:
    if path.suffix.lower() != ".csv":
        raise UserError(
            f"{path}: not a folder of audio and not a manifest (.csv); give one of them"
        )
    rows = read_manifest(path, DATA_ROOT, check_files=False)
    refuse_segments(path, rows, "evaluate whole files, or write the segments to files")
    noisy = options.task == "denoising"
    if noisy and "noisy" not in rows[0]:
        raise UserError(f"{path}: no column 'noisy'; denoising needs it beside wav, the clean one")
    for row in rows:
        for column in ("wav", "noisy") if noisy else ("wav",):
            if options.data_folder is None and row[column].startswith(DATA_ROOT):
                raise UserError(f"{path}: paths begin with {DATA_ROOT}; give --data_folder")
            row[column] = row[column].replace(DATA_ROOT, str(options.data_folder), 1)
    return rows


def _clips(
    source: str | Path, rows: Sequence[dict[str, Any]], options: SetOptions
) -> tuple[EvalClip, ...]:
    # A file may be the voice of many clips; it is hashed once.
    hashes: dict[str, str] = {}

    def sha256(paths: Iterable[str]) -> str:
        for path in paths:
            hashes.setdefault(path, file_sha256(path))
        return hashlib.sha256("".join(hashes[path] for path in paths).encode()).hexdigest()

    names = distinct_file_names(row["ID"] for row in rows)
    clips = []
    for row in rows:
        info = audio_info(row["wav"])
        # In a folder of clean speech the input is the reference: denoising must not change it.
        source_wav = row.get("noisy", row["wav"]) if options.task == "denoising" else row["wav"]
        if source_wav != row["wav"]:
            _check_lengths(row["wav"], info, source_wav)
        clips.append(
            EvalClip(
                id=row["ID"],
                file=names[row["ID"]],
                reference=row["wav"],
                input=source_wav,
                seconds=info.seconds,
                sha256="",
                speaker=row["spk_id"],
                language=row.get("language") or options.language,
                text=row["wrd"],
            )
        )
    if options.task == "conversion":
        clips = _pairs(source, clips, options.seed)
    if options.max_clips is not None:
        clips = _some(clips, options.max_clips, options.seed)
    return tuple(replace(clip, sha256=sha256(_files(clip))) for clip in clips)


def _files(clip: EvalClip) -> list[str]:
    return list(dict.fromkeys(filter(None, [clip.reference, clip.input, clip.target, *clip.voice])))


def _check_lengths(wav: str, info: AudioInfo, noisy: str) -> None:
    seconds = audio_info(noisy).seconds
    if abs(seconds - info.seconds) > 0.02:
        raise UserError(
            f"{noisy}: {seconds:.2f} s, its clean recording {wav} {info.seconds:.2f} s;"
            " they must have the same length"
        )


def _pairs(source: str | Path, clips: Sequence[EvalClip], seed: int) -> list[EvalClip]:
    """Give each clip a target speaker: another one, chosen by the seed and the clip's id.

    One clip of that speaker is reserved for the comparison; the codec gets others as `voice`.
    """
    by_speaker: dict[str, list[EvalClip]] = defaultdict(list)
    for clip in clips:
        by_speaker[clip.speaker].append(clip)
    targets = sorted(name for name, some in by_speaker.items() if name and len(some) > 1)
    if len(targets) < 1 or len(by_speaker) < 2:
        raise UserError(
            f"{source}: {len(by_speaker)} speakers, {len(targets)} of them with two clips;"
            " conversion needs two speakers, and two clips of the target speaker"
        )
    paired = []
    for clip in clips:
        others = [name for name in targets if name != clip.speaker]
        if not others:
            continue
        key = _key(seed, clip)
        own = sorted(
            by_speaker[others[key(0) % len(others)]], key=lambda c: stable_seed(seed, c.id)
        )
        target = own.pop(key(1) % len(own))
        # Sorted, so that clips of one target speaker share a cached voice.
        voice = tuple(sorted(c.reference for c in own[:VOICE_CLIPS]))
        paired.append(replace(clip, target=target.reference, voice=voice))
    return paired


def _key(seed: int, clip: EvalClip) -> Callable[[int], int]:
    return lambda index: stable_seed(seed, clip.id, index)


def _some(clips: Sequence[EvalClip], count: int, seed: int) -> list[EvalClip]:
    chosen = set(sorted((c.id for c in clips), key=lambda name: stable_seed(seed, name))[:count])
    return [clip for clip in clips if clip.id in chosen]


def _check_kind(what: str, kind: str) -> None:
    if kind not in KIND_NAMES:
        raise UserError(f"{what}={kind!r}: give synthetic or real, or leave it out")
