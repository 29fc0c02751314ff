"""What a training shows while it runs: bar or lines, lines of epochs, time left."""

from __future__ import annotations

import io
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from focalcodec.data.feature_cache import batch_feats
from focalcodec.progress import INTERVAL
from focalcodec.training.display import RunClock, TrainingDisplay
from focalcodec.training.figures import Figures
from tests.unit.training import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def shown_by(brain: Any, sets: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines on standard error, a file, of a training with a line for each batch."""
    file = io.StringIO()
    monkeypatch.setenv(INTERVAL, "0")
    monkeypatch.setattr(sys, "stderr", file)
    tiny.fit(brain, *sets)
    assert "\r" not in file.getvalue()
    return [re.sub(r"[\d,]+ frames/s", "F frames/s", line) for line in file.getvalue().splitlines()]


def make(stage: str, folder: Path, data: Path, **changes: Any) -> Any:
    options = {"noprogressbar": False}
    return tiny.make_brain(stage, folder, data, run_opts=options, batch_size=1, **changes)


# -- time left -------------------------------------------------------------------------------------


def test_time_left_is_that_of_the_whole_run() -> None:
    clock = RunClock(epochs=3, train=4, valid=2)
    assert clock.left(now=0.0) == 0.0  # not known yet
    clock.begin(1, 0, now=0.0)
    for second in (1, 2, 3, 4):
        clock.add_batch(50, now=float(second))
    assert clock.left(now=4.0) == 8 * 1.0 + 3 * 1.0  # validation batches: guessed
    clock.end(now=10.0)  # 6 s of validation and checkpoint
    assert clock.left(now=10.0) == 2 * (4 + 6)
    assert clock.frame_rate(of_epoch=True) == 50.0
    clock.begin(2, 0, now=10.0)
    for second in (1, 2, 3, 4):
        clock.add_batch(50, now=10.0 + second)
    assert clock.left(now=17.0) == 3 + 4 + 6  # in the middle of the validation
    clock.end(now=20.0)
    clock.begin(3, 0, now=20.0)
    clock.end(now=30.0)
    assert clock.left(now=31.0) == 0.0


def test_time_left_of_a_resumed_epoch() -> None:
    clock = RunClock(epochs=2, train=10, valid=0)
    clock.begin(2, 7, now=100.0)
    clock.add_batch(1, now=102.0)
    assert clock.left(now=102.0) == 2 * 2.0


# -- a training ------------------------------------------------------------------------------------


def test_a_file_gets_lines_of_the_whole_run(data, tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    brain, *sets = make("quantizer", tmp_path, data)
    lines = shown_by(brain, sets, monkeypatch)
    batches = [line for line in lines if "frames/s" in line]
    assert len(batches) == 8 and sum("validation" in line for line in lines) >= 2
    pattern = r"\d+ % of the run: epoch 1/2, \d\d:\d\d left, train loss -?[\d.]+, lr 0.001, F frame"
    assert re.match(pattern, batches[0])
    assert [re.findall(r"^(\d+) %", line)[0] for line in batches] == [
        *("10", "20", "30", "40"),
        *("60", "70", "80", "90"),
    ]
    own = (record for record in caplog.records if record.name.startswith("focalcodec.training"))
    epochs = [record.getMessage() for record in own]
    entry = brain.history[1]
    assert epochs[1].startswith(f"epoch 2/2: train loss {entry['train']['loss']:#.3g}, valid loss ")
    assert re.search(
        r"valid codes used [\d.]+ %, lr 0\.001, [\d,]+ frames/s, 00:00 left$", epochs[1]
    )
    assert epochs[2].startswith("tested: epoch ")


def test_cached_frames_count_without_samples(data, tmp_path) -> None:
    brain, train_set, _ = make("quantizer", tmp_path, data)
    batch = next(iter(train_set))
    feats, frames = batch_feats(brain.encoder, batch)
    cached = [x[:end] for x, end in zip(feats, frames.tolist(), strict=True)]
    silent = replace(batch, sig=batch.sig[:, :0], lengths=torch.zeros_like(batch.lengths))
    batches = (batch, replace(silent, feats=cached))
    assert [brain.num_frames(each) for each in batches] == [frames.sum(), frames.sum()]


def test_stage_2_names_what_its_losses_are(data, tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    brain, *sets = make("vocoder", tmp_path, data, number_of_epochs=1)
    shown_by(brain, sets, monkeypatch)
    (line,) = (r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch 1/1"))
    assert re.match(
        r"epoch 1/1: train loss [\d.]+, train mel distance [\d.]+, valid mel distance", line
    )


def test_only_the_first_process_shows_it(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("focalcodec.training.brain.process_rank", lambda: 1)
    brain, *sets = make("quantizer", tmp_path, data, number_of_epochs=1)
    assert shown_by(brain, sets, monkeypatch) == []


def test_a_resumed_run_shows_where_it_is(data, tmp_path, monkeypatch) -> None:
    brain, *sets = make("quantizer", tmp_path, data, number_of_epochs=1)
    shown_by(brain, sets, monkeypatch)
    brain, *sets = make("quantizer", tmp_path, data, number_of_epochs=2)
    lines = shown_by(brain, sets, monkeypatch)
    assert next(line for line in lines if "frames/s" in line).startswith(
        "60 % of the run: epoch 2/2"
    )


def test_fine_tuning_shows_the_figures_before_it(data, tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.INFO)
    weights = []
    for name, tunes in (("plain", False), ("tuned", True)):
        brain, *sets = make("quantizer", tmp_path / name, data, lr=1.0)
        brain._fine_tunes = tunes
        tiny.fit(brain, *sets)
        weights.append(tiny.weights(brain))
    assert tiny.same(*weights)  # one more validation changes nothing
    messages = [record.getMessage() for record in caplog.records]
    before = f"(worse than before {brain.before['loss']:#.3g})"
    assert sum(before in line for line in messages if line.startswith("epoch")) == 2
    assert any(line.startswith("tested: the weights before fine-tuning") for line in messages)
    resumed, *_ = make("quantizer", tmp_path / "tuned", data)
    resumed._fine_tunes = True
    resumed.checkpointer.recover_if_possible()
    assert resumed.before == brain.before


def test_lines_without_figures() -> None:
    display = TrainingDisplay(1, 1, 1, Figures(), show=False)
    display.begin(1, 0)
    display.add_batch(0, {}, {})
    display.end({"epoch": 1, "train": {}, "valid": {"loss": 1.0}}, {})
    display.close()


@pytest.mark.parametrize(
    ("interval", "steps"), [(10, [4, 8]), (3, [3, 4, 6, 8]), (1, [*range(1, 9)])]
)
def test_tensorboard_gets_losses_of_steps(data, tmp_path, monkeypatch, interval, steps) -> None:
    monkeypatch.setattr("focalcodec.training.brain.STEP_INTERVAL", interval)
    brain, *sets = make("quantizer", tmp_path, data)
    points = []
    monkeypatch.setattr(
        brain.monitor, "write_steps", lambda stats, step: points.append((step, stats))
    )
    tiny.fit(brain, *sets)
    assert [step for step, _ in points] == steps
    assert {"loss", "feature_loss", "lr_quantizer", "grad_norm_quantizer"} <= points[0][1].keys()
    if interval == 10:  # then a point is the mean of an epoch
        losses = [stats["loss"] for _, stats in points]
        assert losses == pytest.approx([entry["train"]["loss"] for entry in brain.history])
