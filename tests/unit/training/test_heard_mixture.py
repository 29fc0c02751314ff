"""Stage 1 and 2 on noisy speech: what is heard, what is aimed at, what a person gets to see."""

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
from focalcodec.training.quantizer import QuantizerBrain
from focalcodec.training.vocoder import VocoderBrain
from tests.unit.training import tiny


class HearsMixture(QuantizerBrain):
    def heard_features(self, batch: Any, stage: sb.Stage) -> tuple[torch.Tensor, torch.Tensor]:
        return self.features(batch.mixture)

    def target_features(self, batch: Any, feats: torch.Tensor) -> torch.Tensor:
        return self.features(batch)[0]


class DecodesMixture(VocoderBrain):
    def heard_features(self, batch: Any, stage: sb.Stage) -> tuple[torch.Tensor, torch.Tensor]:
        return self.features(batch.mixture)


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
def test_loss_is_between_what_was_made_of_the_mixture_and_the_clean_feats(data, tmp_path, stage):
    brain, *_ = tiny.make_brain("quantizer", tmp_path, data, brain_class=HearsMixture)
    batch = noisy(data)
    with torch.no_grad():
        out = brain.compute_forward(batch, stage)
        brain.compute_objectives(out, batch, stage)
    clean, frames = brain.features(batch)
    heard, _ = brain.features(batch.mixture)
    assert torch.equal(out.feats, heard) and torch.equal(out.targets, clean)
    assert not torch.equal(heard, clean)
    errors = (out.qfeats - clean).square().mean(dim=-1)
    expected = sum(float(row[:n].sum()) for row, n in zip(errors, frames, strict=True))
    measured = brain.meters.averages()["feature_loss"]
    assert measured == pytest.approx(expected / int(frames.sum()), rel=1e-5)


def test_without_overrides_a_mixture_changes_nothing(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("quantizer", tmp_path, data)
    batch = noisy(data)
    with torch.no_grad():
        out = brain.compute_forward(batch, sb.Stage.VALID)
        plain = brain.compute_forward(replace(batch, mixture=None), sb.Stage.VALID)
    assert out.targets is out.feats and torch.equal(out.qfeats, plain.qfeats)


def test_decoder_hears_the_mixture_in_crops_and_whole(data, tmp_path) -> None:
    changes = {"brain_class": DecodesMixture, "crop_frames": 20}
    brain, *_ = tiny.make_brain("vocoder", tmp_path, data, **changes)
    batch = noisy(data)
    heard, _ = brain.features(batch.mixture)
    feats, sig = brain.crops(batch)
    for item in range(len(batch)):
        places = (batch.sig[item].unfold(0, 6400, 320) == sig[item]).all(dim=1).nonzero()
        start = int(places[0])
        assert torch.equal(feats[item], heard[item, start : start + 20])
    with torch.no_grad():
        whole, _ = brain.compute_forward(batch, sb.Stage.VALID)
        assert torch.equal(whole, brain.modules.decoder(*brain.features(batch.mixture))[0])


def test_speed_of_mixture_and_clean_clip_is_one_draw(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("quantizer", tmp_path, data, brain_class=HearsMixture)
    brain.hparams.speed_perturb = SpeedPerturb(16000, speeds=[80, 90, 110, 120])
    batch = noisy(data)
    same = replace(batch, mixture=replace(batch))
    seen = set()
    for brain.step in range(1, 9):
        changed = brain._at_another_speed(same)
        assert torch.equal(changed.sig, changed.mixture.sig)
        assert torch.equal(changed.lengths, changed.mixture.lengths)
        seen.add(changed.sig.shape[1])
        alone = brain._at_another_speed(replace(batch, mixture=None))
        assert torch.equal(alone.sig, changed.sig) and alone.mixture is None
        with torch.no_grad():
            out = brain.compute_forward(batch, sb.Stage.TRAIN)
        assert out.targets.shape == out.feats.shape == out.qfeats.shape
    assert len(seen) > 2


@pytest.mark.parametrize(
    ("stage", "brain_class"), [("quantizer", HearsMixture), ("vocoder", DecodesMixture)]
)
def test_mixture_is_heard_and_seen(data, tmp_path, monkeypatch, stage, brain_class) -> None:
    brain, *_ = tiny.make_brain(stage, tmp_path, data, brain_class=brain_class)
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
        "qfeats less feats of the clean clip",
    ]
    brain.decoder = lambda feats, frames: (feats.new_zeros(1, 9600), frames)
    brain.write_samples(None)
    assert (tmp_path / "samples" / "1-2-0000_codec.wav").is_file()
    assert pictures["1-2-0000_codec"][0] == "mixture"
