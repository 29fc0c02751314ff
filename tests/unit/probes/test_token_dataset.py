"""Data set and batches of stored tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from focalcodec.probes.token_dataset import TokenDataset, collate_tokens
from focalcodec.tokenize.store import (
    META_NAME,
    TokenizedClip,
    TokenStore,
    TokenVocabulary,
    write_memmap,
)

FRAMES = [5, 3, 0, 8]


def store_of(folder: Path, frames: list[int], streams: int = 1) -> TokenStore:
    """Clip i has tokens i, i + 1, ...; no tokens if it has no frames."""
    folder.mkdir(parents=True)
    vocabulary = TokenVocabulary(100, special=())
    clips = [
        TokenizedClip(f"clip{i}", torch.arange(i, i + n * streams), 320 * n, 16000)
        for i, n in enumerate(frames)
        if n
    ]
    write_memmap(folder, clips, vocabulary)
    ids = sum(frames) * streams
    meta = {"ids": ids, "vocabulary": vocabulary.config, "streams": streams}
    (folder / META_NAME).write_text(json.dumps(meta))
    return TokenStore(folder)


def rows_of(frames: list[int]) -> list[dict[str, Any]]:
    return [
        {"ID": f"clip{i}", "duration": n / 50, "wrd": "A" if i != 1 else "", "language": "en"}
        for i, n in enumerate(frames)
    ]


@pytest.mark.parametrize("streams", [1, 3])
def test_batches_are_padded_with_zeros(tmp_path: Path, streams: int) -> None:
    dataset = TokenDataset(rows_of(FRAMES), store_of(tmp_path / "a", FRAMES, streams))
    batch = collate_tokens([dataset[0], dataset[1]])
    assert batch is not None and batch.id == ["clip0", "clip1"]
    assert batch.toks.shape == ((2, 5) if streams == 1 else (2, 5, 3))
    assert batch.lengths.tolist() == [5, 3] and not batch.toks[1, 3:].any()
    assert torch.equal(batch.toks[1, :3], dataset[1]["toks"])  # type: ignore[index]


def test_clips_without_tokens_or_target_or_of_another_length_are_skipped(tmp_path: Path) -> None:
    store, rows = store_of(tmp_path / "a", FRAMES), rows_of(FRAMES)
    assert [row["ID"] for row in TokenDataset(rows, store).rows] == ["clip0", "clip1", "clip3"]
    kept = TokenDataset(rows, store, usable=lambda row: bool(row["wrd"]), max_seconds=0.1)
    assert [row["ID"] for row in kept.rows] == ["clip0"]
    with pytest.raises(UserError, match="no clip of 4 is left"):
        TokenDataset(rows, store, min_seconds=1.0)


def test_targets_are_side_by_side(tmp_path: Path) -> None:
    store = store_of(tmp_path / "a", FRAMES, 2)
    targets = [store_of(tmp_path / name, [5, 3, 0, 7], 2) for name in ("s1", "s2")]
    dataset = TokenDataset(rows_of(FRAMES), store, targets)
    batch = collate_tokens([dataset[0], dataset[2]])
    assert batch is not None and batch.targets is not None
    # The input has one frame more than the target; it is cut.
    assert batch.targets.shape == (2, 7, 2, 2) and batch.lengths.tolist() == [5, 7]
    assert torch.equal(batch.targets[1, :, 1], targets[1][2])


def test_recordings_of_different_lengths_raise_an_error(tmp_path: Path) -> None:
    store, target = store_of(tmp_path / "a", [5, 8]), store_of(tmp_path / "b", [5, 6])
    with pytest.raises(UserError, match="clip 'clip1': 8 input frames, 6 target frames"):
        TokenDataset(rows_of([5, 8]), store, [target])


def test_groups_come_from_a_column(tmp_path: Path) -> None:
    store = store_of(tmp_path / "a", FRAMES)
    dataset = TokenDataset(rows_of(FRAMES), store, group_by="language")
    assert dataset.groups == ["en", "en", "en"]
    with pytest.raises(UserError, match="group_by='mood'"):
        TokenDataset(rows_of(FRAMES), store, group_by="mood")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_has_each_clip_once(tmp_path: Path, workers: int) -> None:
    frames = [3 + i % 7 for i in range(20)]
    dataset = TokenDataset(rows_of(frames), store_of(tmp_path / "a", frames))
    sampler = EpochBatchSampler(dataset.durations, batch_size=4, sorting="bucketed")
    loader = DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate_tokens, num_workers=workers
    )
    names = [name for batch in loader for name in batch.id]
    assert sorted(names) == sorted(row["ID"] for row in dataset.rows) and len(names) == 20
