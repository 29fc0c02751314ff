"""Precision: which values are rounded, and how much the results may change."""

from __future__ import annotations

import argparse
import copy
import warnings

import pytest
import torch
from small_codecs import DATA, GOLDEN, golden_codec, golden_tensors, logmel_codec

from focalcodec import FocalCodec, precision
from focalcodec.choices import PRECISIONS, exact_precision
from focalcodec.cli import models
from focalcodec.errors import UserError
from focalcodec.precision import pick_device, set_precision, slow_precision

# codec -> smallest share of equal tokens in bf16: with random weights many bits are near 0
CASES = {"tiny_50hz": 0.85, "tiny_50hz_causal": 0.85}


CLIP = "corpus/LibriSpeech/test-real/92/1/92-1-0000.flac"


def rounded(codec):
    return set_precision(copy.deepcopy(codec), "bf16")


def test_all_are_precisions():
    assert PRECISIONS == ("auto", "fp32", "bf16", "fp16", "int8")
    assert [exact_precision(name) for name in PRECISIONS[:2]] == ["fp32", "fp32"]
    assert [exact_precision(name) for name in PRECISIONS[2:]] == [*PRECISIONS[2:]]


def test_auto_keeps_every_token():
    codec, sig = golden_codec("tiny_50hz"), golden_tensors("tiny_50hz")["sig"]
    toks, _ = codec.encode(sig, 16000)
    auto = set_precision(copy.deepcopy(codec), "auto")
    assert torch.equal(auto.encode(sig, 16000)[0], toks)
    assert {tensor.dtype for tensor in auto.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("ratio", "warned"), [(7.04, True), (1.3, True), (1.1, False), (0.3, False)]
)
def test_slow_bfloat16_is_named_with_its_ratio(ratio, warned, monkeypatch):
    seconds = {torch.float32: 0.01, torch.bfloat16: 0.01 * ratio}
    monkeypatch.setattr(precision, "_product_seconds", seconds.get)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        set_precision(copy.deepcopy(golden_codec("tiny_50hz")), "bf16")
    texts = [str(warning.message) for warning in raised]
    expected = f"precision: bf16 takes {ratio:.1f} times as long as fp32 on this processor"
    assert [text.startswith(expected) for text in texts] == [True] * warned
    for name in ("auto", "fp32", "fp16"):
        assert slow_precision(name, torch.device("cpu")) == ""
    assert slow_precision("bf16", torch.device("cuda")) == ""


def test_the_command_line_shows_the_ratio_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("focalcodec.precision.set_precision", warn)
    options = {"model": str(GOLDEN["tiny_50hz"]), "revision": None, "device": "cpu"}
    models.load_model(argparse.Namespace(**options, trust=[], precision="bf16"))
    assert capsys.readouterr().err == "focalcodec: warning: slow\n"


def test_int8_of_demo_changes_few_bits_and_not_its_name(tmp_path):
    """A file made in int8 is decoded in float32, as by another processor."""
    codec, clip = FocalCodec.from_pretrained("demo"), DATA.parents[1] / CLIP
    small = FocalCodec.from_pretrained("demo", dtype="int8")
    expected, tokens = codec.encode_file(clip), small.encode_file(clip)
    equal = codec.toks_to_codes(expected.toks[None]) == codec.toks_to_codes(tokens.toks[None])
    assert 0.98 < equal.float().mean() < 1.0
    assert tokens.header.weights_sha256 == expected.header.weights_sha256
    codec.decode_file(tokens, tmp_path / "a.wav")
    with pytest.raises(UserError, match="the weights are packed already"):
        set_precision(small, "int8")


def warn(codec, precision):
    warnings.warn("slow", stacklevel=1)


def test_the_ratio_is_measured():
    """Of one format with itself it is about one; no test of a time."""
    assert 0.0 < precision._product_seconds(torch.float32) < 10.0
    assert 0.0 < precision._product_seconds(torch.bfloat16) < 10.0


