"""From the files of a corpus to a manifest that is remade when, and only when, it must be."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from focalcodec.audio import CHANNELS, Channels, audio_info, check_channels
from focalcodec.data.manifest import write_csv, write_manifest
from focalcodec.errors import UserError
from focalcodec.files import atomic_path

AUDIO_SUFFIXES = (".flac", ".wav", ".ogg", ".opus")
_FORMAT = 1  # of the manifest and of its key: a new number remakes all of them
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundFile:
    """A file of the corpus: `path` relative to the data root, with forward slashes."""

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class FoundClip:
    """A clip of the corpus before its audio file was looked into; `wav` as `FoundFile.path`."""

    id: str
    wav: str
    spk_id: str = ""
    wrd: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PrepareOptions:
    """What every corpus can be prepared with; part of the key of a manifest.

    Parameters
    ----------
    channels : {"error", "mix", "first"}
        Stereo files count as broken, or are read as their mean or first channel.
    min_seconds : float
        Shorter clips count as broken.
    max_broken_share : float
        More broken clips than this share of a set stop the preparation.

    Raises
    ------
    UserError
        A value that is none.
    """

    channels: Channels = "error"
    min_seconds: float = 0.05
    max_broken_share: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values that are none before any file is looked at."""
        if self.channels not in CHANNELS:
            raise UserError(f"channels={self.channels!r}: not one of {', '.join(CHANNELS)}")
        if not self.min_seconds >= 0:
            raise UserError(f"min_seconds={self.min_seconds}: give 0 or more")
        if not 0 <= self.max_broken_share <= 1:
            raise UserError(f"max_broken_share={self.max_broken_share}: give 0 to 1")


def check_data_folder(data_folder: str | Path, save_folder: str | Path) -> Path:
    """Refuse a data folder that is not there, or that we would write into.

    Parameters
    ----------
    data_folder : str or path
        Root of the corpus; read only.
    save_folder : str or path
        Where manifests go.

    Returns
    -------
    Path
        The data folder, `~` expanded.

    Raises
    ------
    UserError
        No such folder, or `save_folder` is inside of it.

    Example
    -------
    >>> check_data_folder("/no/corpus", "results")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: data_folder /no/corpus: no such folder; name the corpus' root
    """
    folder = Path(data_folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"data_folder {folder}: no such folder; name the corpus' root")
    if Path(save_folder).expanduser().resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"save_folder {save_folder}: is inside the data folder {folder}, which is only read;"
            " name a folder elsewhere"
        )
    return folder


