"""Each probe learns a toy task that it can't learn if its parts are wrongly joined."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from focalcodec.probes import (
    SequenceProbe,
    TokenEmbedding,
    TokenTranslator,
    UtteranceProbe,
    decode_greedily,
    permuted_cross_entropy,
)

LENGTHS = torch.tensor([16, 12, 9, 16])


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


def test_sequence_probe_spells_what_it_heard():
    toks = torch.randint(8, (4, 16))
    words = [[1, 2, 2], [3, 1], [2], [1, 3, 2, 1]]
    embedding = TokenEmbedding(8, dim=16)
    probe = SequenceProbe(16, vocab_size=4, hidden_dim=32, dropout=0.0)

    def loss_of():
        log_probs, lengths = probe(*embedding(toks, LENGTHS))
        counts = torch.tensor([len(word) for word in words])
        targets = torch.tensor(sum(words, []))
        return F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, counts)

    assert train([embedding, probe], loss_of, steps=80, lr=2e-2) < 0.1
    assert decode_greedily(*probe(*embedding(toks, LENGTHS))) == words


def test_utterance_probe_counts_streams_and_tokens():
    """The class is said by the second stream alone, and its weight grows."""
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
    """Targets are the two digits of a token, shuffled anew for each clip at each step."""
    toks = torch.randint(16, (4, 16))
    targets = torch.stack([toks // 4, toks % 4 + 4], dim=2)[..., None]
    embedding = TokenEmbedding(16, dim=16)
    translator = TokenTranslator(
        16, 8, targets=2, dim=16, num_layers=1, num_heads=2, ffn_dim=32, kernel_size=3, dropout=0.0
    )

    def loss_of():
        swapped = torch.rand(4, 1, 1, 1) < 0.5
        shuffled = torch.where(swapped, targets.flip(2), targets)
        logits, lengths = translator(*embedding(toks, LENGTHS))
        return permuted_cross_entropy(logits, shuffled, lengths).loss.mean()

    assert train([embedding, translator], loss_of, steps=60) < 0.1
