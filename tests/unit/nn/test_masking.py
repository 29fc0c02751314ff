"""Lengths become masks."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.nn.masking import full_lengths, masked_mean, valid_mask, zero_padding


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 12))
def test_valid_mask_counts(lengths, longest):
    mask = valid_mask(torch.tensor(lengths), longest)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[i < length for i in range(longest)] for length in lengths]


def test_full_lengths():
    lengths = full_lengths(torch.zeros(2, 5, 3))
    assert lengths.dtype == torch.int64
    assert lengths.tolist() == [5, 5]


def test_zero_padding_removes_nan_and_keeps_the_rest():
    mask = torch.tensor([[True, True, False]])
    for shape in ((1, 3), (1, 3, 2)):
        x = torch.ones(shape)
        x[:, 2] = math.nan
        y = zero_padding(x, mask)
        assert (y[:, :2] == 1).all() and (y[:, 2] == 0).all()
        assert x[:, 2].isnan().all()


def test_zero_padding_of_integers():
    toks = zero_padding(torch.tensor([[7, 7]]), torch.tensor([[True, False]]))
    assert toks.dtype == torch.int64
    assert toks.tolist() == [[7, 0]]


def test_no_gradient_from_padding():
    x = torch.full((1, 3, 2), 2.0, requires_grad=True)
    zero_padding(x, torch.tensor([[True, True, False]])).square().sum().backward()
    assert x.grad.tolist() == [[[4.0, 4.0], [4.0, 4.0], [0.0, 0.0]]]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_masked_mean_is_the_mean_of_each_clip(lengths):
    x = torch.randn(len(lengths), 9, 3)
    mask = valid_mask(torch.tensor(lengths), 9)
    mean = masked_mean(x.masked_fill(~mask[..., None], math.nan), mask)
    for row, clip, length in zip(mean, x, lengths, strict=True):
        torch.testing.assert_close(row[0], clip[:length].mean(dim=0))


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(1, 2, 1), torch.zeros(1, 2, dtype=torch.bool)).item() == 0
