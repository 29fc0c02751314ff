"""The whole codec: golden cases, composition, audio in and out, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec import FocalCodec, UserError
from focalcodec.encoders.logmel import LogMel
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.vocos import Vocos
from tests.unit.small_codecs import GOLDEN, golden_codec, golden_tensors, logmel_codec

RATES = [8000, 16000, 22050, 24000, 44100, 48000]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


# -- the released code's numbers ----------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_golden_steps(name):
    codec, expected = golden_codec(name), golden_tensors(name)
    close(codec.sig_to_feats(expected["sig"]), expected["feats"])
    close(codec.feats_to_lats(expected["feats"]), expected["lats"])
    close(codec.lats_to_codes(expected["lats"]), expected["codes"])
    assert torch.equal(codec.lats_to_toks(expected["lats"]), expected["toks"])
    assert torch.equal(codec.codes_to_toks(expected["codes"]), expected["toks"])
    close(codec.toks_to_codes(expected["toks"]), expected["codes"])
    close(codec.codes_to_qfeats(expected["codes"]), expected["qfeats"])
    close(codec.feats_to_sig(expected["qfeats"]), expected["rec_sig"])


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_golden_composed(name):
    codec, expected = golden_codec(name), golden_tensors(name)
    assert torch.equal(codec.sig_to_toks(expected["sig"]), expected["toks"])
    close(codec.sig_to_qfeats(expected["sig"]), expected["qfeats"])
    close(codec.toks_to_qfeats(expected["toks"]), expected["qfeats"])
    close(codec.toks_to_sig(expected["toks"]), expected["rec_sig"])
    toks, codes, rec_sig = codec(expected["sig"])
    assert torch.equal(toks, expected["toks"])
    close(codes, expected["codes"])
    samples = expected["sig"].shape[1] * codec.sample_rate_output // codec.sample_rate_input
    assert rec_sig.shape[1] == samples
    both = min(samples, expected["rec_sig"].shape[1])
    close(rec_sig[:, :both], expected["rec_sig"][:, :both])
    sig_lengths = torch.tensor([expected["sig"].shape[1]])
    rec_sig, lengths = codec(expected["sig"], lengths=sig_lengths)
    close(rec_sig, expected["rec_sig"])
    assert lengths.tolist() == [expected["rec_sig"].shape[1]]


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_golden_decode(name):
    codec, expected = golden_codec(name), golden_tensors(name)
    close(codec.decode(expected["toks"]), expected["rec_sig"])


@pytest.mark.parametrize("name", GOLDEN)
def test_encode_gives_the_published_tokens(name):
    expected = golden_tensors(name)
    toks, lengths = golden_codec(name).encode(expected["sig"], sample_rate=16000)
    assert torch.equal(toks, expected["toks"])
    assert lengths.tolist() == [toks.shape[1]]


# -- properties ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "token_rate", "bitrate", "bits"),
    [
        ("tiny_50hz", 50.0, 650.0, 13),
        ("tiny_50hz_v1", 50.0, 650.0, 13),
        ("tiny_12_5hz", 12.5, 162.5, 13),
        ("tiny_50hz_causal", 50.0, 600.0, 12),
    ],
)
def test_rates(name, token_rate, bitrate, bits):
    codec = golden_codec(name)
    assert (codec.token_rate, codec.bitrate) == (token_rate, bitrate)
    assert (codec.sample_rate_input, codec.sample_rate_output) == (16000, 16000)
    assert codec.codebook.shape == (2**bits, bits)
    assert torch.equal(codec.codes_to_toks(codec.codebook[None])[0], torch.arange(2**bits))


# -- the output is as long as the input ---------------------------------------------------------

CODECS = {
    "wavlm 50 Hz": lambda: golden_codec("tiny_50hz"),
    "wavlm 12.5 Hz": lambda: golden_codec("tiny_12_5hz"),
    "wavlm causal": lambda: golden_codec("tiny_50hz_causal"),
    "logmel 50 Hz": logmel_codec,
    "logmel 25 Hz": lambda: logmel_codec((2, 1, 1)),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("samples", [1, 100, 319, 320, 321, 399, 400, 401, 719, 720, 16000, 16001])
def test_same_number_of_samples(name, samples):
    codec = CODECS[name]()
    toks, lengths = codec.encode(torch.randn(1, samples) * 0.1, 16000)
    assert toks.dtype == torch.int64
    assert lengths.tolist() == [toks.shape[1]]
    rec_sig = codec.decode(toks, lengths, num_samples=samples)
    assert rec_sig.shape == (1, samples)
    assert torch.isfinite(rec_sig).all()
    assert codec.decode(toks).shape[1] == lengths.item() * 16000 / codec.token_rate


@pytest.mark.parametrize("rate", [*RATES, 11025, 96000, 192000])
def test_same_number_of_samples_at_any_rate(rate):
    codec = logmel_codec()

    @settings(max_examples=10, deadline=None)
    @given(st.lists(st.integers(1, rate // 10), min_size=1, max_size=3))
    def check(samples):
        counts = torch.tensor(samples)
        toks, lengths = codec.encode(torch.rand(len(samples), max(samples)), rate, counts)
        rec_sig = codec.decode(toks, lengths, num_samples=counts, sample_rate=rate)
        assert rec_sig.shape == (len(samples), max(samples))
        for row, count in zip(rec_sig, samples, strict=True):
            assert not row[count:].any()

    check()


@pytest.mark.parametrize(
    ("rate", "samples"), [(44100, 883), (48000, 961), (96000, 1922), (192000, 3845)]
)
def test_rounding_at_the_end_of_a_frame(rate, samples):
    """At 16 kHz these are 320 samples, and the frame's 320 are fewer samples at `rate`."""
    codec = logmel_codec()
    toks, _ = codec.encode(torch.rand(1, samples), rate)
    assert toks.shape == (1, 1)
    assert codec.decode(toks, num_samples=samples, sample_rate=rate).shape == (1, samples)


