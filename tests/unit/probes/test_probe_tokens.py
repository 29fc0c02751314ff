"""Tokens of a set are computed once, as long as model and audio do not change."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.errors import UserError
from focalcodec.probes import tokens as probe_tokens
from focalcodec.probes.token_dataset import TokenDataset
from focalcodec.probes.tokens import ProbeCodec, RowSource, cached_tokens
from focalcodec.processes import Shard
from tests.unit.small_codecs import GOLDEN


class Counted:
    """A codec and the number of clips that it encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codec, self.clips = ProbeCodec(str(GOLDEN["tiny_50hz"]), torch.device("cpu")), 0
        encode = self.codec.tokenizer.encode

        def counted(sigs: Any) -> Any:
            self.clips += len(sigs)
            return encode(sigs)

        monkeypatch.setattr(self.codec.tokenizer, "encode", counted)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    generator, made = np.random.default_rng(0), []
    for index in range(3):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, 0.1 * generator.standard_normal(8000 + 1000 * index), 16000)
        made.append({"ID": str(index), "duration": 0.5, "wav": str(path), "spk_id": "", "wrd": ""})
    return made


def test_the_second_time_nothing_is_encoded(counted: Counted, rows: Any, tmp_path: Path) -> None:
    first = cached_tokens(counted.codec, rows, "wav", tmp_path / "kept")
    assert counted.clips == 3 and len(first) == 3
    again = cached_tokens(counted.codec, rows, "wav", tmp_path / "kept")
    assert counted.clips == 3 and torch.equal(first[1], again[1])


def test_labels_and_texts_are_not_in_the_key(counted: Counted, rows: Any, tmp_path: Path) -> None:
    cached_tokens(counted.codec, rows, "wav", tmp_path / "kept")
    other = [{**row, "spk_id": "7", "wrd": "YES"} for row in rows]
    cached_tokens(counted.codec, other, "wav", tmp_path / "kept")
    assert counted.clips == 3


def test_moved_audio_keeps_its_tokens(counted: Counted, rows: Any, tmp_path: Path) -> None:
    cached_tokens(counted.codec, rows, "wav", tmp_path / "kept")
    (tmp_path / "moved").mkdir()
    moved = []
    for row in rows:
        place = tmp_path / "moved" / Path(row["wav"]).name
        os.rename(row["wav"], place)
        moved.append({**row, "wav": str(place)})
    cached_tokens(counted.codec, moved, "wav", tmp_path / "kept")
    assert counted.clips == 3


@pytest.mark.parametrize("what", ["audio", "rows", "model"])
def test_changed_input_is_encoded_again(
    counted: Counted, rows: Any, tmp_path: Path, what: str
) -> None:
    before = cached_tokens(counted.codec, rows, "wav", tmp_path / "kept")
    if what == "audio":
        soundfile.write(rows[0]["wav"], np.zeros(4000), 16000)
    elif what == "rows":
        rows = rows[:2]
    else:
        counted.codec.coder.weights_sha256 = "0" * 64
    after = cached_tokens(counted.codec, rows, "wav", tmp_path / "kept")
    assert counted.clips == 3 + len(rows) and after.folder != before.folder


def test_parts_of_files_are_encoded_alone(counted: Counted, rows: Any, tmp_path: Path) -> None:
    row = rows[2]
    part = {**row, "ID": "part", "start": 1600, "stop": 8000}
    store = cached_tokens(counted.codec, [row, part], "wav", tmp_path / "kept")
    sig = torch.from_numpy(soundfile.read(row["wav"], dtype="float32")[0][1600:8000])
    assert torch.equal(store[1], counted.codec.tokenizer.encode([sig])[0])


def test_processes_share_the_work(
    counted: Counted, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_tokens, "TokenizeOptions", lambda: OPTIONS)
    monkeypatch.setattr(probe_tokens.time, "sleep", lambda seconds: second())
    stores = []

    def second() -> None:
        stores.append(cached_tokens(counted.codec, rows, "wav", tmp_path / "kept", Shard(1, 2)))

    # The first waits for the second, which runs while it sleeps.
    first = cached_tokens(counted.codec, rows, "wav", tmp_path / "kept", Shard(0, 2))
    assert len(stores) == 1 and counted.clips == 3
    assert all(torch.equal(first[i], stores[0][i]) for i in range(3))


OPTIONS = probe_tokens.TokenizeOptions(part_clips=1)


def test_a_broken_file_has_no_tokens(counted: Counted, rows: Any, tmp_path: Path) -> None:
    Path(rows[1]["wav"]).write_bytes(b"no audio")
    store = cached_tokens(counted.codec, rows, "wav", tmp_path / "kept")
    assert store.ids == ["0", "2"]
    dataset = TokenDataset(rows, store)
    assert [row["ID"] for row in dataset.rows] == ["0", "2"]
    assert torch.equal(dataset[1]["toks"], store[1])  # type: ignore[index]


def test_a_worker_opens_the_folder_itself(counted: Counted, rows: Any, tmp_path: Path) -> None:
    store = cached_tokens(counted.codec, rows, "wav", tmp_path / "kept")
    parcel = pickle.dumps(store)
    assert len(parcel) < 1000 and torch.equal(pickle.loads(parcel)[2], store[2])


def test_a_missing_column_is_named(rows: Any) -> None:
    with pytest.raises(UserError, match="clip '0': no column 's1'"):
        RowSource(rows, "s1")
