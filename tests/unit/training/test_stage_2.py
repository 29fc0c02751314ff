"""Stage 2: crops, the turns of the GAN, and figures that do not depend on the batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import speechbrain as sb
import torch

from focalcodec.errors import UserError
from tests.unit.training import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "corpus"
    return tiny.write_corpus(folder, train=[0.8, 0.9, 1.0, 1.1], dev=[0.6, 0.9, 1.37, 0.61])


def test_figures_do_not_depend_on_the_batch_size(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("vocoder", tmp_path, data)
    rows, found = tiny.clips(data, "dev"), []
    for size in (1, 3, 4):
        brain.modules.eval()
        brain.on_stage_start(sb.Stage.VALID, 1)
        for first in range(0, len(rows), size):
            batch = tiny.batch_of(rows[first : first + size])
            brain.evaluate_batch(batch, sb.Stage.VALID)
        found.append(brain.stage_stats(sb.Stage.VALID)["loss"])
    assert found[1:] == pytest.approx(found[:1] * 2, abs=1e-5)


def test_crops_belong_together_and_are_cut_from_feats_of_the_whole_clip(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("vocoder", tmp_path, data, crop_frames=20)
    batch = tiny.batch_of(tiny.clips(data, "train"))
    whole, frames = brain.encode(batch)
    starts = set()
    for brain.step in range(1, 6):
        feats, sig = brain.crop(whole, frames, batch, 20)
        assert feats.shape == (4, 20, 8) and sig.shape == (4, 6400)
        for item in range(4):
            places = (batch.sig[item].unfold(0, 6400, 320) == sig[item]).all(dim=1).nonzero()
            start = int(places[0])
            starts.add((item, start))
            assert torch.equal(feats[item], whole[item, start : start + 20])
            assert start * 320 + 6400 <= int(batch.lengths[item])
    assert len(starts) > 8


def test_crops_depend_on_clip_and_step_not_on_the_batch(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("vocoder", tmp_path, data, crop_frames=20)
    brain.step = 3
    rows = tiny.clips(data, "train")

    def crop(batch):
        return brain.crop(*brain.encode(batch), batch, 20)[1]

    together = crop(tiny.batch_of(rows))
    for index, row in enumerate(rows):
        assert torch.equal(crop(tiny.batch_of([row]))[0], together[index])


def test_crop_longer_than_the_shortest_clip_is_refused_before_training(data, tmp_path) -> None:
    with pytest.raises(UserError, match=r"crop_frames=30.*min_seconds=0\.5"):
        tiny.make_brain("vocoder", tmp_path, data, crop_frames=30)


def test_discriminator_learns_from_its_own_loss_only(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("vocoder", tmp_path, data)
    brain.init_optimizers()
    brain.modules.train()
    brain.step = 1
    turns = brain.turns(tiny.batch_of(tiny.clips(data, "train")))
    name, loss = next(turns)
    assert name == "discriminator"
    loss.backward()
    assert all(p.grad is None for p in brain.modules.decoder.parameters())
    assert all(p.grad is not None for p in brain.modules.discriminator.parameters())
    brain.modules.zero_grad()
    name, loss = next(turns)
    assert name == "generator"
    loss.backward()
    assert all(p.grad is None for p in brain.modules.discriminator.parameters())
    assert all(p.grad is not None for p in brain.modules.decoder.parameters())


def test_warm_up_is_mel_alone(data, tmp_path) -> None:
    brain, *sets = tiny.make_brain(
        "vocoder", tmp_path, data, number_of_epochs=1, adversarial_start_step=99
    )
    start = tiny.weights(brain)
    tiny.fit(brain, *sets)
    end, stats = tiny.weights(brain), brain.history[0]["train"]
    assert all(torch.equal(start[n], end[n]) for n in start if n.startswith("discriminator"))
    assert any(not torch.equal(start[n], end[n]) for n in start if n.startswith("decoder"))
    assert stats["loss"] == pytest.approx(45.0 * stats["mel_loss"])
    assert "adversarial_loss" not in stats


def test_reported_training_loss_is_the_sum_of_its_parts(data, tmp_path) -> None:
    brain, *sets = tiny.make_brain("vocoder", tmp_path, data, number_of_epochs=1)
    tiny.fit(brain, *sets)
    stats = brain.history[0]["train"]
    parts = 45.0 * stats["mel_loss"] + stats["adversarial_loss"] + 54.0 * stats["matching_loss"]
    assert stats["loss"] == pytest.approx(parts, rel=1e-5)


def test_test_loss_is_that_of_validation_on_the_same_clips(data, tmp_path) -> None:
    brain, *sets = tiny.make_brain("vocoder", tmp_path, data, number_of_epochs=1)
    tiny.fit(brain, *sets)
    brain.evaluate(sets[1], min_key="loss")
    assert brain.test_stats["loss"] == pytest.approx(brain.history[0]["valid"]["loss"])


def test_sounds_of_fixed_clips(data, tmp_path) -> None:
    brain, *sets = tiny.make_brain(
        "vocoder", tmp_path, data, number_of_epochs=1, sample_interval_epochs=1
    )
    brain.monitor.sample_batches = [tiny.batch_of(tiny.clips(data, "dev")[:1])]
    tiny.fit(brain, *sets)
    brain.monitor.close()
    names = {path.name for path in (tmp_path / "samples").iterdir()}
    assert {"1-2-0000_vocoder.wav", "1-2-0000_vocoder.png"} <= names
