"""What a corpus consists of: a folder, a list or a manifest of audio files, or a dataset."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from focalcodec.audio_file import AUDIO_SUFFIXES, AudioSource
from focalcodec.data.found import path_ids, walk_files
from focalcodec.data.manifest import DATA_ROOT, read_manifest, refuse_segments
from focalcodec.errors import UserError

HUB_NAME = r"[\w.-]+/[\w.-]+(:[\w.-]+)?"


class Clip(NamedTuple):
    """A clip before its audio is looked into.

    `place` tells the source where it is; `size` in bytes and `modified_ns` are 0 where the source
    has no files.
    """

    id: str
    place: str
    size: int = 0
    modified_ns: int = 0
    spk_id: str = ""
    wrd: str = ""


class Source(Protocol):
    """Clips in an order that is always the same, and their audio."""

    @property
    def clips(self) -> Sequence[Clip]:
        """All clips; their ids differ."""
        ...

    @property
    def digest(self) -> str:
        """Hexadecimal digest that changes when a clip does."""
        ...

    def audio(self, clip: Clip) -> AudioSource:
        """Path or open bytes of a clip; called from several threads."""
        ...


class FileSource:
    """Clips that are audio files.

    Parameters
    ----------
    clips : sequence of Clip
        `place` is a path, in which `$data_root` stands for the root.
    data_root : str
        Root.

    Example
    -------
    >>> source = FileSource([Clip("a", "$data_root/a.wav")], "corpus")
    >>> source.audio(source.clips[0])
    'corpus/a.wav'
    """

    def __init__(self, clips: Sequence[Clip], data_root: str) -> None:
        self.clips, self._data_root = clips, data_root

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the list of clips, sizes and times of change included."""
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(repr(tuple(clip)).encode())
        return digest.hexdigest()

    def audio(self, clip: Clip) -> AudioSource:
        """Path of a clip."""
        return clip.place.replace(DATA_ROOT, self._data_root, 1)


def open_source(source: str, data_folder: str | None = None, split: str | None = None) -> Source:
    """Corpus from what stands on the command line.

    Parameters
    ----------
    source : str
        Folder of audio files; manifest (.csv); list of paths (.txt), one a line; folder of
        `datasets.save_to_disk`; Parquet file or folder of them; dataset on the hub, owner/name or
        owner/name:configuration.
    data_folder : str, optional
        What `$data_root` stands for in a manifest, and what the paths of a list are relative to.
    split : str, optional
        Of a dataset.

    Returns
    -------
    Source
        At least one clip.

    Raises
    ------
    UserError
        No such source, or nothing in it.

    Example
    -------
    >>> from focalcodec.data.embedded import embedded_corpus
    >>> source = open_source(str(embedded_corpus("LibriSpeech") / "test-real"))
    >>> source.clips[0].id, source.clips[0].place
    ('91/1/91-1-0000', '$data_root/91/1/91-1-0000.flac')
    """
    path = Path(source).expanduser()
    # a mistyped path below a folder that is there is not asked of the hub
    on_hub = re.fullmatch(HUB_NAME, source) and not path.exists() and not path.parent.exists()
    if is_dataset(path) or on_hub:
        from focalcodec.tokenize.dataset_source import open_dataset

        return open_dataset(source, split)
    if split is not None:
        raise UserError(f"split={split}: {source} is not a dataset, which alone has splits")
    if path.is_dir():
        clips, root = folder_clips(path), str(path)
    elif not path.is_file():
        raise UserError(f"{source}: no such file or folder; check the path")
    elif path.suffix.lower() == ".csv":
        root = str(Path(data_folder or "").expanduser())
        clips = manifest_clips(path, None if data_folder is None else root)
    elif path.suffix.lower() == ".txt":
        root = "." if data_folder is None else str(Path(data_folder).expanduser())
        clips = list_clips(path, root)
    else:
        raise UserError(
            f"{source}: neither a folder, a manifest (.csv), a list of paths (.txt) nor Parquet"
        )
    if not clips:
        raise UserError(f"{source}: no audio files ({', '.join(AUDIO_SUFFIXES)}); check the path")
    return FileSource(clips, root)


def is_dataset(path: Path) -> bool:
    """Whether a path is a dataset of the library `datasets`, or Parquet files."""
    if path.is_dir():
        return is_saved(path) or any(path.glob("*.parquet")) or any(path.glob("*/*.parquet"))
    return path.suffix.lower() == ".parquet"


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def folder_clips(folder: Path) -> list[Clip]:
    """All audio files below a folder, sorted; the id is the relative path without its suffix."""
    files = [
        file for file in walk_files(folder, "") if Path(file.path).suffix.lower() in AUDIO_SUFFIXES
    ]
    return [
        Clip(name, f"{DATA_ROOT}/{file.path}", file.size, file.modified_ns)
        for name, file in zip(path_ids([file.path for file in files]), files, strict=True)
    ]


def manifest_clips(manifest: Path, root: str | None) -> list[Clip]:
    """Clips of a manifest, in its order. A missing file is told of when it is to be read."""
    rows = read_manifest(manifest, DATA_ROOT, check_files=False)
    way_out = "tokenize the folder of audio itself, or write the segments to files"
    refuse_segments(manifest, rows, way_out)
    if root is None and any(row["wav"].startswith(DATA_ROOT) for row in rows):
        raise UserError(f"{manifest}: paths begin with {DATA_ROOT}; give --data_folder")
    return [
        Clip(row["ID"], row["wav"], *_status(row["wav"], root or ""), row["spk_id"], row["wrd"])
        for row in rows
    ]


def list_clips(listing: Path, root: str) -> list[Clip]:
    """Clips of a list of paths, in its order; the id is the path without its suffix."""
    text = listing.read_text(encoding="utf-8-sig", errors="surrogateescape")
    paths = [line for line in text.splitlines() if line.strip()]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise UserError(f"{listing}: {twice[0]} is listed twice; paths must differ")
    places = [path if os.path.isabs(path) else f"{DATA_ROOT}/{path}" for path in paths]
    return [
        Clip(name, place, *_status(place, root))
        for name, place in zip(path_ids(paths), places, strict=True)
    ]


def _status(place: str, root: str) -> tuple[int, int]:
    try:
        status = os.stat(place.replace(DATA_ROOT, root, 1))
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
