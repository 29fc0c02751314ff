"""Stage 1 and 2 of the recipe LibriMix: input, target, and the samples that a run writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch
from speechbrain.augment.time_domain import SpeedPerturb

from focalcodec.audio import read_audio
from focalcodec.data.dataset import AudioBatch
from focalcodec.errors import UserError
from tests.unit.training import tiny

RECIPE = tiny.RECIPES / "LibriMix"


def make_brain(stage: str, folder: Path, data: Path, mixture_share: float = 0.0, **knobs: Any):
    """A Brain of the recipe LibriMix, with the small models of LibriSpeech's."""
    name = {"quantizer": "QuantizerBrain", "vocoder": "VocoderBrain"}[stage]
    brain_class = getattr(tiny.recipe_module("brains", RECIPE), name)
    brain, *_ = tiny.make_brain(stage, folder, data, brain_class=brain_class, **knobs)
    brain.hparams.mixture_share = mixture_share
    return brain


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "corpus"
    return tiny.write_corpus(folder, train=[0.8, 0.9, 1.0, 1.1], dev=[0.6, 0.9])


def noisy(data: Path, split: str = "train", clips: int = 4) -> AudioBatch:
    batch = tiny.batch_of(tiny.clips(data, split)[:clips])
    noise = torch.randn(batch.sig.shape, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(batch.sig.shape[1]) < batch.lengths[:, None]
    return replace(batch, mixture=replace(batch, sig=batch.sig + 0.1 * noise * mask))


@pytest.mark.parametrize("stage", [sb.Stage.TRAIN, sb.Stage.VALID])
def test_input_is_the_mixture_and_target_the_clean_feats(data, tmp_path, stage) -> None:
    brain = make_brain("quantizer", tmp_path, data)
    batch = noisy(data)
    with torch.no_grad():
        out = brain.compute_forward(batch, stage)
        brain.compute_objectives(out, batch, stage)
    clean, frames = brain.encode(batch)
    mixed, _ = brain.encode(batch.mixture)
    assert torch.equal(out.feats, mixed) and torch.equal(out.targets, clean)
    assert not torch.equal(mixed, clean)
    errors = (out.qfeats - clean).square().mean(dim=-1)
    expected = sum(float(row[:n].sum()) for row, n in zip(errors, frames, strict=True))
    measured = brain.meters.averages()["feature_loss"]
    assert measured == pytest.approx(expected / int(frames.sum()), rel=1e-5)


def test_stage_1_on_clean_speech_has_no_mixture_as_input(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("quantizer", tmp_path, data)
    batch = noisy(data)
    with torch.no_grad():
        out = brain.compute_forward(batch, sb.Stage.VALID)
        plain = brain.compute_forward(replace(batch, mixture=None), sb.Stage.VALID)
    assert out.targets is out.feats and torch.equal(out.qfeats, plain.qfeats)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_decoder_has_a_share_of_mixtures_as_input_of_crops(data, tmp_path, share) -> None:
    brain = make_brain("vocoder", tmp_path, data, share, crop_frames=20)
    batch, seen, decoder = noisy(data), [], brain.modules.decoder
    clean, _ = brain.encode(batch)
    mixed, _ = brain.encode(batch.mixture)
    hook = decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    chosen = []
    for brain.step in range(1, 6):
        with torch.no_grad():
            out = brain.compute_forward(batch, sb.Stage.TRAIN)
        for item in range(len(batch)):
            places = (batch.sig[item].unfold(0, 6400, 320) == out.sig[item]).all(dim=1).nonzero()
            start = int(places[0])
            crops = [feats[item, start : start + 20] for feats in (clean, mixed)]
            same = [torch.equal(seen[-1][item], crop) for crop in crops]
            assert sum(same) == 1  # the target is always the clean waveform
            chosen.append(same[1])
    assert set(chosen) == {0.0: {False}, 0.5: {False, True}, 1.0: {True}}[share]
    hook.remove()
    with torch.no_grad():
        whole = brain.compute_forward(batch, sb.Stage.VALID)
        rec_sig, _ = decoder(clean, lengths=brain.encode(batch)[1])
    assert torch.equal(whole.rec_sig, rec_sig[:, : whole.rec_sig.shape[1]])


@pytest.mark.parametrize(("stage", "share"), [("quantizer", 0.0), ("vocoder", 0.5)])
def test_without_mixtures_the_way_out_is_named(data, tmp_path, stage, share) -> None:
    brain = make_brain(stage, tmp_path, data, share)
    batch = replace(noisy(data), mixture=None)
    with pytest.raises(UserError, match="clip 1-2-0000: no mixture; .* set mixer"):
        brain.compute_forward(batch, sb.Stage.TRAIN)


def test_speed_of_mixture_and_clean_clip_is_one_draw(data, tmp_path) -> None:
    brain = make_brain("quantizer", tmp_path, data)
    brain.hparams.speed_perturb = SpeedPerturb(16000, speeds=[80, 90, 110, 120])
    batch = noisy(data)
    same = replace(batch, mixture=replace(batch))
    seen = set()
    for brain.step in range(1, 9):
        changed = brain.perturb_speed(same, sb.Stage.TRAIN)
        assert torch.equal(changed.sig, changed.mixture.sig)
        assert torch.equal(changed.lengths, changed.mixture.lengths)
        seen.add(changed.sig.shape[1])
        alone = brain.perturb_speed(replace(batch, mixture=None), sb.Stage.TRAIN)
        assert torch.equal(alone.sig, changed.sig) and alone.mixture is None
        with torch.no_grad():
            out = brain.compute_forward(batch, sb.Stage.TRAIN)
        assert out.targets.shape == out.feats.shape == out.qfeats.shape
    assert len(seen) > 2


@pytest.mark.parametrize("stage", ["quantizer", "vocoder"])
def test_mixture_is_in_the_samples(data, tmp_path, monkeypatch, stage) -> None:
    brain = make_brain(stage, tmp_path, data)
    batch = noisy(data, "dev", 1)
    brain.monitor.sample_batches = [batch]
    pictures = {}
    monkeypatch.setattr(
        brain.monitor,
        "write_picture",
        lambda name, figure, _: pictures.update({name: [a.get_title("left") for a in figure.axes]}),
    )
    brain.write_samples(None)
    wav = read_audio(tmp_path / "samples" / "1-2-0000_mixture.wav", 16000)
    assert torch.allclose(wav, batch.mixture.sig[0], atol=1e-3)
    if stage == "vocoder":
        titles = pictures["1-2-0000_vocoder"]
        assert titles[:3] == ["mixture", "reference", "reconstruction"]
        return
    assert pictures["1-2-0000_qfeats"][:4] == [
        "feats of the mixture",
        "feats of the clean clip",
        "qfeats",
        "qfeats - feats of the clean clip",
    ]
    brain.decoder = lambda feats, lengths: (feats.new_zeros(1, 9600), lengths)
    brain.write_samples(None)
    assert (tmp_path / "samples" / "1-2-0000_codec.wav").is_file()
    assert pictures["1-2-0000_codec"][0] == "mixture"
