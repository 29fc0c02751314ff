"""A clip gives the same output alone and in any padded batch, in training too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from focalcodec.errors import UserError
from focalcodec.probes import (
    FeatureProjection,
    SequenceProbe,
    TokenEmbedding,
    TokenTranslator,
    UtteranceProbe,
)
from focalcodec.probes.conformer import ConformerEncoder
from focalcodec.probes.lstm import BiLSTM

DIM, LENGTHS = 6, [1, 4, 9, 40]
SMALL = {"num_layers": 2, "num_heads": 2, "ffn_dim": 16, "dropout": 0.0}
PROBES = {
    "features": lambda: FeatureProjection(DIM, dim=8),
    "lstm": lambda: BiLSTM(DIM, hidden_dim=5, dropout=0.0),
    "sequence": lambda: SequenceProbe(DIM, vocab_size=7, hidden_dim=5, dropout=0.0),
    "utterance": lambda: UtteranceProbe(DIM, num_classes=3, hidden_dim=5, dropout=0.0),
    "conformer": lambda: ConformerEncoder(DIM, dim=8, **SMALL),
    "translator": lambda: TokenTranslator(DIM, 4, streams=3, targets=2, dim=8, **SMALL),
}
WITH_CONTEXT = [name for name in PROBES if name != "features"]  # modules that use other frames


def as_after_training(probe: nn.Module) -> nn.Module:
    """Move biases and norms from their first values, which could hide errors with the padding."""
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return probe


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def frames_of(answer):
    return answer if torch.is_tensor(answer) else answer[0]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e4, 0.0])
@pytest.mark.parametrize("name", PROBES)
def test_alone_and_in_a_batch(name, garbage, train):
    probe = as_after_training(PROBES[name]()).train(train)
    clips = [torch.randn(1, n, DIM) for n in LENGTHS]
    batch = torch.full((len(clips), max(LENGTHS) + 5, DIM), garbage)
    for row, clip in zip(batch, clips, strict=True):
        row[: clip.shape[1]] = clip[0]
    together = frames_of(probe(batch, torch.tensor(LENGTHS)))
    for answer, clip in zip(together, clips, strict=True):
        alone = frames_of(probe(clip))[0]
        if name != "utterance":
            assert torch.equal(answer[clip.shape[1] :], torch.zeros_like(answer[clip.shape[1] :]))
            answer = answer[: clip.shape[1]]
        torch.testing.assert_close(answer, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PROBES)
def test_gradients_are_those_of_the_clips_alone(name):
    probe = as_after_training(PROBES[name]())
    clips = [torch.randn(1, n, DIM) for n in LENGTHS]
    batch = torch.full((len(clips), max(LENGTHS), DIM), float("nan"))
    for row, clip in zip(batch, clips, strict=True):
        row[: clip.shape[1]] = clip[0]
    frames_of(probe(batch, torch.tensor(LENGTHS))).square().sum().backward()
    together = [parameter.grad.clone() for parameter in probe.parameters()]
    probe.zero_grad()
    for clip in clips:
        frames_of(probe(clip)).square().sum().backward()
    for found, parameter in zip(together, probe.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", WITH_CONTEXT)
def test_frames_depend_on_each_other(name):
    """The last frame changes the output at the first one."""
    probe = as_after_training(PROBES[name]())
    x = torch.randn(1, 6, DIM)
    changed = x.clone()
    changed[:, -1] += 1
    first = [frames_of(probe(given))[0, 0] for given in (x, changed)]
    assert (first[0] - first[1]).abs().max() > 1e-5


@pytest.mark.parametrize("name", WITH_CONTEXT)
def test_order_matters(name):
    probe = as_after_training(PROBES[name]())
    x = torch.randn(1, 30, DIM)
    output, turned = frames_of(probe(x)), frames_of(probe(x.flip(1)))
    if name != "utterance":
        turned = turned.flip(1)
    assert (output - turned).abs().max() > 1e-3


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("garbage", [-1, 4, 60000])
def test_tokens_alone_and_in_a_batch(streams, garbage):
    embedding = as_after_training(TokenEmbedding(4, streams, dim=8))
    toks = torch.randint(4, (2, 9, streams), dtype=torch.int32)
    toks[0, 5:] = garbage
    x, lengths = embedding(toks, torch.tensor([5, 9]))
    assert torch.equal(lengths, torch.tensor([5, 9])) and torch.equal(x[0, 5:], torch.zeros(4, 8))
    torch.testing.assert_close(x[:1, :5], embedding(toks[:1, :5])[0])
    torch.testing.assert_close(x[1:], embedding(toks[1:])[0])


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize(
    ("x", "lengths", "words"),
    [
        (torch.zeros(2, 5, DIM + 1), None, ["(2, 5, 7)", "6"]),
        (torch.zeros(5, DIM), None, ["(5, 6)"]),
        (torch.zeros(2, 5, DIM), torch.tensor([0, 5]), ["[0, 5]", "1..5"]),
        (torch.zeros(2, 5, DIM), torch.tensor([5, 6]), ["[5, 6]", "1..5"]),
        (torch.zeros(2, 5, DIM), torch.tensor([0.5, 1.0]), ["torch.float32", "int64"]),
        (torch.zeros(2, 5, DIM), torch.tensor([5]), ["(1,)", "(2,)"]),
    ],
)
def test_wrong_frames_are_refused_in_a_line(name, x, lengths, words):
    with pytest.raises(UserError) as error:
        PROBES[name]()(x, lengths)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
