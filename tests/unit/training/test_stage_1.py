"""Stage 1: its figures do not depend on how the set is divided into batches."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import speechbrain as sb
import torch

from focalcodec.data.feature_cache import FeatureCache
from tests.unit.training import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "corpus"
    return tiny.write_corpus(folder, train=[0.8, 0.9, 1.0, 1.1], dev=[0.6, 0.9, 1.37, 0.61, 0.99])


def validated(brain, batches) -> dict[str, float]:
    brain.modules.eval()
    brain.on_stage_start(sb.Stage.VALID, 1)
    for batch in batches:
        brain.evaluate_batch(batch, sb.Stage.VALID)
    return brain.stage_stats(sb.Stage.VALID)


@pytest.mark.parametrize("stage", ["quantizer", "quantizer25", "quantizer12"])
def test_figures_do_not_depend_on_the_batch_size(data, tmp_path, stage) -> None:
    brain, *_ = tiny.make_brain(stage, tmp_path, data)
    rows = tiny.clips(data, "dev")
    one = validated(brain, [tiny.batch_of([row]) for row in rows])
    for size in (2, 5):
        batches = [tiny.batch_of(rows[i : i + size]) for i in range(0, len(rows), size)]
        assert validated(brain, batches) == pytest.approx(one, abs=1e-5)
    assert one["loss"] == pytest.approx(
        one["feature_loss"]
        + brain.hparams.entropy_weight
        * (one["sample_entropy"] - brain.hparams.gamma * one["codebook_entropy"])
    )


def test_codebook_entropy_is_of_the_whole_set(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("quantizer", tmp_path, data)
    rows = tiny.clips(data, "dev")
    stats = validated(brain, [tiny.batch_of([row]) for row in rows])
    codes = brain.modules.quantizer.codebook
    lats = []
    for row in rows:
        with torch.no_grad():
            out = brain.compute_forward(tiny.batch_of([row]), sb.Stage.VALID)
        lats.append(out.lats[0, : out.lat_frames[0]])
    unit = torch.nn.functional.normalize(torch.cat(lats), dim=-1).double()
    logits = 2 * brain.hparams.inv_temperature * unit @ codes.double().T
    mean = logits.softmax(dim=-1).mean(dim=0).clamp(min=1e-12)
    assert stats["codebook_entropy"] == pytest.approx(float(-(mean * mean.log()).sum()), abs=1e-4)
    alone = [validated(brain, [tiny.batch_of([row])])["codebook_entropy"] for row in rows]
    assert stats["codebook_entropy"] > sum(alone) / len(alone)


def test_loss_of_a_padded_training_batch_is_that_of_its_frames(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("quantizer12", tmp_path, data)
    brain.modules.train()
    batch = tiny.batch_of(tiny.clips(data, "dev"))
    longer = torch.nn.functional.pad(batch.sig, (0, 5000), value=0.5)
    padded = type(batch)(**{**vars(batch), "sig": longer})
    losses, grads = [], []
    for each in (batch, padded):
        brain.modules.zero_grad()
        outputs = brain.compute_forward(each, sb.Stage.TRAIN)
        loss = brain.compute_objectives(outputs, each, sb.Stage.TRAIN)
        loss.backward()
        losses.append(float(loss.detach()))
        grads.append(torch.cat([p.grad.flatten() for p in brain.modules.parameters()]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert torch.allclose(grads[0], grads[1], atol=1e-5)


@pytest.mark.parametrize(("stage", "factor"), [("quantizer25", 2), ("quantizer12", 4)])
def test_prediction_and_target_agree_for_every_clip_length(data, tmp_path, stage, factor) -> None:
    brain, *_ = tiny.make_brain(stage, tmp_path, data)
    row = tiny.batch_of(tiny.clips(data, "dev")[:1])
    for samples in range(3200, 3200 + 320 * (factor + 1), 160):
        sig = torch.randn(1, samples)
        batch = type(row)(**{**vars(row), "sig": sig, "lengths": torch.tensor([samples])})
        out = brain.compute_forward(batch, sb.Stage.TRAIN)
        assert out.qfeats.shape == out.feats.shape
        assert out.lats.shape[1] == math.ceil(out.feats.shape[1] / factor) == out.toks.shape[1]
        assert bool(torch.isfinite(brain.compute_objectives(out, batch, sb.Stage.TRAIN)))


def test_cached_features_train_the_same_weights(data, tmp_path) -> None:
    ends = []
    for name in ("without", "with"):
        brain, *sets = tiny.make_brain("quantizer", tmp_path / name, data)
        if name == "with":
            brain.cache = FeatureCache(tmp_path / "cache", brain.encoder)
            for loader in sets:
                loader.dataset.cache, loader.dataset.with_sig = brain.cache, False
        tiny.fit(brain, *sets)
        ends.append(tiny.weights(brain))
    assert list((tmp_path / "cache").rglob("*.safetensors"))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_cost_of_the_cache_is_printed_before_training(data, tmp_path, capsys, monkeypatch) -> None:
    printed: list[str] = []
    fit = "focalcodec.training.brain.CodecBrain.fit"
    monkeypatch.setattr(fit, lambda *_: printed.append(capsys.readouterr().out))
    monkeypatch.setattr("focalcodec.training.brain.CodecBrain.evaluate", _nothing)
    options = {"te_splits": ["dev"], "feature_cache": str(tmp_path / "cache")}
    tiny.train(tiny.arguments("quantizer", tmp_path / "run", data, **options))
    (line,) = [line for line in printed[0].splitlines() if line.startswith("feature cache:")]
    assert str(tmp_path / "cache") in line and "GB" in line


def _nothing(brain, *_: object, **__: object) -> None:
    brain.test_stats = {"loss": 0.0}


def test_every_part_of_the_loss_and_the_codes_use_are_reported(data, tmp_path) -> None:
    brain, *sets = tiny.make_brain("quantizer", tmp_path, data, number_of_epochs=1)
    tiny.fit(brain, *sets)
    parts = {"loss", "feature_loss", "sample_entropy", "codebook_entropy"}
    (epoch,) = brain.history
    assert parts | {"grad_norm_quantizer"} <= epoch["train"].keys()
    assert parts | {"code_usage", "normalized_entropy", "toks"} <= epoch["valid"].keys()
    assert epoch["lr_quantizer"] > 0


@pytest.mark.parametrize("interval", [0, 1])
def test_pictures_of_fixed_clips(data, tmp_path, interval) -> None:
    brain, *sets = tiny.make_brain(
        "quantizer", tmp_path, data, number_of_epochs=1, sample_interval_epochs=interval
    )
    brain.monitor.sample_batches = [tiny.batch_of(tiny.clips(data, "dev")[:1])]
    tiny.fit(brain, *sets)
    brain.monitor.close()
    names = {path.name for path in tmp_path.glob("samples/*")}
    assert ({"code_usage.png", "1-2-0000_qfeats.png"} <= names) == (interval == 1)
