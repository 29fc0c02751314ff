"""The networks: against PyTorch's own parts, the papers' sizes, and tasks that they must learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.probes import (
    SequenceProbe,
    TokenEmbedding,
    TokenTranslator,
    UtteranceProbe,
    permuted_cross_entropy,
)
from focalcodec.probes.conformer import ConformerEncoder
from focalcodec.probes.lstm import BiLSTM, pool_statistics
from focalcodec.probes.targets import decode_greedily

LENGTHS = torch.tensor([3, 9, 1])


# -- parts -----------------------------------------------------------------------------------------


def test_bilstm_equals_pytorch_on_packed_sequences():
    torch.manual_seed(0)
    x = torch.randn(3, 9, 4)
    ours = BiLSTM(4, hidden_dim=5, num_layers=2, dropout=0.0)
    theirs = nn.LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for layer in range(2):
            for lstm, ending in ((ours.ahead[layer], ""), (ours.back[layer], "_reverse")):
                for name, parameter in lstm.named_parameters():
                    parameter.copy_(getattr(theirs, name.replace("l0", f"l{layer}") + ending))
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    torch.testing.assert_close(ours(x, LENGTHS)[0], expected)


def test_statistics_equal_pytorch_on_the_valid_frames():
    torch.manual_seed(0)
    x = torch.randn(3, 9, 4) + 5
    found = pool_statistics(x, LENGTHS)
    for clip, n, row in zip(x, LENGTHS.tolist(), found, strict=True):
        deviation = clip[:n].std(dim=0, correction=0).clamp(min=1e-3)
        torch.testing.assert_close(row, torch.cat([clip[:n].mean(dim=0), deviation]))


def test_conformer_uses_positions_without_its_convolution():
    torch.manual_seed(0)
    encoder = ConformerEncoder(4, 8, num_layers=1, num_heads=2, ffn_dim=8, kernel_size=1, dropout=0)
    x = torch.randn(1, 4).expand(1, 6, 4)
    y, _ = encoder(x)
    assert (y[0, :1] - y[0, 1:]).abs().amax(dim=1).min() > 1e-2


# -- sizes: parameters as the papers' equations count them -----------------------------------------


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


def test_lstm_size_by_hand():
    assert BILSTM == 10_502_144


@pytest.mark.parametrize("vocab_size", [29, 1000])
def test_size_for_speech_recognition(vocab_size):
    head = 1024 * vocab_size + vocab_size
    assert count(lambda: SequenceProbe(512, vocab_size)) == BILSTM + head


@pytest.mark.parametrize("num_classes", [4, 1172])
def test_size_for_speakers_and_emotions(num_classes):
    head = 2048 * num_classes + num_classes
    assert count(lambda: UtteranceProbe(512, num_classes)) == BILSTM + head


@pytest.mark.parametrize(("streams", "codebook_size", "targets"), [(1, 8192, 1), (8, 2048, 2)])
def test_size_for_enhancement_and_separation(streams, codebook_size, targets):
    head = (512 + 1) * streams * codebook_size
    assert CONFORMER == 36_625_920
    found = count(lambda: TokenTranslator(512, codebook_size, streams, targets))
    assert found == CONFORMER + targets * head


def test_size_of_embeddings():
    codes = BinarySphericalQuantizer(8192).codebook
    embedding = TokenEmbedding(8192, codes=[codes])
    found = sum(parameter.numel() for parameter in embedding.parameters())
    assert found == 8192 * 13 + 13 * 512 + 1 + NORM


# -- learning: tasks that a probe can't learn if its parts are joined wrongly ----------------------

CLIP_LENGTHS = torch.tensor([16, 12, 9, 16])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def train(modules, loss_of, steps, lr=1e-2):
    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return loss.item()


def test_sequence_probe_learns_words():
    toks = torch.randint(8, (4, 16))
    words = [[1, 2, 2], [3, 1], [2], [1, 3, 2, 1]]
    embedding = TokenEmbedding(8, dim=16)
    probe = SequenceProbe(16, vocab_size=4, hidden_dim=32, dropout=0.0)

    def loss_of():
        log_probs, lengths = probe(*embedding(toks, CLIP_LENGTHS))
        counts = torch.tensor([len(word) for word in words])
        targets = torch.tensor(sum(words, []))
        return F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, counts)

    assert train([embedding, probe], loss_of, steps=80, lr=2e-2) < 0.1
    assert decode_greedily(*probe(*embedding(toks, CLIP_LENGTHS))) == words


def test_utterance_probe_learns_which_stream_matters():
    """Only the second stream depends on the class, and its weight grows."""
    toks = torch.randint(8, (32, 16, 2))
    classes = torch.arange(32) % 4
    toks[..., 1] = classes[:, None] * 2 + torch.randint(2, (32, 16))
    embedding = TokenEmbedding(8, streams=2, dim=16)
    probe = UtteranceProbe(16, num_classes=4, hidden_dim=8, dropout=0.0)

    def loss_of():
        x, lengths = embedding(toks)
        return F.cross_entropy(probe(x, lengths), classes)

    assert train([embedding, probe], loss_of, steps=30) < 0.1
    assert embedding.stream_weights[1] > 0.5


def test_translator_separates_targets_in_any_order():
    """Targets are the two digits of a token, shuffled for each clip at each step."""
    toks = torch.randint(16, (4, 16))
    targets = torch.stack([toks // 4, toks % 4 + 4], dim=2)[..., None]
    embedding = TokenEmbedding(16, dim=16)
    translator = TokenTranslator(
        16, 8, targets=2, dim=16, num_layers=1, num_heads=2, ffn_dim=32, kernel_size=3, dropout=0.0
    )

    def loss_of():
        swapped = torch.rand(4, 1, 1, 1) < 0.5
        shuffled = torch.where(swapped, targets.flip(2), targets)
        logits, lengths = translator(*embedding(toks, CLIP_LENGTHS))
        return permuted_cross_entropy(logits, shuffled, lengths).loss.mean()

    assert train([embedding, translator], loss_of, steps=60) < 0.1
