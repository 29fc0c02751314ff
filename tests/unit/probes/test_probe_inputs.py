"""Embeddings start from the codec's codes, are trained, and refuse tokens that it does not have."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.errors import UserError
from focalcodec.probes import FeatureProjection, TokenEmbedding


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_tables_are_the_codes_and_not_shared_with_them():
    codes = [torch.randn(5, 3), torch.randn(5, 2)]
    before = [code.clone() for code in codes]
    embedding = TokenEmbedding(5, streams=2, dim=8, codes=codes)
    for table, code in zip(embedding.tables, codes, strict=True):
        assert torch.equal(table.weight, code) and table.weight.requires_grad
    with torch.no_grad():
        embedding.tables[0].weight.zero_()
    assert torch.equal(codes[0], before[0])


def test_tokens_are_as_far_apart_as_their_codes():
    """Opposite codes give opposite vectors: training starts with the codec's geometry."""
    codes = BinarySphericalQuantizer(codebook_size=8).codebook
    x, _ = TokenEmbedding(8, dim=16, codes=[codes])(torch.arange(8)[None])
    torch.testing.assert_close(x[0], -x[0].flip(0))


def test_scale_of_the_codes_does_not_change_the_output():
    codes = torch.randn(5, 3)
    outputs = []
    for scale in (1.0, 100.0):
        torch.manual_seed(1)
        embedding = TokenEmbedding(5, dim=64, codes=[codes * scale])
        outputs.append(embedding(torch.arange(5)[None])[0])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-2, atol=1e-2)


def test_output_is_a_weighted_sum_of_streams():
    embedding = TokenEmbedding(5, streams=3, dim=8)
    toks = torch.randint(5, (2, 4, 3))
    torch.testing.assert_close(embedding.stream_weights, torch.full((3,), 1 / 3))
    with torch.no_grad():
        embedding.stream_logits.copy_(torch.tensor([-50.0, 50.0, -50.0]))
    x, _ = embedding(toks)
    second = F.layer_norm(embedding.maps[1](embedding.tables[1](toks[..., 1])), (8,))
    torch.testing.assert_close(x, embedding.norm(second))


def test_all_parameters_are_trained():
    embedding = TokenEmbedding(5, streams=2, dim=8, codes=[torch.randn(5, 3)] * 2)
    weights = torch.randn(8)  # the plain sum of a norm's outputs has no gradient
    (embedding(torch.randint(5, (2, 6, 2)))[0] * weights).sum().backward()
    for name, parameter in embedding.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int64])
def test_toks_of_any_integer_type(dtype):
    embedding = TokenEmbedding(5, dim=8)
    toks = torch.tensor([[0, 4, 2]])
    assert torch.equal(embedding(toks.to(dtype))[0], embedding(toks)[0])


@pytest.mark.parametrize(
    ("streams", "toks", "words"),
    [
        (1, torch.tensor([[0, 5]]), ["0 to 5", "[0, 5)"]),
        (1, torch.tensor([[-1, 3]]), ["-1 to 3"]),
        (1, torch.zeros(1, 2), ["torch.float32"]),
        (1, torch.zeros(1, 2, 2, dtype=torch.int64), ["(1, 2, 2)", "(batch, frames)"]),
        (2, torch.zeros(1, 2, dtype=torch.int64), ["(1, 2)", "(batch, frames, 2)"]),
        (2, torch.zeros(1, 2, 3, dtype=torch.int64), ["(1, 2, 3)"]),
    ],
)
def test_wrong_tokens_are_refused(streams, toks, words):
    with pytest.raises(UserError) as error:
        TokenEmbedding(5, streams, dim=8)(toks)
    assert all(word in str(error.value) for word in words)


def test_wrong_codes_are_refused():
    with pytest.raises(UserError, match="2 streams, and streams=1"):
        TokenEmbedding(5, codes=[torch.zeros(5, 3)] * 2)
    with pytest.raises(UserError, match=r"stream 1: shape \(4, 3\); give \(5, width\)"):
        TokenEmbedding(5, streams=2, codes=[torch.zeros(5, 3), torch.zeros(4, 3)])


def test_tokens_and_features_have_the_same_scale():
    toks = torch.randint(64, (2, 50))
    inputs = [
        TokenEmbedding(64, dim=32)(toks)[0],
        FeatureProjection(7, 32)(torch.randn(2, 50, 7))[0],
    ]
    for x in inputs:
        assert x.shape == (2, 50, 32)
        torch.testing.assert_close(x.mean(2), torch.zeros(2, 50), atol=1e-5, rtol=0)
        torch.testing.assert_close(x.var(2, correction=0), torch.ones(2, 50), atol=1e-2, rtol=0)
