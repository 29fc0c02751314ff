"""The probes of the papers' sizes have the parameters that their equations count."""

from __future__ import annotations

import pytest
import torch

from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.probes import SequenceProbe, TokenEmbedding, TokenTranslator, UtteranceProbe


def count(build):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def lstm(width, hidden):
    """Two directions of four gates, each with two matrices and, in PyTorch, two biases."""
    return 2 * 4 * (hidden * (width + hidden) + 2 * hidden)


BILSTM = lstm(512, 512) + lstm(1024, 512)
NORM = 2 * 512
FEED_FORWARD = NORM + (512 * 2048 + 2048) + (2048 * 512 + 512)
ATTENTION = NORM + 4 * (512 * 512 + 512)
CONVOLUTION = NORM + (512 * 1024 + 1024) + (512 * 31 + 512) + NORM + (512 * 512 + 512)
CONFORMER = (512 * 512 + 512) + 6 * (2 * FEED_FORWARD + ATTENTION + CONVOLUTION + NORM)


def test_lstm_by_hand():
    assert BILSTM == 10_502_144


@pytest.mark.parametrize("vocab_size", [29, 1000])
def test_speech_recognition(vocab_size):
    head = 1024 * vocab_size + vocab_size
    assert count(lambda: SequenceProbe(512, vocab_size)) == BILSTM + head


@pytest.mark.parametrize("num_classes", [4, 1172])
def test_speakers_and_emotions(num_classes):
    head = 2048 * num_classes + num_classes
    assert count(lambda: UtteranceProbe(512, num_classes)) == BILSTM + head


@pytest.mark.parametrize(("streams", "codebook_size", "targets"), [(1, 8192, 1), (8, 2048, 2)])
def test_enhancement_and_separation(streams, codebook_size, targets):
    head = (512 + 1) * streams * codebook_size
    assert CONFORMER == 36_625_920
    found = count(lambda: TokenTranslator(512, codebook_size, streams, targets))
    assert found == CONFORMER + targets * head


def test_embeddings():
    codes = BinarySphericalQuantizer(8192).codebook
    embedding = TokenEmbedding(8192, codes=[codes])
    found = sum(parameter.numel() for parameter in embedding.parameters())
    assert found == 8192 * 13 + 13 * 512 + 1 + NORM
