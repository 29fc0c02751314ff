"""A dataset of the library `datasets`, from disk, Parquet, a URL or the hub, as a corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from focalcodec.audio_files.sound import AudioSource
from focalcodec.errors import UserError, one_line
from focalcodec.tokenize.clips import SPEAKER_COLUMNS, TEXT_COLUMNS, CorpusClip, NamedBytes
from focalcodec.tokenize.urls import storage_errors

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

HUB_NAME = r"[\w.-]+/[\w.-]+(:[\w.-]+)?"
ID_COLUMNS = ("id", "ID", "utt_id")  # the most usual name first


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
        return NamedBytes(value["bytes"], f"{self._name}, row {clip.location}")


def import_datasets() -> ModuleType:
    """Import `datasets`; `UserError` with the way to install it if it is missing."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "datasets: not installed; run pip install 'focalcodec[tokenize]'"
        ) from error
    return datasets


def open_dataset(source: str, split: str | None = None, urls: Sequence[str] = ()) -> DatasetSource:
    """Open a dataset, see `open_corpus`; `urls` are those of its Parquet files."""
    datasets = import_datasets()
    path = Path(source).expanduser()
    try:
        if urls:
            with storage_errors(source):
                found = datasets.Dataset.from_parquet(list(urls))
        elif is_saved(path):
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


def has_audio(table: Path) -> bool:
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


def is_saved(folder: Path) -> bool:
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
