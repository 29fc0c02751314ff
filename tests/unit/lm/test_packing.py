"""Rows of packed utterances: whole, of one speaker, equal after a resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from focalcodec.lm import PackedTokens, Vocabulary
from focalcodec.lm.packing import collate_rows
from tests.unit.lm.stores import write_store

WORDS = Vocabulary(16, " ab")
TTS = ["text", "speech"]


def packed(folder: Path, length: int = 24, **options: object) -> PackedTokens:
    return PackedTokens(write_store(folder), WORDS, TTS, length, **options)  # type: ignore[arg-type]


def utterances(ids: torch.Tensor) -> list[list[int]]:
    """Ids of each utterance of a row, without the padding."""
    end, found = WORDS.special["eos"], [[]]
    for value in ids.tolist():
        found[-1].append(value)
        if value == end:
            found.append([])
    return found[:-1]


def test_each_utterance_is_whole_once_and_with_its_speaker(tmp_path: Path) -> None:
    rows = packed(tmp_path)
    store, speaker = rows.store, {}
    for clip, name in enumerate(store.ids):
        ids = WORDS.utterance(TTS, store.text[clip], store[clip]).ids
        speaker[tuple(ids.tolist())] = store.spk_id[clip], name
    seen = []
    for row in range(len(rows)):
        found = [speaker[tuple(each)] for each in utterances(rows[row]["ids"])]
        assert len({who for who, _ in found}) == 1
        assert len(rows[row]["ids"]) <= 24
        seen += [name for _, name in found]
    assert sorted(seen) == sorted(store.ids)
    assert len(rows) < len(store.ids)


def test_targets_are_tokens_and_ends(tmp_path: Path) -> None:
    rows = packed(tmp_path)
    batch = collate_rows([rows[0], rows[1]])
    allowed = (batch.ids >= WORDS.toks.offset) | (batch.ids == WORDS.special["eos"])
    valid = torch.arange(batch.ids.shape[1]) < batch.lengths[:, None]
    assert torch.equal(batch.is_target, allowed & valid)
    assert batch.ids.shape == (2, 24)


def test_texts_are_left_out_by_row_and_draw(tmp_path: Path) -> None:
    rows = packed(tmp_path, text_dropout=0.5, prompt_text_dropout=1.0, seed=3)
    again = packed(tmp_path, text_dropout=0.5, prompt_text_dropout=1.0, seed=3)
    text, different = WORDS.special["text"], False
    for row in range(len(rows)):
        draws = [rows[row, draw]["ids"] for draw in range(6)]
        assert all(torch.equal(ids, again[row, n]["ids"]) for n, ids in enumerate(draws))
        different |= any(not torch.equal(ids, draws[0]) for ids in draws)
        if len(rows.rows[row]) > 1:
            assert all(utterances(ids)[0][0] != text for ids in draws)
    assert different
    every = packed(tmp_path, text_dropout=1.0, prompt_text_dropout=1.0)
    assert not any((every[row]["ids"] == text).any() for row in range(len(every)))


def test_a_resumed_epoch_has_the_same_rows(tmp_path: Path) -> None:
    rows = packed(tmp_path, text_dropout=0.5)

    def sampler() -> EpochBatchSampler:
        return EpochBatchSampler(rows.durations, batch_size=2, seed=1, passes=2, with_draws=True)

    whole, part = sampler(), sampler()
    whole.set_epoch(3)
    part.set_epoch(3)
    part.advance(2)
    resumed = sampler()
    resumed.load_state_dict(part.state_dict())
    expected = [collate_rows([rows[item] for item in items]).ids for items in list(whole)[2:]]
    found = [collate_rows([rows[item] for item in items]).ids for items in resumed]
    assert len(expected) > 1
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_errors_are_one_line(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    with pytest.raises(
        UserError, match="1 streams of 16 tokens, by tiny; the model has one stream"
    ):
        PackedTokens(store, Vocabulary(32), TTS, 24)
    with pytest.raises(UserError, match="clip 'c0': text .* no character 'a'"):
        PackedTokens(store, Vocabulary(16, " b"), TTS, 24)
    with pytest.raises(UserError, match="no clip of the set"):
        PackedTokens(store, WORDS, TTS, 24, texts={"other": "a"})
    PackedTokens(store, Vocabulary(16, " b"), ["speech"], 24)  # no text is needed


def test_bytes_and_characters_come_back() -> None:
    for vocabulary in (WORDS, Vocabulary(16, None)):
        assert vocabulary.to_text(vocabulary.text_ids("ab  a").tolist()) == "ab a"
    assert (
        Vocabulary(16, None).to_text(Vocabulary(16, None).text_ids("\u00e9A").tolist()) == "\u00e9A"
    )
    with pytest.raises(UserError, match="text: empty"):
        WORDS.text_ids(" \n")


def test_codes_are_those_of_the_tokens_alone() -> None:
    codes = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / 2**0.5
    table = Vocabulary(2, "ab").codes(codes)
    assert table.tolist() == [[0.0, 0.0]] * 6 + [[1.0, -1.0], [-1.0, 1.0]]
