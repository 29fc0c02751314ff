"""Packed weights: the same codec, in the layout and the number format of fast products."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.nn.packed import PACKED, PackedConv1d, PackedLinear
from focalcodec.precision import pack_weights, set_precision
from focalcodec.streaming import EncoderSession
from tests.unit.small_codecs import golden_codec
from tests.unit.streaming.small_streams import causal_codec, speech

BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
RUNS_HERE = [name for name in PACKED if BF16 or name != "bfloat16"]
LARGEST = {"float32": 1e-5, "bfloat16": 0.02, "int8": 0.03}  # relative to the output's deviation


@pytest.mark.parametrize("precision", RUNS_HERE)
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_map_is_the_map(precision, bias):
    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 70, bias=bias)
    packed = PackedLinear(linear.weight, linear.bias, precision)
    x = torch.randn(3, 5, 96)
    with torch.no_grad():
        expected, y = linear(x), packed(x)
        alone = packed(x[1:2])
    assert y.dtype == x.dtype and y.shape == expected.shape
    error = (y - expected).square().mean().sqrt() / expected.std()
    assert error < LARGEST[precision]
    if precision == "int8":
        assert error > 1e-4  # it is not float32
        assert torch.equal(alone, y[1:2])


def test_int8_sums_are_exact_on_every_processor():
    """All products are as large as can be: without VNNI they do not fit 16 bits."""
    packed = PackedLinear(torch.ones(8, 64), None, "int8")
    torch.testing.assert_close(packed(torch.ones(1, 2, 64)), torch.full((1, 2, 8), 64.0))


@pytest.mark.parametrize("precision", RUNS_HERE)
@pytest.mark.parametrize(("groups", "stride"), [(1, 2), (4, 1), (12, 1)])
def test_a_packed_convolution_is_the_convolution(precision, groups, stride):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(12, 12, 9, stride, groups=groups)
    packed = PackedConv1d(conv, precision)
    x = torch.randn(2, 90, 12)  # more frames than a block
    with torch.no_grad():
        expected, y = conv(x.transpose(1, 2)).transpose(1, 2), packed(x)
        alone = packed(x[1:, :12])
    assert y.shape == expected.shape
    error = (y - expected).square().mean().sqrt() / expected.std()
    assert error < (1e-5 if groups == 12 else LARGEST[precision])
    assert (alone - y[1:, : alone.shape[1]]).abs().max() < 10 * LARGEST[precision]


@pytest.mark.parametrize("name", ["causal", "tiny_50hz"])
@pytest.mark.parametrize(
    ("precision", "bits"), [("float32", 1.0), ("bfloat16", 0.97), ("int8", 0.93)]
)
def test_a_packed_codec_keeps_its_tokens(monkeypatch, name, precision, bits):
    if precision not in RUNS_HERE:
        with pytest.raises(UserError, match="bfloat16 needs AVX-512"):
            pack_weights(copy.deepcopy(causal_codec()), precision)
        return
    monkeypatch.setattr("focalcodec.precision._SMALLEST", 200)
    codec = causal_codec() if name == "causal" else golden_codec(name)
    packed = pack_weights(copy.deepcopy(codec), precision)
    sig = speech(2, 16000)
    expected, toks = codec.encode(sig, 16000)[0], packed.encode(sig, 16000)[0]
    same = (codec.toks_to_codes(expected) > 0) == (codec.toks_to_codes(toks) > 0)
    assert same.float().mean() >= bits
    rec_sig = packed.decode(expected)
    assert (rec_sig - codec.decode(expected)).abs().max() < 10 * LARGEST[precision]
    assert weights_sha256(packed) == weights_sha256(codec)
    before = sum(parameter.numel() for parameter in codec.parameters())
    assert sum(parameter.numel() for parameter in packed.parameters()) < 0.6 * before


def test_a_packed_codec_streams():
    codec, sig = causal_codec(), speech(1, 9000)
    session = EncoderSession(pack_weights(copy.deepcopy(codec)))
    assert torch.equal(
        torch.cat([session.push(sig), session.flush()], dim=1), codec.encode(sig, 16000)[0]
    )


def test_a_packed_codec_is_not_packed_again_cast_or_saved(tmp_path):
    codec = pack_weights(copy.deepcopy(causal_codec()))
    for call in [lambda: pack_weights(codec, "int8"), lambda: set_precision(codec, "fp32")]:
        with pytest.raises(UserError, match="packed already"):
            call()
    with pytest.raises(UserError, match="save_pretrained: the weights are packed"):
        codec.save_pretrained(tmp_path / "codec")
    assert not (tmp_path / "codec").exists()


@pytest.mark.parametrize("precision", RUNS_HERE)
def test_a_packed_codec_is_not_copied_or_pickled(precision):
    codec = pack_weights(copy.deepcopy(causal_codec()), precision)
    for call in (copy.deepcopy, pickle.dumps):
        with pytest.raises(UserError, match="packed weights can't be copied, pickled or sent"):
            call(codec)


def test_what_can_not_be_packed_is_refused():
    codec = copy.deepcopy(causal_codec())
    with pytest.raises(UserError, match="int4"):
        pack_weights(codec, "int4")
    with pytest.raises(UserError, match="float32 weights"):
        pack_weights(codec.to(torch.bfloat16))
