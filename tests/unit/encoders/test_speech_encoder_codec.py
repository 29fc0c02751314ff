"""Encoders of `transformers` as a codec's: folders, formats, mixes, long recordings."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.coders.focal import FocalCoder, VocoderCoder
from focalcodec.encoders.speech_encoder import LayerMix, SpeechEncoder
from focalcodec.encoders.wavlm_convert import wavlm_from_transformers
from focalcodec.errors import UserError
from focalcodec.long_audio import part_context
from focalcodec.long_audio.coding import encode_blocks, feats_blocks
from focalcodec.precision import set_precision
from focalcodec.tokenize.parts import FocalTokenizer
from tests.unit.small_encoders import CASES, codec_of, model_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Models as `transformers` saves them."""
    found = {}
    for case in CASES:
        found[case] = tmp_path_factory.mktemp("-".join(case))
        model_of(*case).save_pretrained(found[case])
    return found


@pytest.fixture(scope="module")
def sig() -> Tensor:
    return 0.1 * torch.randn(3, 9000, generator=torch.Generator().manual_seed(1))


# -- formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_in_a_codec_folder(case, folders, sig, tmp_path) -> None:
    encoder = SpeechEncoder.from_pretrained(folders[case], [1, 2], components=8)
    encoder.fit_mix(iter(sig))
    codec = codec_of(encoder)
    codec.save_pretrained(tmp_path)
    again = FocalCodec.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["encoder_name"] == "SpeechEncoder"
    assert config["encoder_config"] == json.loads(json.dumps(encoder.config))
    assert torch.equal(again.sig_to_feats(sig), codec.sig_to_feats(sig))
    assert torch.equal(again.encode(sig, 16000)[0], codec.encode(sig, 16000)[0])


