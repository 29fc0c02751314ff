"""Pieces of texts, labels, and greedy decoding of CTC."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.probes.targets import (
    Labels,
    Pieces,
    decode_greedily,
    learn_pieces,
    unweighted_recall,
)

TEXTS = ["THE CAT SAT ON THE MAT", "THE DOG SAT ON THE CAT", "A DOG AND A CAT"]


def test_symbols_give_the_text_back() -> None:
    for model_type in ("bpe", "unigram", "char"):
        pieces = Pieces(learn_pieces(TEXTS, 20, model_type))
        assert [pieces.to_text(pieces.to_symbols(text)) for text in TEXTS] == TEXTS
        assert min(pieces.to_symbols(TEXTS[0])) > 0 and len(pieces.names) == len(pieces)


def test_pieces_are_the_same_each_time() -> None:
    assert learn_pieces(TEXTS, 20) == learn_pieces(iter(TEXTS), 20)


def test_wrong_pieces_raise_an_error_of_one_line() -> None:
    wrong: list[tuple[list[str], int, str]] = [
        (TEXTS, 5000, "bpe"), (TEXTS, 3, "bpe"), ([""], 20, "bpe"), (TEXTS, 20, "words")
    ]  # fmt: skip
    for texts, size, model_type in wrong:
        with pytest.raises(UserError) as error:
            learn_pieces(texts, size, model_type)
        assert "\n" not in str(error.value)


def test_a_guess_is_the_better_of_two() -> None:
    rows = [{"mood": name} for name in ("angry", "sad", "sad", "calm")]
    labels = Labels.of(rows, "mood")
    assert labels.chance(rows) == 50.0, "always sad"
    others = [{"mood": "calm"}, {"mood": "angry"}]
    assert labels.chance(others) == pytest.approx(200 / 3), "at random"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1))
def test_confusions_are_all_clips_and_recall_is_a_share(pairs: list[tuple[str, str]]) -> None:
    labels, rows = Labels("mood", "abc"), [{"ID": "", "mood": true} for true, _ in pairs]
    counts = labels.confusion(rows, [found for _, found in pairs])
    assert counts.sum() == len(pairs)
    assert counts.trace() == sum(true == found for true, found in pairs)
    assert 0.0 <= unweighted_recall(counts) <= 100.0


def test_labels_are_those_of_the_training_set() -> None:
    rows = [{"ID": str(i), "spk_id": name} for i, name in enumerate("babc")]
    labels = Labels.of(rows, "spk_id")
    assert labels.names == ["a", "b", "c"] and labels.number(rows[3]) == 2
    with pytest.raises(UserError, match="clip 'x': spk_id='d' is not a label"):
        labels.number({"ID": "x", "spk_id": "d"})
    with pytest.raises(UserError, match="clip 'x' has none"):
        Labels.of([*rows, {"ID": "x", "spk_id": ""}], "spk_id")
    with pytest.raises(UserError, match="two are needed"):
        Labels.of(rows[:1], "spk_id")


@pytest.mark.parametrize("blank", [0, 3])
def test_greedy_decoding(blank):
    torch.manual_seed(0)
    log_probs = torch.randn(20, 30, 4).log_softmax(-1)
    lengths = torch.randint(1, 31, (20,))
    expected = []
    for clip, n in zip(log_probs, lengths.tolist(), strict=True):
        runs = [symbol for symbol, _ in groupby(clip[:n].argmax(-1).tolist())]
        expected.append([symbol for symbol in runs if symbol != blank])
    assert decode_greedily(log_probs, lengths, blank) == expected


def test_greedy_decoding_of_nothing():
    assert decode_greedily(torch.tensor([[[0.0, -9.0]] * 3]), blank=0) == [[]]
