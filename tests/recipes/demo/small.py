"""Tiny Brains and runs of recipes/Demo in this process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch.utils.data import DataLoader

from focalcodec.training.brain import CodecBrain
from focalcodec.training.run.config import load_config
from focalcodec.training.run.folder import RunFolder
from focalcodec.training.run.start import load_start
from tests.unit.training import tiny

RECIPE = tiny.RECIPES / "Demo"
YAMLS = {
    "distill": "distill_encoder.yaml",
    "quantizer": "ablations/demo_50hz.yaml",
    "joint": "demo_50hz_joint.yaml",
    "words": "demo_50hz_words.yaml",
    "mel": "ablations/demo_50hz_mel.yaml",
    "vocoder": "demo_vocos_gan.yaml",
    "tuned": "ablations/demo_vocos_tuned.yaml",
    "voice": "ablations/demo_vocos_speaker.yaml",
    "speaker": "ablations/speaker_encoder.yaml",
}
_RUN = {
    "number_of_epochs": 1,
    "batch_size": 2,
    "valid_batch_size": 2,
    "sample_clips": 0,
    "sample_interval_epochs": 1,
    "lr": 0.001,
    "lr_scheduler": "!name:torch.optim.lr_scheduler.LinearLR {start_factor: 1.0, total_iters: 100}",
    "tr_splits": ["train"],
    "dev_splits": ["dev"],
    "te_splits": ["test"],
    "min_seconds": 0.5,
}
_TEACHER = {"feature_dim": 8, "encoder": "!name:focalcodec.encoders.logmel.LogMel {n_mels: 8}"}
_QUANTIZER = _TEACHER | {
    "hidden_dims": [4, 4, 4],
    "reversed_hidden_dims": [4, 4, 4],
    "code_dim": 4,
}
_DECODER = {"num_layers": 1, "dim": 8, "ffn_dim": 8}
_VOCODER = _TEACHER | {
    "modules": {"decoder": _DECODER, "discriminator": {"windows": [64, 128]}},
    "crop_frames": 20,
    "init_from": None,
    "replace_encoder": False,
}
_JOINT = _QUANTIZER | {
    "hidden_dims": [8, 8],
    "reversed_hidden_dims": [8, 8],
    "quantizer_source": None,
    "modules": {"student": _DECODER},
}
_STAGES: dict[str, dict[str, Any]] = {
    "distill": _TEACHER | {"modules": {"student": _DECODER}},
    "quantizer": _QUANTIZER,
    "joint": _JOINT,
    "words": _JOINT,
    "mel": _QUANTIZER | {"mel_crop_frames": 20},
    "vocoder": _VOCODER,
    "voice": _VOCODER | {"crop_frames": 50, "min_seconds": 1.0},
    "tuned": {"modules": _VOCODER["modules"], "crop_frames": 20, "feature_dim": 8},
    "speaker": {
        "batch_size": 4,
        "number_of_epochs": 2,
        "embedding_dim": 8,
        "max_speakers": 5,
        "lr": 0.01,
        "modules": {"speaker": {"num_layers": 1, "dim": 16, "ffn_dim": 16}},
    },
}


def module(name: str) -> Any:
    """A module of the recipe, such as ablations."""
    return tiny.recipe_module(name, RECIPE)


def knobs(stage: str, **changes: Any) -> dict[str, Any]:
    """Knobs of a run of a few steps."""
    return _RUN | _STAGES[stage] | changes


def train(stage: str, output: Path, data: Path, pictures: bool = False, **changes: Any) -> Path:
    """Train a YAML; return the run's folder."""
    argv = [f"hparams/{YAMLS[stage]}", f"--output_folder={output}", f"--data_folder={data}"]
    argv += [f"--{key}={tiny.flow(value)}" for key, value in knobs(stage, **changes).items()]
    tiny.train(argv, pictures, RECIPE)
    return output


def make_brain(
    stage: str, folder: Path, data: Path, **changes: Any
) -> tuple[CodecBrain, DataLoader, DataLoader]:
    """A Brain with the seed's random weights, its training and its validation set."""
    values = knobs(stage, **changes, output_folder=str(folder))
    text = "\n".join(f"{key}: {tiny.flow(value)}" for key, value in values.items())
    with tiny.recipe_modules(RECIPE):
        hparams = load_config(RECIPE / "hparams" / YAMLS[stage], text)
        start = load_start(hparams)
        train_set = tiny.loader(tiny.clips(data, "train"), hparams["batch_size"], drop_last=True)
        dev = tiny.clips(data, "dev")
        valid_set = tiny.loader(dev, hparams["valid_batch_size"], sorting="ascending")
        loaders = SimpleNamespace(train=train_set, valid=valid_set, cache=None, samples=[], sets={})
        run_folder = RunFolder(folder)
        run_folder.monitor = tiny.QuietMonitor(folder)
        options = {"noprogressbar": True}
        brain = hparams["brain"](start.encoder, loaders, run_folder, hparams, options)
        brain.start_from(start)
    return brain, train_set, valid_set
