"""The clips of a run: those of its dataset, the user's own, and further test sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from focalcodec.data.corpus import PrepareOptions, SetSource
from focalcodec.data.librispeech_tree import find_clips
from focalcodec.data.prepare import prepare_sets
from focalcodec.errors import UserError
from focalcodec.training.run.loaders import prepare_corpus, read_corpus
from tests.unit.training import tiny

SPLITS = {"train": ["train"], "valid": ["dev"], "test": ["test"]}


def prepare(
    data_folder: Path | None, save_folder: Path, skip_prep: bool, max_broken_share: float
) -> None:
    """A minimal preparation of a dataset."""
    assert data_folder is not None
    sets = {name: SetSource(splits, find_clips) for name, splits in SPLITS.items()}
    prepare_sets(
        data_folder,
        save_folder,
        sets,
        PrepareOptions(max_broken_share=max_broken_share),
        skip_prep=skip_prep,
    )


def unasked(**_: Any) -> None:
    raise AssertionError("the dataset's preparation is not called where there is own_data")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def corpus(manifests: Path, **hparams: Any) -> dict[str, Any]:
    known = {"data_folder": None, "prepare": unasked, "own_data": None, "more_tests": {}}
    hparams = known | {"skip_prep": False, "max_broken_share": 0.0} | hparams
    prepare_corpus(hparams, manifests)
    return read_corpus(hparams, manifests)


def test_datasets_own(data: Path, tmp_path: Path) -> None:
    sets = corpus(tmp_path, prepare=partial(prepare), data_folder=data)
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 4, "valid": 2, "test": 2}
    again = corpus(tmp_path, prepare=partial(prepare), data_folder=data, skip_prep=True)
    assert again == sets


def test_folder_of_audio_replaces_the_dataset(data: Path, tmp_path: Path) -> None:
    tiny.write_corpus(tmp_path / "mine", **{f"speaker{k}": [0.5] * 4 for k in range(6)})
    sets = corpus(tmp_path / "manifests", own_data=str(tmp_path / "mine"))
    assert {"train", "valid", "test"} <= sets.keys()
    wavs = [row["wav"] for rows in sets.values() for row in rows]
    assert len(wavs) == len(set(wavs)) == 24


def test_prepared_folder_replaces_the_dataset(data: Path, tmp_path: Path) -> None:
    prepare(data, tmp_path / "before", False, 0.0)
    sets = corpus(tmp_path / "manifests", own_data=str(tmp_path / "before"))
    assert len(sets["train"]) == 4
    assert not (tmp_path / "manifests").exists()


def test_more_tests_are_folders_or_manifests(data: Path, tmp_path: Path) -> None:
    prepare(data, tmp_path / "before", False, 0.0)
    more = {"folder": str(data / "dev"), "listed": str(tmp_path / "before" / "train.csv")}
    sets = corpus(tmp_path / "m", prepare=prepare, data_folder=data, more_tests=more)
    assert list(sets) == ["train", "valid", "test", "folder", "listed"]
    assert len(sets["folder"]) == 2 and sets["listed"] == sets["train"]
    assert all(Path(row["wav"]).is_file() for row in sets["folder"])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"test": "."}, "'test' is the name of another set"),
        ({"old": "no/such/folder"}, "no/such/folder"),
        ({"old": "no/such.csv"}, "such.csv: no such manifest"),
    ],
)
def test_wrong_sets_are_reported(data: Path, tmp_path: Path, more: Any, told: str) -> None:
    if more.get("test"):
        more = {"test": str(data)}
    with pytest.raises(UserError, match=told):
        corpus(tmp_path, prepare=prepare, data_folder=data, more_tests=more)
    with pytest.raises(UserError, match="no such folder"):
        corpus(tmp_path, own_data=str(tmp_path / "gone"))