@pytest.mark.parametrize("case", [("wavlm", "large"), ("whisper", "")], ids="-".join)
def test_copies_and_pickles(case, folders, sig) -> None:
    encoder = SpeechEncoder.from_pretrained(folders[case], [1, 2], components=8)
    encoder.fit_mix(iter(sig))
    expected, _ = encoder.run(sig)
    others = [copy.deepcopy(encoder)]
    if case[0] == "whisper":  # torch pickles no weight norm
        others.append(pickle.loads(pickle.dumps(encoder)))
    for other in others:
        assert torch.equal(other(sig)[0], expected)
        for parameter in other.parameters():
            parameter.data.zero_()
        assert not torch.equal(other(sig)[0], expected)
        assert torch.equal(encoder.run(sig)[0], expected), "nothing is shared"
    doubled, _ = copy.deepcopy(encoder).double().run(sig.double())
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled.float(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_half_precision(case, folders, sig) -> None:
    encoder = SpeechEncoder.from_pretrained(folders[case], [1, 2], components=2)
    encoder.fit_mix(iter(sig))
    codec = codec_of(encoder)
    exact = codec.sig_to_feats(sig)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = codec.sig_to_feats(sig)
        assert codec.encode(sig, 16000)[0].dtype == torch.int64
    rounded = set_precision(copy.deepcopy(codec), "bf16")
    assert rounded.encoder.mix.mean.dtype == torch.float32
    feats = rounded.sig_to_feats(sig)
    assert feats.dtype == torch.bfloat16
    for other in (mixed, feats):
        # a bug gives other feats; the size of rounding errors of random weights does not matter
        near = torch.cosine_similarity(other.float().flatten(), exact.flatten(), dim=0)
        assert near > 0.8
    toks, lengths = rounded.encode(sig, 16000)
    assert torch.isfinite(rounded.decode(toks, lengths)).all()


def test_a_model_saved_in_half_precision_is_float32(sig, tmp_path) -> None:
    for case in (("hubert", "large"), ("whisper", "")):
        model_of(*case).half().save_pretrained(tmp_path)
        encoder = SpeechEncoder.from_pretrained(tmp_path, 1)
        assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
        json.dumps(encoder.config)
        feats, _ = encoder.run(sig.half())
        assert feats.dtype == torch.float32


@pytest.mark.parametrize("case", [("wavlm", "base"), ("whisper", "")], ids="-".join)
def test_compiled(case, folders, sig) -> None:
    """The graph breaks at the hooks and the spectrogram; the numbers stay."""
    encoder = SpeechEncoder.from_pretrained(folders[case], 2)
    compiled = torch.compile(encoder, backend="eager")
    torch.testing.assert_close(compiled(sig)[0], encoder.run(sig)[0], atol=1e-5, rtol=0)


# -- mixes of layers -------------------------------------------------------------------------------


def test_one_layer_in_a_list_is_a_mix_and_a_number_is_none(folders, sig) -> None:
    plain = SpeechEncoder.from_pretrained(folders["whisper", ""], 2)
    with pytest.raises(UserError, match="layer=2: one layer is not mixed; give several"):
        plain.fit_mix([sig[0]])
    listed = SpeechEncoder.from_pretrained(folders["whisper", ""], [2])
    assert listed.dim == 16 and torch.equal(listed.run(sig)[0], plain(sig)[0]), "not fitted yet"
    listed.fit_mix([*sig, sig[0, :200]])
    feats, _ = listed.run(sig)
    assert feats.square().mean() == pytest.approx(1, abs=0.1)


def test_order_of_layers(folders, sig) -> None:
    encoder = SpeechEncoder.from_pretrained(folders["hubert", "base"], [3, 1])
    one, three = (SpeechEncoder.from_pretrained(folders["hubert", "base"], n) for n in (1, 3))
    assert encoder.mix is not None
    encoder.mix.mean[0] = 1.0
    expected = (three(sig)[0] - 1 + one(sig)[0]) / 2
    torch.testing.assert_close(encoder.run(sig)[0], expected, atol=1e-5, rtol=1e-5)


def test_mix_is_the_principal_components_of_the_standardised_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(500, 2, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    frames = frames * torch.tensor([1.0, 100.0])[:, None] + 7
    mix = LayerMix(num_layers=2, dim=6, components=3)
    mix.fit(frames.split(100))
    feats = mix([frames[None, :, 0], frames[None, :, 1]])[0]
    mean = ((frames - frames.mean(0)) / frames.std(0)).mean(dim=1)
    values, vectors = torch.linalg.eigh(torch.cov(mean.T))
    expected = mean @ vectors.flip(1)[:, :3]
    expected = expected / expected.square().mean().sqrt()
    torch.testing.assert_close(feats.abs(), expected.abs(), atol=1e-3, rtol=1e-3)
    assert feats.square().mean() == pytest.approx(1, abs=1e-3)
    kept = feats.var(dim=0)
    torch.testing.assert_close(kept / kept[0], values.flip(0)[:3] / values[-1], atol=1e-3, rtol=0)


def test_errors_of_the_mix() -> None:
    with pytest.raises(UserError, match="components=7: give 1 to 6"):
        LayerMix(1, 6, 7)
    for frames in (torch.ones(9, 1, 2), torch.full((9, 1, 2), torch.nan)):
        with pytest.raises(UserError, match="9 frames: a channel of a layer is constant"):
            LayerMix(1, 2, 2).fit([frames])


# -- long recordings -------------------------------------------------------------------------------


def test_long_recordings_for_whisper_in_windows(folders) -> None:
    encoder = SpeechEncoder.from_pretrained(folders["whisper", ""], 1)
    codec = codec_of(encoder)
    assert encoder.max_seconds == 30.0
    sig = 0.1 * torch.randn(40 * 16000 + 123, generator=torch.Generator().manual_seed(1))
    with pytest.raises(UserError, match=r"clip of 40\.0 s: Whisper takes 30 s at most; encode it"):
        codec.encode(sig[None], 16000)
    toks = torch.cat([*encode_blocks(codec, sig.split(50000), 16000)])
    assert len(toks) == int(encoder.output_lengths(torch.tensor(len(sig))))
    feats = torch.cat([*feats_blocks(codec, [sig], 16000)])
    context = part_context(encoder)
    first, _ = encoder.run(sig[None, :480000])
    kept = 1500 - context.right
    assert torch.equal(feats[:kept], first[0, :kept])
    short = sig[: 30 * 16000]
    (whole,) = encode_blocks(codec, [short], 16000)
    assert torch.equal(whole, codec.encode(short[None], 16000)[0][0])


def test_long_clips_in_batches_of_an_evaluation_or_a_corpus(folders, tmp_path) -> None:
    codec = codec_of(SpeechEncoder.from_pretrained(folders["whisper", ""], 1))
    codec.save_pretrained(tmp_path)
    lengths = torch.tensor([35 * 16000, 16000])
    sig = 0.1 * torch.randn(2, 35 * 16000, generator=torch.Generator().manual_seed(1))
    clips = [clip[:n] for clip, n in zip(sig, lengths, strict=True)]
    expected = [torch.cat([*encode_blocks(codec, [clip], 16000)]) for clip in clips]
    place = (str(tmp_path), None, torch.device("cpu"), 120.0)
    coder = FocalCoder(*place)
    sent = coder.encode(sig, lengths)
    for toks in (sent.toks, FocalTokenizer(codec).encode(clips)):
        assert toks is not None
        assert all(torch.equal(a, b) for a, b in zip(toks, expected, strict=True))
    assert coder.decode(sent).shape == (2, 35 * 16000)
    vocoder = VocoderCoder(*place)
    assert vocoder.decode(vocoder.encode(sig, lengths)).shape == (2, 35 * 16000)


def test_context_of_waveform_models(folders) -> None:
    for kind, reach in (("wavlm", 800), ("hubert", 800), ("wav2vec2", 800)):
        encoder = SpeechEncoder.from_pretrained(folders[kind, "large"], 1)
        context = part_context(encoder)
        assert (context.left, context.right, context.align) == (8 + reach, 8 + reach, 1)
        assert encoder.max_seconds is None
    ours = part_context(wavlm_from_transformers(folders["wavlm", "large"], layer=1))
    theirs = part_context(SpeechEncoder.from_pretrained(folders["wavlm", "large"], 1))
    assert ours == theirs
