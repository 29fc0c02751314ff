"""Log, curves, audio and results of a run."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from focalcodec.audio import read_audio
from focalcodec.training.monitor import Monitor

EPOCHS = [
    {"epoch": 1, "lr_a": 0.1, "train": {"loss": 2.0}, "valid": {"loss": 1.5, "code_usage": 50.0}},
    {"epoch": 2, "lr_a": 0.1, "train": {"loss": 1.0}, "valid": {"loss": -0.5, "code_usage": 60.0}},
]


def test_log_curves_and_scalars(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    for epochs in (EPOCHS[:1], EPOCHS):
        monitor.write_epoch(epochs[-1])
        monitor.write_log(epochs)
    monitor.close()
    lines = (tmp_path / "train_log.txt").read_text().splitlines()
    assert len(lines) == 2
    assert lines[1] == (
        "epoch: 2, lr_a: 1.00e-01 - train loss: 1.00e+00"
        " - valid loss: -5.00e-01, valid code_usage: 60.00"
    )
    assert (tmp_path / "curves.png").stat().st_size > 1000
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = {(e.step, round(e.value, 3)) for e in events.Scalars("loss/valid")}
    assert points == {(1, 1.5), (2, -0.5)}
    assert {"loss/train", "code_usage/valid", "lr/lr_a"} <= set(events.Tags()["scalars"])


def test_resumed_run_has_the_same_log_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, stopped = Monitor(tmp_path / "whole"), Monitor(tmp_path / "stopped")
    whole.write_log(EPOCHS)
    stopped.write_log([*EPOCHS, EPOCHS[1] | {"epoch": 3}])
    Monitor(tmp_path / "stopped").write_log(EPOCHS)
    log = "train_log.txt"
    assert (tmp_path / "whole" / log).read_text() == (tmp_path / "stopped" / log).read_text()


def test_sounds_and_results(tmp_path: Path, capsys) -> None:
    monitor = Monitor(tmp_path)
    monitor.write_audio("clip", 0.5 * torch.ones(1600), 16000, 1)
    monitor.write_results({"test": {"loss": 0.25}, "test-real": {"loss": 0.5}})
    monitor.close()
    (wav,) = tmp_path.rglob("*.wav")
    assert read_audio(wav, 16000).shape == (1600,)
    table = capsys.readouterr().out
    assert "test-real" in table and "0.250" in table and "loss" in table
    last = table.splitlines()[-1]
    assert last == f"{tmp_path}: trained; results.json, curves.png, checkpoints in save/"
    results = next(tmp_path.glob("*.json"))
    assert "test-real" in json.dumps(json.loads(results.read_text()))


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("focalcodec.training.monitor.process_rank", lambda: 1)
    monitor = Monitor(tmp_path / "run")
    monitor.write_log(EPOCHS)
    monitor.write_epoch(EPOCHS[0])
    monitor.write_steps({"loss": 1.0}, 1)
    monitor.write_audio("clip", torch.zeros(10), 16000, None)
    monitor.write_results({"test": {"loss": 0.25}})
    monitor.close()
    assert not (tmp_path / "run").exists()


def test_groups_are_in_log_and_scalars(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path)
    entry = EPOCHS[0] | {"valid-a_b": {"loss": 1.25}, "valid-it": {"loss": 1.75}}
    monitor.write_epoch(entry)
    monitor.write_log([entry])
    monitor.close()
    log = (tmp_path / "train_log.txt").read_text()
    assert log == (
        "epoch: 1, lr_a: 1.00e-01 - train loss: 2.00 - valid loss: 1.50, valid code_usage: 50.00"
        " - valid-a_b loss: 1.25 - valid-it loss: 1.75\n"
    )
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss/valid-it")] == [1.75]
    assert "loss/valid-a_b" in events.Tags()["scalars"]


def test_points_after_the_checkpoint_of_a_resumed_run_are_dropped(tmp_path: Path) -> None:
    for loss, done in ((1.0, (0, 0)), (2.0, (1, 15))):  # stopped after step 15, in epoch 2
        monitor = Monitor(tmp_path)
        monitor.resume(*done)
        for epoch in range(done[0] + 1, 4):
            monitor.write_epoch({"epoch": epoch, "valid": {"loss": loss}})
        for step in range(10, 41, 10):
            if step > done[1]:
                monitor.write_steps({"loss": loss}, step)
        monitor.close()
    points = []
    for folder, tag in (("tensorboard", "loss/valid"), ("tensorboard/steps", "loss/step")):
        events = EventAccumulator(str(tmp_path / folder)).Reload()
        points.append([(event.step, event.value) for event in events.Scalars(tag)])
    assert points == [
        [(1, 1.0), (2, 2.0), (3, 2.0)],
        [(10, 1.0), (20, 2.0), (30, 2.0), (40, 2.0)],
    ]
