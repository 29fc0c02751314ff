"""Encoders of `transformers`: equal to transformers, alone and in any batch; errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.encoders.wavlm_convert import wavlm_from_transformers
from focalcodec.errors import UserError
from tests.unit.closeness import assert_close_to_scale
from tests.unit.small_encoders import CASES, SMALL, STRUCTURES, WAVEFORM, model_of, transformers


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


# -- the same numbers as transformers --------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("case", WAVEFORM, ids="-".join)
def test_every_layer_equals_transformers(case, folders, sig) -> None:
    model, taken = model_of(*case), []
    # the last hidden state has the closing norm of large models in some versions: ask the layer
    model.encoder.layers[2].register_forward_hook(
        lambda _, __, output: taken.append(output if isinstance(output, Tensor) else output[0])
    )
    states = [*model(sig, output_hidden_states=True).hidden_states[:3], *taken]
    for layer in range(4):
        encoder = SpeechEncoder.from_pretrained(folders[case], layer)
        feats, lengths = encoder.run(sig)
        assert lengths.tolist() == [feats.shape[1]] * 3 and encoder.dim == feats.shape[2]
        assert torch.equal(feats, states[layer])
        assert len(encoder.model.encoder.layers) == max(1, layer), "no more than is needed"


@torch.no_grad()
def test_whisper_on_thirty_seconds_equals_transformers(folders) -> None:
    model = model_of("whisper")
    sig = 0.1 * torch.randn(1, 480000, generator=torch.Generator().manual_seed(1))
    extract = transformers().WhisperFeatureExtractor()
    mel = extract(sig[0].numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    whole = model.encoder(mel, output_hidden_states=True)
    for layer in (1, 2, 3):
        feats, lengths = SpeechEncoder.from_pretrained(folders["whisper", ""], layer).run(sig)
        assert lengths.tolist() == [1500]
        if layer < 3:
            assert torch.equal(feats, whole.hidden_states[layer])
    first, _ = SpeechEncoder.from_pretrained(folders["whisper", ""], 0).run(sig)
    before = whole.hidden_states[0] - model.encoder.embed_positions.weight
    torch.testing.assert_close(first, before, atol=1e-5, rtol=0)  # without positions
    # its last hidden state has the closing norm, ours never
    assert not torch.allclose(feats, whole.last_hidden_state, atol=0.1)
    assert torch.equal(model.encoder.layer_norm(feats), whole.last_hidden_state)


@torch.no_grad()
def test_whisper_gets_the_clip_without_padding(folders, sig) -> None:
    """Positions from 0 and attention to the clip only; padded, it would attend to the silence."""
    model, encoder = model_of("whisper"), SpeechEncoder.from_pretrained(folders["whisper", ""], 1)
    extract = transformers().WhisperFeatureExtractor()
    padded = extract(sig[0].numpy(), sampling_rate=16000, return_tensors="pt")["input_features"]
    feats, _ = encoder.run(sig[:1])
    beside = model.encoder(padded, output_hidden_states=True).hidden_states[1]
    assert feats.shape[1] == 28 < beside.shape[1] == 1500
    assert (feats - beside[:, :28]).abs().max() > 1e-3
    # the same layers, run by hand on the spectra of the clip
    alone = padded[:, :, :56]
    x = nn.functional.gelu(model.encoder.conv2(nn.functional.gelu(model.encoder.conv1(alone)))).mT
    x = model.encoder.layers[0](x + model.encoder.embed_positions.weight[:28], None)
    expected = x if isinstance(x, Tensor) else x[0]
    # the last spectrum of a padded clip includes silence
    torch.testing.assert_close(feats[:, :20], expected[:, :20], atol=0.05, rtol=0.05)


def test_wavlm_equals_our_own(folders, sig) -> None:
    lengths = torch.tensor([9000, 5000, 400])
    for norm in STRUCTURES:
        ours = wavlm_from_transformers(folders["wavlm", norm], layer=2)
        theirs = SpeechEncoder.from_pretrained(folders["wavlm", norm], 2)
        assert (ours.sample_rate, ours.hop, ours.dim) == (16000, 320, 16)
        assert (theirs.sample_rate, theirs.hop, theirs.dim) == (16000, 320, 16)
        expected, frames = ours.run(sig, lengths)
        feats, theirs_frames = theirs.run(sig, lengths)
        assert torch.equal(frames, theirs_frames)
        torch.testing.assert_close(feats, expected, atol=1e-4, rtol=0)


def test_normalize_follows_the_preprocessor(folders, sig, tmp_path) -> None:
    folder = folders["wav2vec2", "base"]
    for norm in (True, False):
        model_of("wav2vec2", "base").save_pretrained(tmp_path)
        extractor = transformers().Wav2Vec2FeatureExtractor(do_normalize=norm)
        extractor.save_pretrained(tmp_path)
        encoder = SpeechEncoder.from_pretrained(tmp_path, 2)
        assert encoder.normalize is norm
        inputs = extractor(sig[0].numpy(), sampling_rate=16000, return_tensors="pt")
        expected, _ = SpeechEncoder.from_pretrained(folder, 2).run(inputs["input_values"])
        torch.testing.assert_close(encoder.run(sig[:1])[0], expected, atol=1e-4, rtol=0)
        quiet, _ = encoder.run(0.1 * sig[:1])
        assert torch.allclose(quiet, encoder.run(sig[:1])[0], atol=1e-3) is norm


# -- lengths and padding ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_clip_is_the_same_alone_and_in_a_batch(case, folders, sig) -> None:
    encoder = SpeechEncoder.from_pretrained(folders[case], [1, 3], components=4)
    encoder.fit_mix(iter(sig))
    # Some channels of these random models hardly change: divided by a deviation of 2e-5, their
    # rounding would be all that is left of them. Trained models have no such channels.
    encoder.mix.scale.clamp_(min=0.1)
    lengths = torch.tensor([9000, 5123, 250])
    padded = torch.where(torch.arange(9000) < lengths[:, None], sig, torch.nan)
    feats, frames = encoder(padded, lengths=lengths)
    assert frames.dtype == torch.int64 and feats.shape == (3, int(frames[0]), 4)
    for row, clip, samples, length in zip(feats, sig, lengths, frames, strict=True):
        alone, _ = encoder.run(clip[None, :samples])
        assert alone.shape[1] == length
        assert_close_to_scale(row[:length], alone[0], share=1e-6)
        assert not row[length:].any()
    one, _ = encoder.run(sig)
    for row, clip in zip(one, sig, strict=True):
        assert_close_to_scale(row, encoder.run(clip[None])[0][0])


@pytest.mark.parametrize("case", [("hubert", "base"), ("whisper", "")], ids="-".join)
def test_lengths_are_exact(case, folders) -> None:
    encoder = SpeechEncoder.from_pretrained(folders[case], 1)
    lengths = torch.arange(1, 2001)
    expected = encoder.output_lengths(lengths)
    assert expected.dtype == torch.int64 and int(expected.min()) == 1
    silence = torch.zeros(1, 2000)
    edges = (expected.diff() != 0).nonzero().flatten().tolist()
    for samples in sorted({*range(1, 2001, 97), *edges, *(n + 1 for n in edges), 399, 400, 2000}):
        if samples:
            feats, frames = encoder.run(silence[:, :samples])
            assert feats.shape[1] == int(frames) == int(expected[samples - 1]), samples
            assert torch.isfinite(feats).all()
    assert encoder.output_lengths(lengths.view(2, -1)).shape == (2, 1000)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_training_mode_changes_nothing(case, folders, sig) -> None:
    encoder = SpeechEncoder.from_pretrained(folders[case], 2)
    before, _ = encoder.run(sig)
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(encoder.run(sig)[0], before) and not before.requires_grad


# -- errors ----------------------------------------------------------------------------------------


def test_errors_of_the_constructor(folders) -> None:
    with pytest.raises(UserError, match="model_type='bert': not one of wavlm, hubert"):
        SpeechEncoder({"model_type": "bert"}, 1)
    sizes = {"model_type": "hubert", **SMALL}
    for layer in (4, -1, [], [1, 4]):
        with pytest.raises(UserError, match="the hubert has layers 0 to 3"):
            SpeechEncoder(sizes, layer)
    with pytest.raises(UserError, match="frames of 400 samples, one every 640; take a model with"):
        SpeechEncoder(sizes | {"conv_stride": [5, 2, 2, 2, 2, 2, 4]}, 1)
    with pytest.raises(UserError, match="the hubert has layers 0 to 3"):
        SpeechEncoder.from_pretrained(folders["hubert", "base"], 4)


def test_adapters_behind_the_model_are_left_out(sig, tmp_path) -> None:
    model_of("wav2vec2", "large", add_adapter=True).save_pretrained(tmp_path)
    feats, lengths = SpeechEncoder.from_pretrained(tmp_path, 3).run(sig)
    assert lengths.tolist() == [27] * 3 == [feats.shape[1]] * 3


def test_errors_of_loading(folders, tmp_path) -> None:
    with pytest.raises(UserError, match="config.json: No such file .*; give a folder with"):
        SpeechEncoder.from_pretrained(tmp_path, 1)
    model = model_of("hubert", "base")
    model.save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-5])
    with pytest.raises(UserError, match="model.safetensors: truncated or not safetensors"):
        SpeechEncoder.from_pretrained(tmp_path, 1)
    from safetensors.torch import load_file, save_file

    tensors = load_file(folders["hubert", "base"] / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if "layers.0.attention.q_proj" not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"2 weights are missing, such as encoder\.layers\.0"):
        SpeechEncoder.from_pretrained(tmp_path, 1)


def test_errors_of_signals(folders) -> None:
    encoder = SpeechEncoder.from_pretrained(folders["whisper", ""], 1)
    for sig in (torch.zeros(16000), torch.zeros(1, 0), torch.zeros(1, 16000, dtype=torch.int16)):
        with pytest.raises(UserError, match="give floats of shape"):
            encoder.run(sig)
    with pytest.raises(UserError, match="Whisper takes 30 s at most"):
        SpeechEncoder.from_pretrained(folders["whisper", ""], [1]).fit_mix([torch.zeros(490000)])
