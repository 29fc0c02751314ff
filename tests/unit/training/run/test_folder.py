"""When a run resumes, a changed knob is used or an error, never ignored."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from focalcodec.errors import UserError, WriteError
from focalcodec.training.run.folder import RunFolder, check_identity, open_folder
from tests.unit.training import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run") / "run"
    tiny.train(tiny.arguments("quantizer", folder, data))
    return folder


def state(run: Path) -> dict[Path, int]:
    """All files except the log, to which this process still writes."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "log.txt"]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        ({"lr": 0.002}, (), "lr=0.001, now lr=0.002"),
        ({"batch_size": 4}, (), "batch_size=2, now batch_size=4"),
        ({"seed": 7}, (), "seed=1986, now seed=7"),
        ({"hidden_dims": [4, 4, 8]}, (), "now hidden_dims=[4, 4, 8]"),
        ({"tr_splits": ["dev"]}, (), "now tr_splits=['dev']"),
        ({"grad_accumulation_factor": 2}, (), "now grad_accumulation_factor=2"),
        ({"opt_class": "!name:torch.optim.Adam {lr: !ref <lr>}"}, (), "torch.optim.Adam"),
        ({}, ("--precision=bf16",), "now precision=bf16"),
        ({}, ("--max_grad_norm=1.0",), "max_grad_norm=5.0, now max_grad_norm=1.0"),
        ({}, ("--compile",), "now compile=True"),
    ],
    ids=str,
)
def test_what_changes_the_result_is_refused(data, run, change, options, told) -> None:
    before = state(run)
    with pytest.raises(UserError) as caught:
        tiny.train(tiny.arguments("quantizer", run, data, *options, **change))
    line = str(caught.value)
    assert told in line and str(run) in line and "\n" not in line
    assert state(run) == before


def test_a_run_of_an_older_version_resumes(tmp_path) -> None:
    """Its knobs have old names, and there are keys that are now computed or removed."""
    (tmp_path / "save" / "CKPT+1").mkdir(parents=True)
    old = {
        "experiment": "!name:focalcodec.training.experiment.Experiment",
        "brain": "!name:focalcodec.training.quantizer.QuantizerBrain",
        "encoder": "!name:focalcodec.logmel.LogMel",
        "lr": 0.1,
        "lr_scheduler": "!name:focalcodec.training.schedules.warmup_linear",
        "lr_scheduler.total_steps": 1920,
        "mel_weight": 0.0,
        "mel_loss": "!new:focalcodec.training.multi_mel_loss.MultiMelLoss",
        "mel_crop_frames": 32,
    }
    new = {
        "loaders": "!name:focalcodec.training.run.loaders.AudioLoaders",
        "brain": "!name:brains.QuantizerBrain",
        "encoder": "!name:focalcodec.encoders.logmel.LogMel",
        "encoder_source": "microsoft/wavlm-large",
        "lr": 0.1,
        "lr_scheduler": "!name:focalcodec.training.schedules.warmup_linear",
        "replace_encoder": False,
    }
    (tmp_path / "knobs.json").write_text(json.dumps(old))
    assert check_identity(tmp_path, new)
    for name, value in {"mel_weight": 1.0, "replace_encoder": True, "lr": 0.2}.items():
        with pytest.raises(UserError, match=f"started with {name}=.*, now {name}="):
            check_identity(tmp_path, {**new, name: value})


WARMUP = "!name:focalcodec.training.schedules.warmup_linear {warmup_steps: 1%s}"


def test_a_schedule_whose_length_an_older_yaml_states_keeps_it(data, tmp_path) -> None:
    stated = {"lr_scheduler": WARMUP % ", total_steps: 40"}
    computed = {"lr_scheduler": WARMUP % ""}
    tiny.train(tiny.arguments("quantizer", tmp_path / "whole", data, **stated))
    one = tiny.arguments("quantizer", tmp_path / "run", data, number_of_epochs=1, **stated)
    tiny.train(one)
    tiny.train(tiny.arguments("quantizer", tmp_path / "run", data, **computed))
    logs = [(tmp_path / name / "train_log.txt").read_text() for name in ("whole", "run")]
    assert logs[0] == logs[1] and logs[0].count("epoch: ") == 2


def test_a_computed_length_of_a_schedule_is_not_replaced_by_another(tmp_path) -> None:
    (tmp_path / "save" / "CKPT+1").mkdir(parents=True)
    (tmp_path / "knobs.json").write_text('{"lr": 0.1}')
    with pytest.raises(UserError, match="total_steps=None, now lr_scheduler.total_steps=9"):
        check_identity(tmp_path, {"lr": 0.1, "lr_scheduler.total_steps": 9})