def test_silence_replaces_samples_that_no_frame_covers():
    codec = golden_codec("tiny_50hz")
    for samples in (16000, 16079, 16080, 16319):
        toks, lengths = codec.encode(torch.randn(1, samples) * 0.1, 16000)
        rec_sig = codec.decode(toks, lengths, num_samples=samples)
        covered = 320 * int(lengths)
        assert samples - covered < 400
        assert rec_sig[0, covered - 1] != 0
        assert not rec_sig[0, covered:].any()


def test_decode_at_another_rate():
    codec = golden_codec("tiny_50hz")
    toks = torch.arange(10)[None]
    assert codec.decode(toks, sample_rate=8000).shape == (1, 1600)
    assert codec.decode(toks, sample_rate=44100).shape == (1, 8820)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_inputs_of_any_float_type(dtype):
    codec = golden_codec("tiny_50hz")
    sig = (torch.randn(1, 3000) * 0.1).to(dtype)
    assert torch.equal(codec.encode(sig, 16000)[0], codec.encode(sig.float(), 16000)[0])


def test_codec_in_double_precision():
    codec = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"]).double()
    expected = golden_tensors("tiny_50hz")
    assert torch.equal(codec.sig_to_toks(expected["sig"].double()), expected["toks"])
    rec_sig = codec.decode(codec.encode(expected["sig"], 16000)[0])
    assert rec_sig.dtype == codec.codebook.dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_codec_on_a_gpu_with_inputs_on_the_cpu():
    codec = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"]).cuda()
    sig = golden_tensors("tiny_50hz")["sig"]
    toks, lengths = codec.encode(sig, 22050, torch.tensor([sig.shape[1]]))
    rec_sig = codec.decode(toks.cpu(), lengths.cpu(), torch.tensor([24000]), 22050)
    assert {x.device.type for x in (toks, lengths, rec_sig, codec.codebook)} == {"cuda"}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_tokens_of_any_integer_type(dtype):
    codec, toks = logmel_codec(), torch.tensor([[1, 2, 100]])
    assert torch.equal(codec.decode(toks.to(dtype)), codec.decode(toks))


def test_values_in_the_padding_of_tokens_are_ignored():
    codec = logmel_codec()
    toks, lengths = torch.tensor([[1, 2, 3], [4, -1, 9000]]), torch.tensor([3, 1])
    rec_sig = codec.decode(toks, lengths)
    torch.testing.assert_close(rec_sig[1, :320], codec.decode(toks[1:, :1])[0])
    assert not rec_sig[1, 320:].any()


# -- bad input ----------------------------------------------------------------------------------


def refused(match, function, *args, **kwargs):
    with pytest.raises(UserError, match=match) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sig", "match"),
    [
        (torch.zeros(1, 2, 100), r"sig: shape \(1, 2, 100\)"),
        (torch.tensor(0.0), r"sig: shape \(\)"),
        (torch.zeros(1, 100, dtype=torch.int16), "int16"),
        (torch.zeros(1, 0), "empty"),
        (torch.zeros(0, 100), "empty"),
        (torch.tensor([[0.0, math.nan]]), "NaN or infinite"),
        (torch.tensor([[0.0, 0.0], [0.0, math.inf]]), "clip 1"),
    ],
)
def test_bad_signal(sig, match):
    refused(match, logmel_codec().encode, sig, 16000)


