"""Precision: which values are rounded, and how much the results may change."""

from __future__ import annotations

import copy

import pytest
import torch
from small_codecs import golden_codec, golden_tensors, logmel_codec

from focalcodec.errors import UserError
from focalcodec.precision import PRECISIONS, set_precision

# codec -> smallest share of equal tokens in bf16: with random weights many bits are near 0
CASES = {"tiny_50hz": 0.85, "tiny_50hz_causal": 0.85}


def rounded(codec):
    return set_precision(copy.deepcopy(codec), "bf16")


def test_all_are_precisions():
    assert PRECISIONS == ("fp32", "bf16", "fp16")


@pytest.mark.parametrize("name", CASES)
def test_bf16_weights_and_usual_outputs(name):
    codec, sig = rounded(golden_codec(name)), golden_tensors(name)["sig"]
    assert codec.encoder.feature_proj.weight.dtype == torch.bfloat16
    assert codec.compressor.out_proj.weight.dtype == torch.bfloat16
    assert {p.dtype for p in codec.decoder.head.parameters()} == {torch.float32}
    toks, lengths = codec.encode(sig)
    rec_sig = codec.decode(toks, lengths, num_samples=sig.shape[1])
    assert (toks.dtype, rec_sig.dtype) == (torch.int64, torch.float32)
    assert torch.isfinite(rec_sig).all()


@pytest.mark.parametrize("name", CASES)
def test_most_tokens_stay(name):
    sig = golden_tensors(name)["sig"]
    exact, _ = golden_codec(name).encode(sig)
    toks, _ = rounded(golden_codec(name)).encode(sig)
    assert (toks == exact).float().mean() >= CASES[name]


def test_the_log_mel_spectrogram_is_exact():
    codec = logmel_codec()
    sig = torch.randn(1, 8000)
    assert torch.equal(rounded(codec).sig_to_feats(sig), codec.sig_to_feats(sig))


def test_the_waveform_stays_close():
    codec = logmel_codec()
    toks = torch.randint(8192, (1, 50), generator=torch.Generator().manual_seed(0))
    exact, other = codec.decode(toks), rounded(codec).decode(toks)
    assert (exact - other).norm() < 0.1 * exact.norm()
    assert not torch.equal(exact, other)


@pytest.mark.parametrize("name", CASES)
def test_padding_is_exact_in_bf16(name):
    codec = rounded(golden_codec(name))
    sig = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    toks, lengths = codec.encode(sig, lengths=torch.tensor([8000, 4500]))
    alone, _ = codec.encode(sig[1:, :4500])
    assert (toks[1, : lengths[1]] == alone[0]).float().mean() >= 0.9
    assert not toks[1, lengths[1] :].any()


def test_fp32_changes_nothing():
    codec = copy.deepcopy(logmel_codec())
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    assert set_precision(codec, "fp32") is codec
    assert all(torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())


@pytest.mark.parametrize(("precision", "name"), [("int8", "int8"), ("fp16", "CPU")])
def test_refused(precision, name):
    codec = copy.deepcopy(logmel_codec())
    with pytest.raises(UserError, match=name):
        set_precision(codec, precision)
    assert {p.dtype for p in codec.parameters()} == {torch.float32}
