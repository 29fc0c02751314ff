"""Sources of a corpus: a folder, list or manifest of audio files, or a dataset of `datasets`."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from focalcodec.audio_files.sound import AudioSource
from focalcodec.data.corpus import path_ids, walk_files
from focalcodec.data.manifest import DATA_ROOT, read_manifest, refuse_segments
from focalcodec.errors import UserError, one_line
from focalcodec.files import AUDIO_SUFFIXES, read_text, split_lines

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

HUB_NAME = r"[\w.-]+/[\w.-]+(:[\w.-]+)?"
# Columns of a dataset, the most usual name first.
ID_COLUMNS = ("id", "ID", "utt_id")
SPEAKER_COLUMNS = ("spk_id", "speaker_id", "speaker", "client_id")
TEXT_COLUMNS = ("wrd", "text", "transcription", "transcript", "sentence")


class CorpusClip(NamedTuple):
    """A clip of a corpus; its audio has not been opened yet."""

    id: str
    location: str  # a path with $data_root, or the number of a dataset's row
    size: int = 0  # of the file in bytes; 0 if the source has no files
    modified_ns: int = 0  # modification time of the file; 0 if the source has no files
    spk_id: str = ""
    wrd: str = ""


class CorpusSource(Protocol):
    """Clips in a fixed order, and their audio."""

    @property
    def clips(self) -> Sequence[CorpusClip]:
        """All clips; their ids differ."""
        ...

    @property
    def digest(self) -> str:
        """Hexadecimal digest that changes when a clip changes."""
        ...

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Path or open bytes of a clip; several threads call it."""
        ...


class FileSource:
    """Clips that are audio files; `$data_root` in their paths stands for `data_root`.

    Example
    -------
    >>> source = FileSource([CorpusClip("a", "$data_root/a.wav")], "corpus")
    >>> source.audio(source.clips[0])
    'corpus/a.wav'
    """

    def __init__(self, clips: Sequence[CorpusClip], data_root: str) -> None:
        self.clips, self._data_root = clips, data_root

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the list of clips, with file sizes and modification times."""
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(repr(tuple(clip)).encode())
        return digest.hexdigest()

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Path of a clip."""
        return clip.location.replace(DATA_ROOT, self._data_root, 1)


class DatasetSource:
    """Rows of a dataset as clips; libsndfile decodes the audio as it is stored.

    A clip's id is the value of the column `id` (or `ID`, `utt_id`) if these values differ, else
    the number of the row. Speaker and text come from columns with one of the usual names.

    Parameters
    ----------
    dataset : datasets.Dataset
        With exactly one column of audio.
    name : str
        Name in messages.

    Raises
    ------
    UserError
        No column of audio, or several; no rows.
    """

    def __init__(self, dataset: Dataset, name: str) -> None:
        self._name, self._column = name, _audio_column(dataset, name)
        if not len(dataset):
            raise UserError(f"{name}: no rows; check the split")
        # the library has no public name for a hash of a dataset's content
        self.digest = hashlib.sha256(dataset._fingerprint.encode()).hexdigest()
        # libsndfile decodes later, as for files: the library would need torchcodec
        audio = import_datasets().Audio(decode=False)
        self._audio = dataset.select_columns([self._column]).cast_column(self._column, audio)
        self.clips: Sequence[CorpusClip] = _row_clips(dataset)

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Bytes of a row, or its path if the dataset stores paths."""
        value = self._audio[int(clip.location)][self._column]
        if value["bytes"] is None:
            if value["path"] is None:
                raise UserError(f"{self._name}, row {clip.location}: no audio; remove the row")
            return str(value["path"])
        return _NamedBytes(value["bytes"], f"{self._name}, row {clip.location}")


class _NamedBytes(io.BytesIO):
    """Bytes with a name for messages."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def open_corpus(
    source: str, data_folder: str | None = None, split: str | None = None
) -> CorpusSource:
    """Open the corpus that a command line names; it has at least one clip.

    Parameters
    ----------
    source : str
        Folder of audio files; manifest (.csv); list of paths (.txt), one per line; folder of
        `datasets.save_to_disk`; Parquet file or folder of them; dataset on the hub, owner/name or
        owner/name:configuration.
    data_folder : str, optional
        Replaces `$data_root` in a manifest; the paths of a list are relative to it.
    split : str, optional
        Split of a dataset; needed if there are several.

    Raises
    ------
    UserError
        No such source, no clips in it, or `datasets` is needed and not installed.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> source = open_corpus(str(embedded_corpus("LibriSpeech") / "test-real"))
    >>> source.clips[0].id, source.clips[0].location
    ('91/1/91-1-0000', '$data_root/91/1/91-1-0000.flac')
    """
    path = Path(source).expanduser()
    # A mistyped path inside an existing folder is not looked up on the hub.
    on_hub = re.fullmatch(HUB_NAME, source) and not path.exists() and not path.parent.exists()
    if _is_dataset(path) or on_hub:
        return open_dataset(source, split)
    if split is not None:
        raise UserError(f"split={split}: {source} is not a dataset; only datasets have splits")
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


