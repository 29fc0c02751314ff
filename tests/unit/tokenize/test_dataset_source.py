"""Corpora of the library `datasets`: saved to disk, and as Parquet."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from focalcodec.audio import read_audio
from focalcodec.errors import UserError
from focalcodec.tokenize.dataset_source import DatasetSource
from focalcodec.tokenize.sources import open_corpus

datasets = pytest.importorskip("datasets")
TEXTS = ["ONE", None, "THREE"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def flac(seed: int) -> bytes:
    file = io.BytesIO()
    sig = 0.1 * torch.randn(1600, generator=torch.Generator().manual_seed(seed))
    soundfile.write(file, sig.numpy(), 16000, format="FLAC")
    return file.getvalue()


def speech(**more: Any) -> Any:
    audio = [{"bytes": flac(seed), "path": f"{seed}.flac"} for seed in range(3)]
    return datasets.Dataset.from_dict({"audio": audio, "text": TEXTS, **more})


def marked(dataset: Any) -> Any:
    return dataset.cast_column("audio", datasets.Audio())


def save(dataset: Any, folder: Path, form: str) -> Path:
    if form == "saved":
        dataset.save_to_disk(folder)
        return folder
    path = folder / "train-00000-of-00001.parquet"
    folder.mkdir()
    dataset.to_parquet(path)
    return path if form == "file" else folder


@pytest.mark.parametrize("form", ["saved", "file", "folder"])
@pytest.mark.parametrize("dress", [marked, lambda dataset: dataset])
def test_rows_are_clips(tmp_path, form, dress):
    dataset = dress(speech(id=["x", "y", "z"], speaker_id=[5, 5, 6]))
    source = open_corpus(str(save(dataset, tmp_path / "set", form)))
    assert [(clip.id, clip.spk_id, clip.wrd) for clip in source.clips] == [
        ("x", "5", "ONE"),
        ("y", "5", ""),
        ("z", "6", "THREE"),
    ]
    for seed, clip in enumerate(source.clips):
        expected = read_audio(io.BytesIO(flac(seed)), 16000)
        assert torch.equal(read_audio(source.audio(clip), 16000), expected)


@pytest.mark.parametrize("more", [{}, {"id": ["x", "x", "y"]}])
def test_ids_are_row_numbers_without_an_id_column(tmp_path, more):
    source = open_corpus(str(save(speech(**more), tmp_path / "set", "saved")))
    assert [clip.id for clip in source.clips] == ["0", "1", "2"]


def test_audio_in_files_is_read_from_the_files(tmp_path):
    (tmp_path / "a.flac").write_bytes(flac(0))
    rows = {"audio": [{"bytes": None, "path": path} for path in (str(tmp_path / "a.flac"), None)]}
    audio = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    dataset = datasets.Dataset.from_dict(rows, features=datasets.Features({"audio": audio}))
    source = open_corpus(str(save(dataset, tmp_path / "set", "saved")))
    assert source.audio(source.clips[0]) == str(tmp_path / "a.flac")
    with pytest.raises(UserError, match="row 1: no audio"):
        source.audio(source.clips[1])


def test_messages_name_the_row(tmp_path):
    dataset = datasets.Dataset.from_dict({"audio": [{"bytes": b"noise", "path": ""}]})
    source = open_corpus(str(save(dataset, tmp_path / "set", "saved")))
    with pytest.raises(UserError, match="set, row 0: not audio"):
        read_audio(source.audio(source.clips[0]), 16000)


@pytest.mark.parametrize("form", ["saved", "file", "folder"])
def test_digest_depends_only_on_the_content(tmp_path, monkeypatch, form):
    path = save(speech(id=["x", "y", "z"]), tmp_path / "set", form)
    before = open_corpus(str(path)).digest
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "of_another_machine")
    assert open_corpus(str(path)).digest == before
    shutil.rmtree(tmp_path / "set")
    save(speech(id=["x", "y", "w"]), tmp_path / "set", form)
    assert open_corpus(str(path)).digest != before


def test_splits(tmp_path):
    whole = datasets.DatasetDict({"train": speech(), "test": speech(id=["x", "y", "z"])})
    whole.save_to_disk(tmp_path / "set")
    assert open_corpus(str(tmp_path / "set"), split="test").clips[0].id == "x"
    for split in (None, "dev"):
        with pytest.raises(UserError, match="train, test; give one with --split"):
            open_corpus(str(tmp_path / "set"), split=split)


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"text": ["a"]}, "0 columns of audio among text"),
        ({name: [{"bytes": b"", "path": ""}] for name in "ab"}, "2 columns of audio among a, b"),
    ],
)
def test_one_column_of_audio_is_needed(tmp_path, columns, message):
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        open_corpus(str(tmp_path / "set"))


def test_no_rows_are_an_error():
    with pytest.raises(UserError, match="set: no rows"):
        DatasetSource(speech().select([]), "set")


def test_unknown_name_is_a_one_line_error():
    with pytest.raises(
        UserError, match="^no/such_set: no such file or folder, and not an available"
    ):
        open_corpus("no/such_set")


def test_error_without_the_library_has_the_install_command(tmp_path, monkeypatch):
    save(speech(), tmp_path / "set", "saved")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'focalcodec\[tokenize\]'"):
        open_corpus(str(tmp_path / "set"))
