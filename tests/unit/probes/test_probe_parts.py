"""The parts do what PyTorch's own say, where there are such."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from focalcodec.probes.bilstm import BiLSTM
from focalcodec.probes.conformer import ConformerEncoder
from focalcodec.probes.utterance import pool_statistics

LENGTHS = torch.tensor([3, 9, 1])


def test_bilstm_is_pytorchs_over_packed_sequences():
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


def test_statistics_are_pytorchs_of_the_valid_frames():
    torch.manual_seed(0)
    x = torch.randn(3, 9, 4) + 5
    found = pool_statistics(x, LENGTHS)
    for clip, n, row in zip(x, LENGTHS.tolist(), found, strict=True):
        deviation = clip[:n].std(dim=0, correction=0).clamp(min=1e-3)
        torch.testing.assert_close(row, torch.cat([clip[:n].mean(dim=0), deviation]))


def test_conformer_knows_positions_without_its_convolution():
    torch.manual_seed(0)
    encoder = ConformerEncoder(4, 8, num_layers=1, num_heads=2, ffn_dim=8, kernel_size=1, dropout=0)
    x = torch.randn(1, 4).expand(1, 6, 4)
    y, _ = encoder(x)
    assert (y[0, :1] - y[0, 1:]).abs().amax(dim=1).min() > 1e-2