@pytest.mark.parametrize(
    ("lengths", "match"),
    [
        (torch.tensor([0.5, 1.0]), "float32"),
        (torch.tensor([100, 100], dtype=torch.int32), "int32"),
        (torch.tensor([100]), r"\(1,\)"),
        (torch.tensor([[100], [100]]), r"\(2, 1\)"),
        (torch.tensor([100, 0]), r"\[100, 0\].*1\.\.100"),
        (torch.tensor([101, 100]), r"1\.\.100"),
    ],
)
def test_bad_lengths(lengths, match):
    codec = logmel_codec()
    refused(match, codec.encode, torch.zeros(2, 100), 16000, lengths)
    refused(match, codec.decode, torch.zeros(2, 100, dtype=torch.int64), lengths=lengths)


@pytest.mark.parametrize("rate", [0, -16000, 16000.0, "16000"])
def test_bad_rate(rate):
    codec = logmel_codec()
    refused("sample rate", codec.encode, torch.zeros(1, 100), sample_rate=rate)
    refused("sample rate", codec.decode, torch.zeros(1, 1, dtype=torch.int64), sample_rate=rate)


def test_values_in_the_padding_of_sig_are_ignored():
    codec, sig = logmel_codec(), torch.zeros(2, 1000)
    sig[1, 500:] = math.nan
    refused("clip 1", codec.encode, sig, 16000)
    toks, _ = codec.encode(sig, 16000, lengths=torch.tensor([1000, 500]))
    assert torch.equal(toks[1, :2], codec.encode(sig[1:, :500], 16000)[0][0])


@pytest.mark.parametrize(
    ("toks", "match"),
    [
        (torch.tensor([[8192]]), "8192"),
        (torch.tensor([[-1]]), "-1"),
        (torch.tensor([[1.0]]), "float32"),
        (torch.tensor([[True]]), "bool"),
        (torch.tensor(1), r"shape \(\)"),
        (torch.zeros(1, 1, 1, dtype=torch.int64), r"\(1, 1, 1\)"),
        (torch.zeros(1, 0, dtype=torch.int64), "empty"),
        (torch.zeros(0, 3, dtype=torch.int64), "empty"),
    ],
)
def test_bad_tokens(toks, match):
    refused(match, logmel_codec().decode, toks)


@pytest.mark.parametrize(
    ("num_samples", "match"),
    [
        (641, r"641.*\[3, 3\] tokens.*\[2, 2\]"),
        (0, "0"),
        (-5, "-5"),
        (100.0, "float64"),
        (torch.tensor([100, 641]), "641"),
        (torch.tensor([100, 100, 100]), r"\(3,\)"),
        (torch.tensor([100.0, 100.0]), "float32"),
    ],
)
def test_bad_num_samples(num_samples, match):
    toks = torch.tensor([[1, 2], [3, 4]])
    refused(f"num_samples: .*{match}", logmel_codec().decode, toks, num_samples=num_samples)


def test_more_num_samples_than_rounding_can_explain():
    toks = torch.tensor([[1, 2]])
    refused("num_samples", logmel_codec().decode, toks, num_samples=1925, sample_rate=48000)


# -- parts that do not fit ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "other", "match"),
    [
        ("encoder", LogMel(n_mels=40), "encoder gives width 40, compressor takes 80"),
        ("compressor", FocalEncoder(80, 12, [4], [1]), "compressor gives width 12, quantizer"),
        ("decompressor", FocalDecoder(12, 80, [4], [1]), "quantizer gives width 13, decomp"),
        ("decompressor", FocalDecoder(13, 40, [4], [1]), "decompressor gives width 40, decoder"),
        ("decoder", Vocos(64, 1, 4, 4), "decompressor gives width 80, decoder takes 64"),
        ("compressor", FocalEncoder(80, 13, [4], [2]), "by 2, decompressor.* by 1"),
    ],
)
def test_parts_that_do_not_fit(part, other, match):
    names = ("encoder", "compressor", "quantizer", "decompressor", "decoder")
    parts = {name: getattr(logmel_codec(), name) for name in names}
    refused(match, FocalCodec, **parts | {part: other})