def test_the_demo_codecs_runs_in_the_folder_of_another_recipe_resume(tmp_path) -> None:
    (tmp_path / "save" / "CKPT+1").mkdir(parents=True)
    old = {"prepare": "!name:librispeech_prepare.prepare_librispeech"}
    (tmp_path / "knobs.json").write_text(json.dumps(old))
    assert check_identity(tmp_path, {"prepare": "!name:demo_prepare.prepare_demo"})


def test_a_second_training_leaves_the_files_of_the_first(tmp_path) -> None:
    """Also before the first checkpoint, when knobs may still change."""
    yaml = tmp_path / "a.yaml"
    yaml.write_text("lr: 0.1")
    out = tmp_path / "run"
    with open_folder(out, "lr: 0.1", {}, (yaml,)):
        before = state(out)
        with pytest.raises(UserError, match="process .* on host .* writes into this folder"):
            open_folder(out, "lr: 0.2", {}, (yaml,))
        assert state(out) == before
    with open_folder(out, "lr: 0.2", {}, (yaml,)):
        assert json.loads((out / "knobs.json").read_text()) == {"lr": 0.2}
    assert not (out / ".lock").exists()


def test_a_refused_run_leaves_no_lock(tmp_path) -> None:
    (tmp_path / "save" / "CKPT+1").mkdir(parents=True)
    (tmp_path / "knobs.json").write_text('{"lr": 0.1}')
    with pytest.raises(UserError, match="started with lr=0.1"):
        open_folder(tmp_path, "lr: 0.2", {}, ())
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_can_not_be_written_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written to .*; choose another folder"):
        RunFolder(tmp_path / "file" / "run").lock()


@pytest.mark.parametrize("name", ["log.txt", "env.log", "hyperparams.yaml", "a.yaml"])
def test_a_file_of_the_run_that_can_not_be_written_is_one_line(name, tmp_path) -> None:
    (tmp_path / "run" / name / "x").mkdir(parents=True)
    (tmp_path / "a.yaml").write_text("lr: 0.1")
    with pytest.raises(WriteError, match=f"{name}: can't be written: Is a directory"):
        open_folder(tmp_path / "run", "lr: 0.1", {}, (tmp_path / "a.yaml",))
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_decoder_that_stage_1_is_trained_through_can_not_be_changed(tmp_path) -> None:
    (tmp_path / "save" / "CKPT+1").mkdir(parents=True)
    knobs = {"mel_weight": 1.0, "decoder_source": "one"}
    (tmp_path / "knobs.json").write_text(json.dumps(knobs))
    assert check_identity(tmp_path, knobs)
    with pytest.raises(UserError, match="started with decoder_source=one, now decoder_source=two"):
        check_identity(tmp_path, {**knobs, "decoder_source": "two"})


def test_other_knobs_take_their_new_values(data, run, tmp_path) -> None:
    tiny.write_corpus(tmp_path / "moved")
    changes = {
        "num_workers": 1,
        "valid_batch_size": 1,
        "sample_clips": 1,
        "stop_patience_epochs": 50,
        "ckpt_interval_minutes": 3,
        "nonfinite_patience": 9,
        "feature_cache": str(tmp_path / "cache"),
    }
    tiny.train(tiny.arguments("quantizer", run, tmp_path / "moved", **changes))


def test_other_stage_in_the_same_folder_is_refused(data, run) -> None:
    with pytest.raises(UserError, match="started with"):
        tiny.train(tiny.arguments("vocoder", run, data))


def test_folder_without_a_checkpoint_accepts_other_knobs(data, tmp_path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        tiny.train(tiny.arguments("quantizer", tmp_path / "run", tmp_path / "gone", lr=0.5))
    tiny.train(tiny.arguments("quantizer", tmp_path / "run", data, number_of_epochs=1))


def test_more_epochs_train_more(data, run, tmp_path) -> None:
    shutil.copytree(run, tmp_path / "run")
    log = tmp_path / "run" / "train_log.txt"
    two = log.read_text()
    tiny.train(tiny.arguments("quantizer", tmp_path / "run", data, number_of_epochs=3))
    assert two.count("epoch: ") == 2
    assert log.read_text().startswith(two) and "epoch: 3," in log.read_text()
    assert log.read_text().count("epoch: ") == 3


def test_refusal_as_a_user_sees_it(data, run) -> None:
    log = (run / "train_log.txt").read_text()
    argv = tiny.arguments("quantizer", run, data, lr=0.002)
    refused = subprocess.run(
        [sys.executable, "train.py", *argv], cwd=tiny.RECIPE, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr.count("error:") == 1 and "Traceback" not in refused.stderr
    assert "started with lr=0.001, now lr=0.002" in refused.stderr.splitlines()[-1]
    assert (run / "train_log.txt").read_text() == log
