"""Files and clips that a preparation finds in a corpus, and options to accept them."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focalcodec.choices import CHANNELS, Channels
from focalcodec.errors import UserError

SPLIT_BY = ("auto", "speaker", "file")
_EMBEDDED = Path(__file__).resolve().parents[2] / "corpus"


@dataclass(frozen=True)
class FoundFile:
    """A file of the corpus: `path` is relative to the data root, with forward slashes."""

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class FoundClip:
    """A clip of the corpus before its audio file is opened; `wav` as `FoundFile.path`.

    `extra` has further columns of the manifest; paths in it begin with `DATA_ROOT`. A clip with a
    `problem` counts as broken, and its file is not opened. `span` is the first sample of a clip
    that is part of a file, and the sample after its last; `own_set` is the corpus' own choice of
    train, valid or test.
    """

    id: str
    wav: str
    spk_id: str = ""
    wrd: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    span: tuple[int, int] | None = None
    own_set: str = ""


@dataclass(frozen=True)
class SetSource:
    """Source of the clips of one set."""

    # Folders below the data root; "" is the root itself.
    folders: Sequence[str]
    # (data_root, files of the folders) -> clips; this function depends on the corpus' tree.
    find: Callable[[Path, list[FoundFile]], list[FoundClip]]
    # All other values that decide which clips are found, JSON-ready; if one changes, the manifest
    # is made again.
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PrepareOptions:
    """Options of every preparation, part of the key of a manifest; `UserError` if out of range.

    Only headers are read to cut long files. To cut at pauses, thousands of hours would have to be
    decoded, and for a codec it does not matter if a word is cut.
    """

    channels: Channels = "error"  # "error": stereo files count as broken
    min_seconds: float = 0.05  # shorter clips count as broken
    max_broken_share: float = 0.05  # a larger share of broken clips in a set is an error
    segment_seconds: float | None = None  # longer files are cut into equal segments

    def __post_init__(self) -> None:
        """Check the values before any file is read."""
        if self.channels not in CHANNELS:
            raise UserError(f"channels={self.channels!r}: not one of {', '.join(CHANNELS)}")
        if not self.min_seconds >= 0:
            raise UserError(f"min_seconds={self.min_seconds}: give 0 or more")
        if not 0 <= self.max_broken_share <= 1:
            raise UserError(f"max_broken_share={self.max_broken_share}: give 0 to 1")
        shortest = max(1.0, 2 * self.min_seconds)
        if self.segment_seconds is not None and not shortest <= self.segment_seconds:
            raise UserError(f"segment_seconds={self.segment_seconds}: give {shortest:g} or more")


OWN_OPTIONS = PrepareOptions(channels="mix", segment_seconds=30.0)
"""Default options of a folder: stereo is mixed, long recordings are cut."""


@dataclass(frozen=True)
class ShareOptions:
    """How clips are split; `UserError` for a value out of range."""

    # The unit that is never in two sets: "speaker" or "file". "auto" takes the corpus' own sets if
    # it has all three, else speakers if the smaller share has at least one speaker, else files.
    split_by: str = "auto"
    valid_share: float = 0.1  # share of the seconds
    test_share: float = 0.1
    seed: int = 1986  # of the order

    def __post_init__(self) -> None:
        """Check the values before any file is read."""
        if self.split_by not in SPLIT_BY:
            raise UserError(f"split_by={self.split_by!r}: not one of {', '.join(SPLIT_BY)}")
        if not (self.smallest > 0 and self.valid_share + self.test_share < 1):
            raise UserError(
                f"valid_share={self.valid_share}, test_share={self.test_share}: each must be above"
                " 0, and both together below 1"
            )

    @property
    def smallest(self) -> float:
        """The smaller share."""
        return min(self.valid_share, self.test_share)


def embedded_corpus(dataset: str) -> Path:
    """Folder of the repository's small corpus in a dataset's layout, to be used as data_folder.

    `dataset` is "LibriSpeech" or "VoxPopuli". Raises `UserError` for another one, and if the
    package is installed without the repository.
    """
    folder = _EMBEDDED / dataset
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the embedded corpus is missing; run from a clone of the repository,"
            " or name your own with --data_folder"
        )
    return folder


def check_data_folder(data_folder: str | Path, save_folder: str | Path) -> Path:
    """Return the root of the corpus, `~` expanded, after checking that nothing is written into it.

    Raises `UserError` if there is no such folder, or if `save_folder` is inside of it.
    """
    folder = Path(data_folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"data_folder {folder}: no such folder; name the corpus' root")
    inside = Path(os.path.realpath(Path(save_folder).expanduser()))
    if inside.is_relative_to(os.path.realpath(folder)):
        raise UserError(
            f"save_folder {save_folder}: is inside the data folder {folder}, which is only read;"
            " name a folder elsewhere"
        )
    return folder


def walk_files(data_root: Path, folder: str) -> list[FoundFile]:
    """List all files in a folder below the data root, at any depth, sorted by path.

    Names that begin with a dot are left out, and what is no file, such as a pipe. Links to folders
    are followed, except those to a parent folder, and each folder is listed once, without a link
    if there is such a path. `UserError` for a folder that can't be read.
    """
    found: list[FoundFile] = []
    seen: set[str] = set()
    waiting = [str(Path(data_root, folder))]
    while waiting:
        links: list[str] = []  # followed after all folders without a link
        for top in sorted(waiting):
            for parent, folders, names in os.walk(top, onerror=_refuse_folder):
                place = os.path.realpath(parent)
                folders[:] = [] if place in seen else [x for x in folders if not x.startswith(".")]
                if place not in seen:
                    seen.add(place)
                    links += filter(os.path.islink, (os.path.join(parent, x) for x in folders))
                    found += _files(data_root, parent, names)
        waiting = [link for link in links if not _links_to_parent(link)]
    return sorted(found, key=lambda file: file.path)


def _files(data_root: Path, parent: str, names: Sequence[str]) -> Iterator[FoundFile]:
    relative = Path(parent).relative_to(data_root).as_posix()
    for name in names:
        status = _status(os.path.join(parent, name))
        # A broken link is kept: reading it later gives an error that names the file.
        is_file = stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)
        if is_file and not name.startswith("."):
            path = name if relative == "." else f"{relative}/{name}"
            yield FoundFile(path, status.st_size, status.st_mtime_ns)


def _links_to_parent(link: str) -> bool:
    """Whether a link to a folder stands in that folder, at any depth."""
    target, parent = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return Path(parent).is_relative_to(target)


def _refuse_folder(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):  # a folder that need not be there
        return
    raise UserError(
        f"{error.filename}: this folder can't be read ({error.strerror}); change its permissions,"
        " or name other folders"
    )


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)


def path_ids(paths: Sequence[str]) -> list[str]:
    """Make IDs of files from their paths, which must differ.

    An ID is the path without its suffix, or with it if two files would have the same ID.

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
