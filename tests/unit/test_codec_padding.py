"""A clip gives the same values alone and in any padded batch, whatever its padding holds."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.nn.layers import project_to_sphere
from tests.unit.small_codecs import OFFLINE, golden_codec, logmel_codec

CODECS = {name: (lambda name=name: golden_codec(name)) for name in [*OFFLINE, "tiny_50hz_causal"]}
CODECS["logmel"] = logmel_codec
CODECS["logmel 25 Hz"] = lambda: logmel_codec((2, 1, 1))


def steps(codec, sig, lengths):
    """The output of each step and its valid frames; `lengths` is None for a clip alone."""
    feats = codec.sig_to_feats(sig, lengths=lengths)
    samples = torch.tensor([sig.shape[1]]) if lengths is None else lengths
    feat_lengths = codec.encoder.output_lengths(samples)
    frames = codec.compressor.output_lengths(feat_lengths)
    given = (lambda x: None) if lengths is None else (lambda x: x)
    lats = codec.feats_to_lats(feats, lengths=given(feat_lengths))
    codes = codec.lats_to_codes(lats, lengths=given(frames))
    toks = codec.lats_to_toks(lats, lengths=given(frames))
    assert torch.equal(toks, codec.codes_to_toks(codes, lengths=given(frames)))
    assert torch.equal(codes, codec.toks_to_codes(toks, lengths=given(frames)))
    assert torch.equal(toks, codec.sig_to_toks(sig, lengths=lengths))
    qfeat_lengths = codec.decompressor.output_lengths(frames)
    qfeats = codec.codes_to_qfeats(codes, lengths=given(frames))
    rec_sig = codec.feats_to_sig(qfeats, lengths=given(qfeat_lengths))
    torch.testing.assert_close(rec_sig, codec.toks_to_sig(toks, lengths=given(frames)))
    return {
        "feats": (feats, feat_lengths),
        "lats": (lats, frames),
        "toks": (toks, frames),
        "qfeats": (qfeats, qfeat_lengths),
        "rec_sig": (rec_sig, codec.decoder.output_lengths(qfeat_lengths)),
    }


def unsure(lats):
    """Whether a lat is so close to zero that rounding may choose its sign."""
    return bool((lats.abs() < 1e-5).any())


def batches(longest):
    return st.tuples(
        st.lists(st.integers(1, longest), min_size=1, max_size=4),
        st.integers(0, 1500),
        st.sampled_from([math.nan, math.inf, 1e4]),
        st.integers(0, 2**31),
    )


def make_batch(case):
    """Clips, and a batch of them with garbage in its padding."""
    samples, extra, garbage, seed = case
    generator = torch.Generator().manual_seed(seed)
    clips = [torch.randn(1, n, generator=generator) * 0.1 for n in samples]
    batch = torch.full((len(clips), max(samples) + extra), garbage)
    for row, clip in zip(batch, clips, strict=True):
        row[: clip.shape[1]] = clip[0]
    return clips, batch, torch.tensor(samples)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", CODECS)
def test_every_step(name, train):
    codec = copy.deepcopy(CODECS[name]()).train(train)

    @settings(max_examples=12, deadline=None)
    @given(batches(6000))
    @torch.no_grad()
    def check(case):
        clips, batch, lengths = make_batch(case)
        together = steps(codec, batch, lengths)
        for index, clip in enumerate(clips):
            alone = steps(codec, clip, None)
            for key in ("feats", "lats") if unsure(alone["lats"][0]) else alone:
                (batched, ends), (single, end) = together[key], alone[key]
                assert ends[index] == end == single.shape[1], key
                valid = batched[index, : single.shape[1]]
                if key == "toks":
                    assert torch.equal(valid, single[0])
                else:
                    torch.testing.assert_close(valid, single[0], atol=1e-4, rtol=1e-4, msg=key)
                assert not batched[index, single.shape[1] :].any(), key

    check()


@pytest.mark.parametrize("rate", [16000, 22050])
@pytest.mark.parametrize("name", CODECS)
def test_encode_and_decode(name, rate):
    codec, lats = copy.deepcopy(CODECS[name]()), []
    project = codec.compressor.out_proj
    project.register_forward_hook(lambda module, args, output: lats.append(output))

    @settings(max_examples=8, deadline=None)
    @given(batches(6000))
    def check(case):
        clips, batch, samples = make_batch(case)
        toks, lengths = codec.encode(batch, rate, samples)
        rec_sig = codec.decode(toks, lengths, samples, rate)
        assert toks.shape[1] == lengths.max()
        for row, length, rec, clip in zip(toks, lengths, rec_sig, clips, strict=True):
            alone, _ = codec.encode(clip, rate)
            assert alone.shape[1] == length
            assert not row[length:].any()
            if unsure(project_to_sphere(lats[-1])):
                continue
            assert torch.equal(row[:length], alone[0])
            single = codec.decode(alone, None, clip.shape[1], rate)[0]
            torch.testing.assert_close(rec[: len(single)], single, atol=1e-4, rtol=1e-4)
            assert not rec[len(single) :].any()

    check()
