"""Ids of speech and special tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.tokenize import TokenVocabulary

NAMES = st.lists(st.sampled_from(["bos", "eos", "pad", "sep"]), unique=True)


@settings(max_examples=60)
@given(st.integers(1, 9000), st.integers(0, 100_000), NAMES, st.data())
def test_to_ids_and_back(codebook_size, offset, special, data):
    vocabulary = TokenVocabulary(codebook_size, offset, special)
    toks = torch.tensor(data.draw(st.lists(st.integers(0, codebook_size - 1))), dtype=torch.int64)
    ids = vocabulary.to_ids(toks)
    assert len(ids) == len(toks) + ("bos" in special) + ("eos" in special)
    assert torch.equal(vocabulary.to_toks(ids), toks)
    assert ids.numel() == 0 or offset <= int(ids.min()) <= int(ids.max()) < vocabulary.size
    assert np.array_equal(ids.numpy().astype(vocabulary.dtype), ids.numpy())
    assert TokenVocabulary.from_config(vocabulary.config).config == vocabulary.config


def test_special_tokens_follow_the_speech_tokens():
    vocabulary = TokenVocabulary(10, offset=100)
    assert vocabulary.special == {"bos": 110, "eos": 111, "pad": 112}
    assert vocabulary.to_ids(torch.tensor([0, 9])).tolist() == [110, 100, 109, 111]


def test_special_tokens_of_a_text_model():
    vocabulary = TokenVocabulary(10, offset=100, special={"bos": 1, "eos": 2})
    assert vocabulary.size == 110
    assert vocabulary.to_ids(torch.tensor([0, 9])).tolist() == [1, 100, 109, 2]
    assert vocabulary.to_toks(torch.tensor([1, 101, 2, 2, 102])).tolist() == [1, 2]


@pytest.mark.parametrize("size, dtype", [(65536, "<u2"), (65537, "<u4")])
def test_dtype_is_the_smallest(size, dtype):
    assert TokenVocabulary(size, special=()).dtype == np.dtype(dtype)


@pytest.mark.parametrize("ids", [[99], [110 + 3], [-1], [5]])
def test_ids_of_text_are_errors(ids):
    with pytest.raises(UserError, match=r"ids: .* is not in 100\.\.109"):
        TokenVocabulary(10, offset=100).to_toks(torch.tensor(ids))


@pytest.mark.parametrize("toks", [[10], [-1], [0.5], [[1]]])
def test_bad_toks_are_errors(toks):
    with pytest.raises(UserError, match="toks: "):
        TokenVocabulary(10).to_ids(torch.tensor(toks))


@pytest.mark.parametrize(
    "arguments",
    [
        {"codebook_size": 0},
        {"codebook_size": 8, "offset": -1},
        {"codebook_size": 8, "special": ("bos", "bos")},
        {"codebook_size": 8, "special": {"bos": 7}},
        {"codebook_size": 8, "special": {"bos": -1}},
        {"codebook_size": 8, "offset": 4, "special": {"bos": 1, "eos": 1}},
    ],
)
def test_impossible_vocabularies_are_errors(arguments):
    with pytest.raises(UserError):
        TokenVocabulary(**arguments)