def folder_clips(folder: Path) -> list[CorpusClip]:
    """All audio files below a folder, sorted; the id is the relative path without its suffix."""
    files = [
        file for file in walk_files(folder, "") if Path(file.path).suffix.lower() in AUDIO_SUFFIXES
    ]
    return [
        CorpusClip(name, f"{DATA_ROOT}/{file.path}", file.size, file.modified_ns)
        for name, file in zip(path_ids([file.path for file in files]), files, strict=True)
    ]


def manifest_clips(manifest: Path, root: str | None) -> list[CorpusClip]:
    """Clips of a manifest, in its order. A missing file fails later, when its clip is read."""
    rows = read_manifest(manifest, DATA_ROOT, check_files=False)
    way_out = "tokenize the folder of audio itself, or write the segments to files"
    refuse_segments(manifest, rows, way_out)
    if root is None and any(row["wav"].startswith(DATA_ROOT) for row in rows):
        raise UserError(f"{manifest}: paths begin with {DATA_ROOT}; give --data_folder")
    return [
        CorpusClip(
            row["ID"], row["wav"], *_status(row["wav"], root or ""), row["spk_id"], row["wrd"]
        )
        for row in rows
    ]


def list_clips(listing: Path, root: str) -> list[CorpusClip]:
    """Clips of a list of paths, in its order; the id is the path without its suffix."""
    lines = split_lines(read_text(listing, errors="surrogateescape"))
    paths = [line for line in lines if line.strip()]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise UserError(f"{listing}: {twice[0]} is listed twice; paths must differ")
    locations = [path if os.path.isabs(path) else f"{DATA_ROOT}/{path}" for path in paths]
    return [
        CorpusClip(name, location, *_status(location, root))
        for name, location in zip(path_ids(paths), locations, strict=True)
    ]


def _status(location: str, root: str) -> tuple[int, int]:
    try:
        status = os.stat(location.replace(DATA_ROOT, root, 1))
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


# -- datasets --------------------------------------------------------------------------------------


def import_datasets() -> ModuleType:
    """Import `datasets`; `UserError` with the way to install it if it is missing."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "datasets: not installed; run pip install 'focalcodec[tokenize]'"
        ) from error
    return datasets


def open_dataset(source: str, split: str | None = None) -> DatasetSource:
    """Open a dataset, see `open_corpus`."""
    datasets = import_datasets()
    path = Path(source).expanduser()
    try:
        if _is_saved(path):
            found = datasets.load_from_disk(str(path))
        elif path.is_file():
            found = datasets.load_dataset("parquet", data_files=[str(path)])
        elif path.is_dir():
            found = datasets.load_dataset(str(path))
        else:
            name, _, configuration = source.partition(":")
            found = datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{source}: no such file or folder, and not an available dataset ({one_line(error)});"
            " check name and network"
        ) from error
    return DatasetSource(_pick_split(found, source, split), source)


def _is_dataset(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix.lower() == ".parquet"
    if _is_saved(path):
        return True
    tables = sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")])
    # beside files of audio, a table without audio has only their metadata
    return bool(tables) and (_has_audio(tables[0]) or not folder_clips(path))


def _has_audio(table: Path) -> bool:
    """Whether a Parquet file has a column of audio, as `datasets` writes it."""
    import_datasets()
    from pyarrow import ArrowException, types
    from pyarrow.parquet import read_schema

    try:
        kinds = [field.type for field in read_schema(table)]
    except (ArrowException, OSError):
        return False
    return any(
        types.is_struct(kind) and {"bytes", "path"} == {part.name for part in kind}
        for kind in kinds
    )


def _is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _pick_split(found: Dataset | DatasetDict, source: str, split: str | None) -> Dataset:
    if not isinstance(found, dict):
        if split is not None:
            raise UserError(f"split={split}: {source} has no splits; leave it out")
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        raise UserError(f"split={split}: {source} has {', '.join(found)}; give one with --split")
    return found[split]


def _audio_column(dataset: Dataset, name: str) -> str:
    audio = import_datasets().Audio
    columns = [
        column
        for column, feature in dataset.features.items()
        if isinstance(feature, audio)
        or (isinstance(feature, dict) and {"bytes", "path"} == feature.keys())
    ]
    if len(columns) != 1:
        raise UserError(
            f"{name}: {len(columns)} columns of audio among {', '.join(dataset.column_names)};"
            " one is needed (datasets: select_columns, save_to_disk)"
        )
    return columns[0]


def _row_clips(dataset: Dataset) -> list[CorpusClip]:
    count = len(dataset)
    width = len(str(count - 1))  # leading zeros: ids sort as rows do
    ids = _values(dataset, ID_COLUMNS)
    if len(set(ids)) < count:
        ids = [f"{row:0{width}d}" for row in range(count)]
    speakers, texts = _values(dataset, SPEAKER_COLUMNS), _values(dataset, TEXT_COLUMNS)
    rows = zip(ids, map(str, range(count)), speakers, texts, strict=True)
    return [CorpusClip(name, row, spk_id=spk_id, wrd=wrd) for name, row, spk_id, wrd in rows]


def _values(dataset: Dataset, names: Sequence[str]) -> list[str]:
    """Values of the first of these columns that the dataset has; empty strings if it has none."""
    name = next((name for name in names if name in dataset.column_names), None)
    if name is None:
        return [""] * len(dataset)
    return ["" if value is None else str(value) for value in dataset[name]]