def walk_files(data_root: Path, folder: str) -> list[FoundFile]:
    """All files below a folder, sorted, hidden ones left out; links are followed.

    Parameters
    ----------
    data_root : Path
        Root of the corpus.
    folder : str
        Folder below it.

    Returns
    -------
    list of FoundFile
        Sorted by path.
    """
    found = []
    for parent, folders, names in os.walk(data_root / folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = Path(parent, name)
                # A link that leads nowhere is told of when the file is read, not passed over.
                status = path.stat() if path.exists() else path.lstat()
                relative = path.relative_to(data_root).as_posix()
                found.append(FoundFile(relative, status.st_size, status.st_mtime_ns))
    return sorted(found, key=lambda file: file.path)


def build_manifest(
    manifest: Path,
    data_root: Path,
    folders: Sequence[str],
    find_clips: Callable[[Path, list[FoundFile]], list[FoundClip]],
    options: PrepareOptions,
    num_threads: int = 8,
) -> bool:
    """Make the manifest of one set, unless the one that is there was made from the same.

    A sidecar, `<manifest>.json`, holds the key: options, folders, and a digest of names, sizes
    and times of the files. Where key or manifest differ, the manifest is made again. Broken
    clips are left out and listed in `<set>.skipped.csv`.

    Parameters
    ----------
    manifest : Path
        CSV file to make, e.g. `save/train.csv`.
    data_root : Path
        Root of the corpus; only read.
    folders : sequence of str
        Folders below it that the set is made of.
    find_clips : callable
        (data_root, files) -> clips: what the dataset's preparation knows of its tree.
    options : PrepareOptions
        What to accept.
    num_threads : int
        Threads that read headers.

    Returns
    -------
    bool
        Whether the manifest was made (True) or kept (False).

    Raises
    ------
    UserError
        No clips, an ID twice, or too many broken clips.
    """
    files = [file for folder in folders for file in walk_files(data_root, folder)]
    key = _key(folders, options, files)
    if _is_current(manifest, key):
        return False
    clips = find_clips(data_root, files)
    _check_found(clips, data_root, folders)
    rows, broken = _check_clips(clips, data_root, options, num_threads, manifest.stem)
    _report_broken(manifest, broken, len(clips), options.max_broken_share)
    write_manifest(manifest, rows)
    content = {"key": key, **_summarise(manifest, rows), "sha256": _sha256(manifest)}
    with atomic_path(_sidecar(manifest)) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return True


def _key(folders: Sequence[str], options: PrepareOptions, files: list[FoundFile]) -> dict[str, Any]:
    found = repr([(file.path, file.size, file.modified_ns) for file in files])
    return {
        "format": _FORMAT,
        "folders": list(folders),
        "options": vars(options),
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "digest": hashlib.sha256(found.encode()).hexdigest(),
    }


def _summarise(manifest: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    silent = sum(not row["wrd"] for row in rows)
    if silent:
        _logger.warning(f"{manifest}: {silent} of {len(rows)} clips have no transcript; kept")
    seconds = round(sum(row["duration"] for row in rows), 3)
    _logger.info(f"{manifest}: {len(rows)} clips, {seconds / 3600:.2f} h")
    return {"clips": len(rows), "seconds": seconds, "without_transcript": silent}


def _sidecar(manifest: Path) -> Path:
    return manifest.with_name(manifest.name + ".json")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_current(manifest: Path, key: dict[str, Any]) -> bool:
    if not manifest.is_file() or not _sidecar(manifest).is_file():
        return False
    try:
        sidecar = json.loads(_sidecar(manifest).read_text(encoding="utf-8"))
    except ValueError:
        return False
    if not isinstance(sidecar, dict):
        return False
    if sidecar.get("key") != key:
        _logger.info(f"{manifest}: made with other options or files; making it again")
        return False
    if sidecar.get("sha256") != _sha256(manifest):
        _logger.warning(
            f"{manifest}: changed since it was made; making it again (skip_prep keeps edits)"
        )
        return False
    return True


def _check_found(clips: list[FoundClip], data_root: Path, folders: Sequence[str]) -> None:
    if not clips:
        raise UserError(
            f"{data_root}: no clips in {', '.join(folders)}; audio files"
            f" ({', '.join(AUDIO_SUFFIXES)}) must lie as the recipe's README shows"
        )
    seen: dict[str, str] = {}
    for clip in clips:
        first = seen.setdefault(clip.id, clip.wav)
        if first != clip.wav:
            raise UserError(
                f"{data_root}: ID {clip.id!r} twice, {first} and {clip.wav}; remove one of them"
            )


def _check_clips(
    clips: list[FoundClip], data_root: Path, options: PrepareOptions, num_threads: int, name: str
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows of the manifest, and path and reason of each clip that is broken."""
    check = partial(_check_clip, data_root=data_root, options=options)
    rows, broken = [], []
    with ThreadPool(num_threads) as pool:
        results = pool.imap(check, clips, chunksize=16)
        # Without a terminal (disable=None) a bar would fill the log.
        bar = tqdm(results, name, len(clips), disable=None, unit="clip")
        for clip, result in zip(clips, bar, strict=True):
            if isinstance(result, str):
                broken.append({"path": clip.wav, "reason": result})
            else:
                rows.append(result)
    return rows, broken


def _check_clip(clip: FoundClip, data_root: Path, options: PrepareOptions) -> dict[str, Any] | str:
    path = data_root / clip.wav
    try:
        info = audio_info(path)
        check_channels(path, info.channels, options.channels)
        if info.seconds < options.min_seconds:
            raise UserError(
                f"{path}: {info.seconds:.3f} s, shorter than min_seconds={options.min_seconds}"
            )
    except UserError as error:
        return str(error)
    return {
        "ID": clip.id,
        "duration": round(info.seconds, 6),
        "wav": clip.wav,
        "spk_id": clip.spk_id,
        "wrd": clip.wrd,
        "sample_rate": info.sample_rate,
        "num_samples": info.num_samples,
        **clip.extra,
    }


def _report_broken(
    manifest: Path, broken: list[dict[str, str]], num_clips: int, max_broken_share: float
) -> None:
    report = manifest.with_suffix(".skipped.csv")
    if not broken:
        report.unlink(missing_ok=True)
        return
    write_csv(report, ["path", "reason"], broken)
    line = f"{manifest}: {len(broken)} of {num_clips} clips are broken, listed in {report}"
    if len(broken) > max_broken_share * num_clips or len(broken) == num_clips:
        raise UserError(
            f"{line}; first: {broken[0]['reason']}; repair them, or raise"
            f" max_broken_share={max_broken_share}"
        )
    _logger.warning(f"{line}; left out")
