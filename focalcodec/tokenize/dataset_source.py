"""Corpora in the form of the library `datasets`: saved to disk, Parquet files, or on the hub."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from focalcodec.audio_file import AudioSource
from focalcodec.errors import UserError
from focalcodec.tokenize.sources import Clip, is_saved

ID_COLUMNS = ("id", "ID", "utt_id")
SPEAKER_COLUMNS = ("spk_id", "speaker_id", "speaker", "client_id")
TEXT_COLUMNS = ("wrd", "text", "transcription", "transcript", "sentence")


def import_datasets() -> ModuleType:
    """Import `datasets`, or say how to install it.

    Raises
    ------
    UserError
        It is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "datasets: not installed; run pip install 'focalcodec[tokenize]'"
        ) from error
    return datasets


class DatasetSource:
    """Rows of a dataset as clips; read as they are stored, and decoded by libsndfile.

    The id is that of the column `id` (or `ID`, `utt_id`) where its values differ, else the number
    of the row. Speaker and text come from columns with one of the usual names.

    Parameters
    ----------
    dataset : datasets.Dataset
        With one column of audio.
    name : str
        What messages call it.

    Raises
    ------
    UserError
        No column of audio, or several; no rows.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self._name, self._column = name, _audio_column(dataset, name)
        if not len(dataset):
            raise UserError(f"{name}: no rows; check the split")
        # The only name that the library has for what a dataset holds.
        self.digest = hashlib.sha256(dataset._fingerprint.encode()).hexdigest()
        audio = import_datasets().Audio(decode=False)
        self._audio = dataset.select_columns([self._column]).cast_column(self._column, audio)
        self.clips: Sequence[Clip] = _row_clips(dataset)

    def audio(self, clip: Clip) -> AudioSource:
        """Bytes of a row, or its path where the dataset keeps its audio in files."""
        value = self._audio[int(clip.place)][self._column]
        if value["bytes"] is None:
            if value["path"] is None:
                raise UserError(f"{self._name}, row {clip.place}: no audio; remove the row")
            return str(value["path"])
        return _NamedBytes(value["bytes"], f"{self._name}, row {clip.place}")


class _NamedBytes(io.BytesIO):
    """Bytes with the name that messages about them use."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def open_dataset(source: str, split: str | None = None) -> DatasetSource:
    """Open a dataset.

    Parameters
    ----------
    source : str
        Folder of `save_to_disk`, Parquet file or folder of them, or name on the hub, owner/name
        or owner/name:configuration.
    split : str, optional
        Needed where there are several.

    Returns
    -------
    DatasetSource
        Its rows.

    Raises
    ------
    UserError
        `datasets` is not installed; no such dataset or split.
    """
    datasets = import_datasets()
    path = Path(source).expanduser()
    try:
        if is_saved(path):
            found = datasets.load_from_disk(str(path))
        elif path.is_file():
            found = datasets.load_dataset("parquet", data_files=[str(path)])
        elif path.is_dir():
            found = datasets.load_dataset(str(path))
        else:
            name, _, configuration = source.partition(":")
            found = datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{source}: no such file or folder, nor a dataset that can be had ({reason}); check"
            " name and network"
        ) from error
    return DatasetSource(_pick_split(found, source, split), source)


def _pick_split(found: Any, source: str, split: str | None) -> Any:
    if not isinstance(found, dict):
        if split is not None:
            raise UserError(f"split={split}: {source} has no splits; leave it out")
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        raise UserError(f"split={split}: {source} has {', '.join(found)}; give one with --split")
    return found[split]


def _audio_column(dataset: Any, name: str) -> str:
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


def _row_clips(dataset: Any) -> list[Clip]:
    count = len(dataset)
    width = len(str(count - 1))
    ids = _column(dataset, ID_COLUMNS)
    if len(set(ids)) < count:
        ids = [f"{row:0{width}d}" for row in range(count)]
    speakers, texts = _column(dataset, SPEAKER_COLUMNS), _column(dataset, TEXT_COLUMNS)
    rows = zip(ids, map(str, range(count)), speakers, texts, strict=True)
    return [Clip(name, row, spk_id=spk_id, wrd=wrd) for name, row, spk_id, wrd in rows]


def _column(dataset: Any, names: Sequence[str]) -> list[str]:
    """Values of the first of some columns that there is; empty where there is none."""
    name = next((name for name in names if name in dataset.column_names), None)
    if name is None:
        return [""] * len(dataset)
    return ["" if value is None else str(value) for value in dataset[name]]
