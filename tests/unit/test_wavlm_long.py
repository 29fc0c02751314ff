"""Long audio in WavLM: blocks of frames and of queries change only the memory."""

from __future__ import annotations

import math

import pytest
import torch
from test_wavlm import VARIANTS, tiny

from focalcodec.nn import layers, wavlm_attention, wavlm_extractor
from focalcodec.nn.wavlm_attention import Surroundings, attend, chunk_mask


@pytest.fixture
def small_blocks(monkeypatch):
    """Small blocks: a second of audio has many, and a clip ends in the middle of a block."""
    monkeypatch.setitem(wavlm_extractor._BLOCK_BYTES, "cpu", 12000)
    monkeypatch.setitem(wavlm_attention._BLOCK_LOGITS, "cpu", 300)
    monkeypatch.setattr(layers, "_CPU_FRAMES", 7)


def plain_attention(query, key, value, gate, around):
    """Attention over the whole matrix of biases."""
    num_frames = query.shape[2]
    frame = torch.arange(num_frames)
    bias = around.bias.flip(1)[:, frame - frame[:, None] + num_frames - 1]
    allowed = torch.ones(num_frames, num_frames, dtype=torch.bool)
    if around.window_size is not None:
        allowed = chunk_mask(frame[:, None], frame, around.chunk_size, around.window_size)
    if around.mask is not None:
        allowed = (allowed & around.mask[:, None, None]) | torch.eye(num_frames, dtype=torch.bool)
    logits = query @ key.transpose(2, 3) / math.sqrt(query.shape[3]) + gate * bias
    return logits.masked_fill(~allowed, float("-inf")).softmax(dim=3) @ value


def heads(batch, num_frames, requires_grad=False):
    torch.manual_seed(0)
    shapes = [(batch, 4, num_frames, 8)] * 3 + [(batch, 4, num_frames, 1)]
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    tensors.append(torch.randn(4, 2 * num_frames - 1, dtype=torch.float64))
    return [tensor.requires_grad_(requires_grad) for tensor in tensors]


# budgets: all at once; two heads at a time; one head, few queries; one query
@pytest.mark.parametrize("budget", [2**20, 2 * 2 * 37**2, 2 * 37 * 5, 1])
# a window shorter than a chunk, (4, 2), leaves the first queries of a whole clip without keys
@pytest.mark.parametrize(
    "causal, padded",
    [(None, False), ((4, 9), False), (None, True), ((4, 9), True), ((4, 2), True)],
)
def test_attention_in_blocks_is_plain_attention(monkeypatch, budget, causal, padded):
    monkeypatch.setitem(wavlm_attention._BLOCK_LOGITS, "cpu", budget)
    query, key, value, gate, bias = heads(2, 37, requires_grad=True)
    mask = torch.arange(37) < torch.tensor([[37], [20]]) if padded else None
    around = Surroundings(bias, mask, *(causal or (None, None)))
    results = []
    for function in (attend, plain_attention):
        y = function(query, key, value, gate, around)
        valid = y if mask is None else y * mask[:, None, :, None]
        gradients = torch.autograd.grad(valid.square().sum(), (query, key, value, gate, bias))
        results.append((valid, *gradients))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("causal", [None, (4, 9)])
def test_attention_of_one_clip_in_float32_without_gradients(monkeypatch, causal):
    """The products of oneDNN, if it is available, equal those of `@`."""
    monkeypatch.setitem(wavlm_attention._BLOCK_LOGITS, "cpu", 37 * 5)
    tensors = [tensor.float() for tensor in heads(1, 37)]
    around = Surroundings(tensors.pop(), None, *(causal or (None, None)))
    with torch.no_grad():
        torch.testing.assert_close(attend(*tensors, around), plain_attention(*tensors, around))


def test_causal_blocks_leave_out_keys_outside_every_window():
    around = Surroundings(torch.zeros(1, 1999), chunk_size=4, window_size=16)
    assert around.keys(slice(100, 110)) == slice(88, 112)
    assert around.keys(slice(0, 10)) == slice(0, 12)
    assert around.keys(slice(990, 1000)) == slice(976, 1000)
    assert Surroundings(torch.zeros(1, 1999)).keys(slice(5, 6)) == slice(0, 1000)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("samples", [3001, 3280, 3599, 3600, 16000])
def test_blocks_give_the_same_features(monkeypatch, small_blocks, variant, samples):
    encoder = tiny(variant).eval().double()
    sig = torch.randn(1, samples, dtype=torch.float64)
    with torch.no_grad():
        blocked = encoder.run(sig)[0]
        monkeypatch.undo()
        whole = encoder.run(sig)[0]
    torch.testing.assert_close(blocked, whole)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1.0])
def test_blocks_and_padding(small_blocks, variant, garbage):
    encoder = tiny(variant).eval()
    lengths = torch.tensor([9000, 1, 399, 400, 1500, 1519, 1520, 6001])
    batch = torch.full((len(lengths), 12000), garbage)
    for row, length in zip(batch, lengths.tolist(), strict=True):
        row[:length] = torch.randn(length)
    with torch.no_grad():
        feats, frames = encoder(batch, lengths=lengths)
        for row, sig, length, end in zip(feats, batch, lengths, frames, strict=True):
            alone = encoder.run(sig[None, :length])[0][0]
            assert len(alone) == end
            torch.testing.assert_close(row[:end], alone, atol=1e-4, rtol=1e-4)
            assert not row[end:].any()


def test_blocks_never_hold_a_whole_layer(monkeypatch, small_blocks):
    encoder = tiny("large").eval()
    longest = []
    for layer in encoder.feature_extractor.layers:
        layer.dropout.register_forward_hook(lambda module, args, y: longest.append(y.shape[1]))
    softmax = torch.softmax
    logits = []
    monkeypatch.setattr(
        torch, "softmax", lambda x, dim: logits.append(x.numel()) or softmax(x, dim)
    )
    with torch.no_grad():
        encoder.run(torch.randn(1, 64000))
    assert max(longest) <= 3000 // 5
    assert max(logits) <= 300


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_without_blocks(monkeypatch, small_blocks, variant):
    encoder = tiny(variant).double()
    sig = torch.randn(1, 16000, dtype=torch.float64)
    gradients = []
    for _ in range(2):
        encoder.zero_grad()
        encoder.run(sig)[0].square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters()])
        monkeypatch.undo()
    for blocked, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(blocked, whole)