# -- as users cast any module ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny_50hz", "tiny_50hz_causal"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_cast_as_any_module(name, dtype):
    """`codec.to(dtype)` and `half()` give tokens, as `set_precision`."""
    codec, sig = copy.deepcopy(golden_codec(name)), golden_tensors(name)["sig"]
    exact, _ = codec.encode(sig, 16000)
    codec = codec.half() if dtype == torch.float16 else codec.to(dtype)
    for given in (sig, sig.double(), sig.to(dtype)):
        toks, lengths = codec.encode(given, 16000)
        assert (toks == exact).float().mean() > 0.8
        assert torch.equal(codec.sig_to_toks(given), toks)
    assert torch.isfinite(codec.decode(toks, lengths)).all()
    assert torch.isfinite(codec.toks_to_sig(toks)).all()
    reference = codec.sig_to_feats(sig)[0]
    assert torch.isfinite(codec.convert(sig, reference, 16000)).all()
    if dtype == torch.bfloat16:
        same = rounded(golden_codec(name))
        assert torch.equal(same.encode(sig, 16000)[0], codec.encode(sig, 16000)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_log_mel_encoder_is_exact_after_any_cast(dtype):
    codec = copy.deepcopy(logmel_codec())
    sig = torch.randn(1, 8000)
    feats = codec.sig_to_feats(sig)
    assert torch.equal(codec.to(dtype).sig_to_feats(sig), feats)
    assert torch.equal(codec.to("cpu").sig_to_feats(sig.double()), feats)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("source", [*CASES, "demo"])
def test_another_default_dtype(source, dtype):
    """Scientific scripts set float64, language models bfloat16; a loaded codec is the same."""
    folder = GOLDEN.get(source, source)
    sig = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)) / 9
    codec = FocalCodec.from_pretrained(folder)
    toks, _ = codec.encode(sig, 16000)
    rec_sig = codec.decode(toks)
    try:
        torch.set_default_dtype(dtype)
        other = FocalCodec.from_pretrained(folder)
        assert torch.equal(other.encode(sig.double(), 16000)[0], toks)
        assert torch.equal(other.sig_to_toks(sig), toks)
        assert torch.equal(other.decode(toks), rec_sig)
        assert torch.equal(codec.decode(codec.encode(sig, 16000)[0]), rec_sig)
    finally:
        torch.set_default_dtype(torch.float32)
    state = codec.state_dict()
    assert all(torch.equal(state[name], value) for name, value in other.state_dict().items())
    buffers = dict(codec.named_buffers())
    assert all(torch.equal(buffers[name], value) for name, value in other.named_buffers())


@pytest.mark.parametrize("name", CASES)
def test_bf16_weights_and_usual_outputs(name):
    codec, sig = rounded(golden_codec(name)), golden_tensors(name)["sig"]
    assert codec.encoder.feature_proj.weight.dtype == torch.bfloat16
    assert codec.compressor.out_proj.weight.dtype == torch.bfloat16
    assert {p.dtype for p in codec.decoder.head.parameters()} == {torch.float32}
    toks, lengths = codec.encode(sig, 16000)
    rec_sig = codec.decode(toks, lengths, num_samples=sig.shape[1])
    assert (toks.dtype, rec_sig.dtype) == (torch.int64, torch.float32)
    assert torch.isfinite(rec_sig).all()


@pytest.mark.parametrize("name", CASES)
def test_most_tokens_stay(name):
    sig = golden_tensors(name)["sig"]
    exact, _ = golden_codec(name).encode(sig, 16000)
    toks, _ = rounded(golden_codec(name)).encode(sig, 16000)
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
    toks, lengths = codec.encode(sig, 16000, lengths=torch.tensor([8000, 4500]))
    alone, _ = codec.encode(sig[1:, :4500], 16000)
    assert (toks[1, : lengths[1]] == alone[0]).float().mean() >= 0.9
    assert not toks[1, lengths[1] :].any()


def test_fp32_changes_nothing():
    codec = copy.deepcopy(logmel_codec())
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    assert set_precision(codec, "fp32") is codec
    assert all(torch.equal(tensor, before[name]) for name, tensor in codec.state_dict().items())


@pytest.mark.parametrize(("precision", "name"), [("int4", "int4"), ("fp16", "CPU")])
def test_refused(precision, name):
    codec = copy.deepcopy(logmel_codec())
    with pytest.raises(UserError, match=name):
        set_precision(codec, precision)
    assert {p.dtype for p in codec.parameters()} == {torch.float32}


# -- devices ---------------------------------------------------------------------------------------


def test_devices_of_every_machine():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", torch.accelerator.current_accelerator() or "cpu")


@pytest.mark.parametrize(
    "name",
    [
        "cuda:99",
        "cuda:",
        "cuda:-1",
        "xpu:99",
        "hpu",
        "privateuseone",
        "meta",
        "nonsense",
        "",
        "a\nb",
    ],
)
def test_devices_that_are_not_there(name):
    with pytest.raises(UserError, match="device .*: not available .*give cpu") as error:
        pick_device(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("problem", [AttributeError("_cuda_getDeviceCount"), AssertionError("no")])
def test_a_torch_without_cuda(problem, monkeypatch):
    """Old and new builds raise different errors."""

    def fail(*args, **kwargs):
        raise problem

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(UserError, match="device 'cuda': not available"):
        pick_device("cuda")
