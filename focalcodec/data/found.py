"""What a preparation finds in a corpus: its files, and the clips that they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focalcodec.audio import CHANNELS, Channels
from focalcodec.errors import UserError


@dataclass(frozen=True)
class FoundFile:
    """A file of the corpus: `path` relative to the data root, with forward slashes."""

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class FoundClip:
    """A clip of the corpus before its audio file was looked into; `wav` as `FoundFile.path`.

    `extra` has further columns of the manifest; paths in it begin with `DATA_ROOT`. `problem` says
    what is wrong with a clip that is known to be broken: its file is not looked into.
    """

    id: str
    wav: str
    spk_id: str = ""
    wrd: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class SetSource:
    """What one set is made of.

    Parameters
    ----------
    folders : sequence of str
        Folders below the data root; "" is the root itself.
    find : callable
        (data_root, files of the folders) -> clips: what a preparation knows of its tree.
    details : mapping
        Whatever else decides which clips are found, JSON-ready: the manifest is made again when
        it changes.
    """

    folders: Sequence[str]
    find: Callable[[Path, list[FoundFile]], list[FoundClip]]
    details: Mapping[str, Any] = field(default_factory=dict)


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
    segment_seconds : float, optional
        A longer file is cut into equal segments of at most this length. That takes no more than
        its header: to look for pauses, ten thousand hours would have to be decoded, and a codec
        learns nothing wrong from a word that is cut.

    Raises
    ------
    UserError
        A value that is none.
    """

    channels: Channels = "error"
    min_seconds: float = 0.05
    max_broken_share: float = 0.05
    segment_seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that are none before any file is looked at."""
        if self.channels not in CHANNELS:
            raise UserError(f"channels={self.channels!r}: not one of {', '.join(CHANNELS)}")
        if not self.min_seconds >= 0:
            raise UserError(f"min_seconds={self.min_seconds}: give 0 or more")
        if not 0 <= self.max_broken_share <= 1:
            raise UserError(f"max_broken_share={self.max_broken_share}: give 0 to 1")
        shortest = max(1.0, 2 * self.min_seconds)
        if self.segment_seconds is not None and not shortest <= self.segment_seconds:
            raise UserError(f"segment_seconds={self.segment_seconds}: give {shortest:g} or more")


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
    """All files below a folder, sorted, hidden ones left out; links are followed but back up.

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
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not _leads_back(os.path.join(parent, name))
        ]
        relative = Path(parent).relative_to(data_root).as_posix()
        for name in names:
            if not name.startswith("."):
                status = _status(os.path.join(parent, name))
                path = name if relative == "." else f"{relative}/{name}"
                found.append(FoundFile(path, status.st_size, status.st_mtime_ns))
    return sorted(found, key=lambda file: file.path)


def _leads_back(folder: str) -> bool:
    """Whether a folder is a link to one that it lies in, which would be walked without end."""
    path = Path(folder)
    return path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError:
        # A link that leads nowhere is told of when the file is read, not passed over.
        return os.lstat(path)


def path_ids(paths: Sequence[str]) -> list[str]:
    """IDs of files by their paths.

    Parameters
    ----------
    paths : sequence of str
        Paths; all differ.

    Returns
    -------
    list of str
        Paths without their suffix where that leaves no doubt which is meant, else with it.

    Example
    -------
    >>> path_ids(["7/a.wav", "7/b.wav", "7/b.flac"])
    ['7/a', '7/b.wav', '7/b.flac']
    """
    stems = [os.path.splitext(path)[0] for path in paths]
    counts, whole = Counter(stems), set(paths)
    return [
        stem if counts[stem] == 1 and stem not in whole else path
        for stem, path in zip(stems, paths, strict=True)
    ]
