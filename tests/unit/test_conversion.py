"""Voice conversion: frames of the reference in the source's order, exact in lengths and batches."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from focalcodec import UserError
from focalcodec.audio import resampled_length
from focalcodec.conversion import ReferenceSet, convert_toks
from focalcodec.knn import convert_feats
from focalcodec.long_audio.coding import encode_blocks
from focalcodec.precision import set_precision
from tests.unit.small_codecs import golden_codec, logmel_codec

CODECS = ["logmel", "logmel_12_5hz", "tiny_50hz", "tiny_12_5hz", "tiny_50hz_causal"]


def codec_of(name):
    if name == "logmel":
        return logmel_codec()
    return logmel_codec((2, 2, 1)) if name == "logmel_12_5hz" else golden_codec(name)


def tones(samples, seed=0):
    """A signal that changes every few hundred ms: harmonics and noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / 16000
    pitch = 100 + 150 * torch.rand(samples // 4000 + 1, generator=generator)
    phase = torch.cumsum(pitch.repeat_interleave(4000)[:samples] / 16000, 0)
    sig = sum(torch.sin(2 * torch.pi * n * phase) / n for n in range(1, 8))
    noise = torch.randn(samples, generator=generator)
    return 0.1 * sig * (1 + torch.sin(6 * time)) + 0.02 * noise


def reference_for(codec, seed=10, **options):
    sigs = [tones(32000, seed), tones(17001, seed + 1)]
    return ReferenceSet.from_sigs(codec, sigs, 16000, **options)


# -- frames -------------------------------------------------------------------------------------


def test_the_nearest_frame_of_a_reference_frame_is_itself():
    feats = reference_for(logmel_codec()).feats
    converted = convert_feats(feats[None], None, feats, k=1)
    assert torch.equal(converted[0], feats)


def test_the_mean_is_of_frames_that_are_not_normalised():
    """Neighbours are found by direction; the mean keeps their norms."""
    references = torch.tensor([[4.0, 0.0], [2.0, 0.2], [0.0, 1.0], [-8.0, 0.0]])
    converted = convert_feats(torch.tensor([[[1.0, 0.01]]]), None, references, k=2)
    torch.testing.assert_close(converted, torch.tensor([[[3.0, 0.1]]]))


@pytest.mark.parametrize("k", [1, 4, 9])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_frames_equal_the_definition(k, dtype):
    codec = logmel_codec()
    reference = reference_for(codec, dtype=dtype)
    qfeats = torch.randn(2, 30, 80)
    lengths = torch.tensor([30, 11])
    converted = convert_feats(qfeats, lengths, reference, k)
    feats = reference.feats.double()
    nearest = (F.normalize(qfeats.double(), dim=2) @ F.normalize(feats).T).topk(k).indices
    for clip, end in enumerate(lengths.tolist()):
        expected = feats[nearest[clip, :end]].mean(dim=1).float()
        torch.testing.assert_close(converted[clip, :end], expected, atol=1e-5, rtol=1e-5)
        assert converted[clip, end:].abs().sum() == 0


@pytest.mark.parametrize("name", CODECS)
@torch.no_grad()
def test_converted_frames_are_near_the_reference(name):
    codec = codec_of(name)
    reference = reference_for(codec)
    qfeats = codec.sig_to_qfeats(tones(24000)[None])
    converted = convert_feats(qfeats, None, reference)[0]

    def distance(frames):
        return torch.cdist(F.normalize(frames), F.normalize(reference.feats)).amin(dim=1).mean()

    assert distance(converted) < 0.5 * distance(qfeats[0])


def test_values_in_the_padding_are_ignored():
    reference = torch.randn(50, 8)
    qfeats = torch.randn(2, 6, 8)
    lengths = torch.tensor([6, 2])
    expected = convert_feats(qfeats, lengths, reference)
    qfeats[1, 2:] = torch.nan
    assert torch.equal(convert_feats(qfeats, lengths, reference), expected)


def test_faiss_finds_nearly_the_same():
    pytest.importorskip("faiss")
    codec = logmel_codec()
    reference = ReferenceSet.from_sigs(codec, [tones(160_000, seed) for seed in range(3)], 16000)
    qfeats = codec.sig_to_feats(tones(32000, 20)[None])
    exact = convert_feats(qfeats, None, reference)
    found = convert_feats(qfeats, None, reference, search="faiss")
    assert (found - exact).norm() < 0.1 * exact.norm()
    reference.build_index(num_lists=30, num_probes=1)
    assert not torch.equal(convert_feats(qfeats, None, reference, search="faiss"), exact)


# -- recordings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_lengths_are_exact(name, rate):
    codec = codec_of(name)
    reference = reference_for(codec)
    for samples in (rate // 40, 4001, 12345):
        sig = tones(samples)[None]
        rec_sig = codec.convert(sig, reference, sample_rate=rate)
        expected = resampled_length(samples, rate, codec.sample_rate_output)
        assert rec_sig.shape == (1, expected)
        rec_sig = codec.convert(sig, reference, rate, sample_rate_output=rate)
        assert rec_sig.shape == (1, samples)
        assert torch.isfinite(rec_sig).all()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("rate", [16000, 24000])
def test_a_clip_is_the_same_alone_and_in_a_batch(name, rate):
    codec = codec_of(name)
    reference = reference_for(codec)
    lengths = torch.tensor([20001, 7000, 12800])
    batch = torch.full((3, 24000), 9.0)
    for clip, end in enumerate(lengths.tolist()):
        batch[clip, :end] = tones(end, clip)
    together = codec.convert(batch, reference, sample_rate=rate, lengths=lengths)
    assert together.shape[1] == resampled_length(20001, rate, codec.sample_rate_output)
    for clip, end in enumerate(lengths.tolist()):
        alone = codec.convert(batch[clip : clip + 1, :end], reference, sample_rate=rate)[0]
        torch.testing.assert_close(together[clip, : len(alone)], alone, atol=1e-5, rtol=0)
        assert together[clip, len(alone) :].abs().sum() == 0


def test_conversion_decodes_converted_frames():
    """The same as its steps one by one."""
    codec, sig = logmel_codec(), tones(16000)[None]
    reference = reference_for(codec)
    with torch.no_grad():
        feats = convert_feats(codec.sig_to_qfeats(sig), None, reference.feats, k=3)
        expected = codec.feats_to_sig(feats)[:, :16000]
    torch.testing.assert_close(
        codec.convert(sig, reference, 16000, k=3), expected, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        codec.convert(sig, reference.feats, 16000, k=3), expected, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("name", ["logmel", "tiny_50hz"])
def test_the_output_depends_on_the_reference(name):
    codec, sig = codec_of(name), tones(16000)[None]
    one = codec.convert(sig, reference_for(codec, 10), 16000)
    other = codec.convert(sig, reference_for(codec, 50), 16000)
    assert (one - other).norm() > 0.01 * one.norm()
    assert torch.equal(one, codec.convert(sig, reference_for(codec, 10), 16000))


@pytest.mark.parametrize("name", ["logmel", "tiny_50hz"])
def test_low_precision_and_full_precision_share_sets(name):
    codec, sig = codec_of(name), tones(16000)[None]
    low = set_precision(copy.deepcopy(codec), "bf16")
    reference, low_reference = reference_for(codec), reference_for(low)
    error = (low_reference.feats - reference.feats).norm() / reference.feats.norm()
    assert error < 0.05
    for one, made in ((low, reference), (codec, low_reference), (low, low_reference)):
        rec_sig = one.convert(sig, made, 16000)
        assert rec_sig.shape == (1, 16000) and torch.isfinite(rec_sig).all()


# -- blocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logmel", "logmel_12_5hz"])
@pytest.mark.parametrize("samples", [200, 16000, 40007])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_toks_that_fit_a_window_are_converted_as_a_whole(name, samples, rate):
    codec = codec_of(name)
    reference, sig = reference_for(codec), tones(samples)
    wanted = resampled_length(samples, 16000, rate)
    blocks = convert_toks(codec, codec.encode(sig[None], 16000)[0][0], reference, wanted, rate)
    expected = codec.convert(sig[None], reference, 16000, sample_rate_output=rate)[0]
    torch.testing.assert_close(torch.cat([*blocks]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", [16000, 24000])
def test_windows_do_not_change_the_length(rate):
    codec = logmel_codec()
    toks = torch.cat([*encode_blocks(codec, [tones(100_001)], 16000, window_seconds=2.0)])
    wanted = resampled_length(100_001, 16000, rate)
    blocks = convert_toks(codec, toks, reference_for(codec), wanted, rate, window_seconds=2.0)
    lengths = [len(block) for block in blocks]
    assert sum(lengths) == wanted
    assert max(lengths) <= 2 * rate


# -- bad input ----------------------------------------------------------------------------------


def test_bad_input():
    codec = logmel_codec()
    reference, sig = reference_for(codec), tones(16000)[None]
    for bad, message in (
        (sig[None, None], "shape"),
        (sig[:, :0], "empty"),
        (sig * torch.nan, "NaN"),
        ((sig * 1000).short(), "int16"),
    ):
        with pytest.raises(UserError, match=message):
            codec.convert(bad, reference, 16000)
    with pytest.raises(UserError, match="k=0"):
        codec.convert(sig, reference, 16000, k=0)
    with pytest.raises(UserError, match="k=4.*3 frames"):
        codec.convert(sig, reference.feats[:3], 16000)
    with pytest.raises(UserError, match="NaN"):
        codec.convert(sig, reference.feats * torch.nan, 16000)
    with pytest.raises(UserError, match="12 values, expected 80"):
        codec.convert(sig, torch.randn(9, 12), 16000)
    with pytest.raises(UserError, match="search='best'"):
        codec.convert(sig, reference, 16000, search="best")
    with pytest.raises(UserError, match="qfeats: 12 values"):
        convert_feats(torch.randn(1, 5, 12), None, reference)
    with pytest.raises(UserError, match="qfeats: NaN"):
        convert_feats(torch.full((1, 5, 80), torch.nan), None, reference)
    with pytest.raises(UserError, match="toks"):
        next(convert_toks(codec, torch.randn(5), reference, 100))


def test_another_encoder_is_refused_before_the_work():
    reference = reference_for(golden_codec("tiny_50hz"))
    with pytest.raises(UserError, match="reference"):
        codec_of("logmel").convert(tones(16000)[None], reference, 16000)
    with pytest.raises(UserError, match="reference"):
        next(convert_toks(codec_of("logmel"), torch.tensor([1]), reference, 1))
