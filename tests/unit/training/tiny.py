"""Tiny corpora, Brains and runs in this process, for the tests of the training loop."""

from __future__ import annotations

import importlib
import logging
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch.utils.data import DataLoader

from focalcodec.data.corpus import PrepareOptions, SetSource
from focalcodec.data.dataset import AudioBatch, AudioDataset, pad_collate
from focalcodec.data.librispeech_tree import find_clips
from focalcodec.data.manifest import read_manifest
from focalcodec.data.prepare import prepare_sets
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.training import run
from focalcodec.training.brain import CodecBrain
from focalcodec.training.loop import TurnsBrain
from focalcodec.training.monitor import Monitor
from focalcodec.training.run.config import load_config
from focalcodec.training.run.folder import RunFolder
from focalcodec.training.run.start import Start

RECIPES = Path(__file__).parents[3] / "recipes"
RECIPE = RECIPES / "LibriSpeech"
SECONDS = {"train": [0.8, 0.9, 1.0, 1.1], "dev": [0.7, 1.0], "test": [0.6, 0.9]}

YAMLS = {
    "quantizer": "focalcodec_50hz_mini.yaml",
    "quantizer25": "focalcodec_25hz_mini.yaml",
    "quantizer12": "focalcodec_12_5hz_mini.yaml",
    "vocoder": "vocos_16khz_mini.yaml",
    "distill": "distill_encoder.yaml",
    "position": "streaming/causal_position_mini.yaml",
    "student": "streaming/causal_encoder_mini.yaml",
    "causal": "streaming/causal_50hz_4k_mini.yaml",
    "joint": "streaming/joint_50hz_4k_mini.yaml",
    "wavenext": "streaming/wavenext_24khz_mini.yaml",
}
_RUN = {
    "number_of_epochs": 2,
    "passes_per_epoch": 1,
    "batch_size": 2,
    "valid_batch_size": 2,
    "num_workers": 0,
    "sample_clips": 0,
    "feature_dim": 8,
    "lr": 0.001,
    "lr_scheduler": "!name:torch.optim.lr_scheduler.LinearLR {start_factor: 1.0, total_iters: 100}",
    "lr_scheduler_interval": "step",
    "tr_splits": ["train"],
    "dev_splits": ["dev"],
    "te_splits": ["test"],
    "extra_sets": {},
}
_QUANTIZER = {
    "hidden_dims": [4, 4, 4],
    "reversed_hidden_dims": [4, 4, 4],
    "code_dim": 4,
    "speed_perturb": None,
}
_VOCODER = {
    "modules": {"decoder": {"num_layers": 1, "dim": 8, "ffn_dim": 8}},
    "discriminator_divisor": 32,
    "adversarial_start_step": 0,
}
_DISTILL = {
    "encoder": "!name:focalcodec.encoders.logmel.LogMel {n_mels: 8}",
    "modules": {"student": {"num_layers": 1, "dim": 8, "ffn_dim": 8}},
    "warmup_steps": 1,
}


def flow(value: Any) -> str:
    """A value as a user types it on the command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return "null" if value is None else str(value)


WAVLM = {
    **{"hidden_dims": [8] * 7, "num_layers": 2, "ffn_dim": 8, "num_heads": 2},
    **{"num_buckets": 8, "max_distance": 16, "conv_pos": 4, "conv_pos_groups": 2},
}
TEACHER = {"encoder": f"!name:causal_brains.random_wavlm {flow({**WAVLM, 'dim': 8})}"}
_STUDENT = TEACHER | {"modules": {"student": WAVLM}, "window_size": 8}
_STAGES = {
    "vocoder": _VOCODER,
    "distill": _DISTILL,
    "position": _STUDENT,
    "student": _STUDENT | {"init_from": None},
    "causal": _QUANTIZER | {"window_size": 8},
    "joint": _QUANTIZER | _STUDENT | {"quantizer_source": None},
    "wavenext": TEACHER | _VOCODER | {"crop_frames": 20, "min_seconds": 0.5},
}


def knobs(stage: str, **changes: Any) -> dict[str, Any]:
    """Knobs of a run of a few steps."""
    return _RUN | _STAGES.get(stage, _QUANTIZER) | changes


def write_corpus(folder: Path, **splits: Sequence[float]) -> Path:
    """LibriSpeech's tree with clips of so many seconds, modulated noise."""
    import soundfile

    generator = np.random.default_rng(0)
    for split, lengths in (splits or SECONDS).items():
        chapter = folder / split / "1" / "2"
        chapter.mkdir(parents=True)
        for index, seconds in enumerate(lengths):
            time = np.arange(round(seconds * 16000)) / 16000
            pitch = np.sin(2 * np.pi * generator.uniform(90, 300) * time)
            sig = 0.3 * (pitch + 0.1 * generator.standard_normal(len(time)))
            soundfile.write(chapter / f"1-2-{index:04}.flac", sig.astype("float32"), 16000)
        lines = [f"1-2-{index:04} WORDS\n" for index in range(len(lengths))]
        (chapter / "1-2.trans.txt").write_text("".join(lines))
    return folder


def arguments(stage: str, output: Path, data: Path, *options: str, **changes: Any) -> list[str]:
    """Command line of such a run."""
    lines = [f"hparams/{YAMLS[stage]}", f"--output_folder={output}", f"--data_folder={data}"]
    for key, value in knobs(stage, **changes).items():
        lines.append(f"--{key}={flow(value)}")
    return [*lines, *options]


class QuietMonitor(Monitor):
    """Draws no curves, and writes nothing to TensorBoard."""

    def write_log(self, history: Any, before: Any = None) -> None:
        """Nothing."""

    def write_epoch(self, entry: Any) -> None:
        """Nothing."""

    def write_steps(self, stats: Any, step: int) -> None:
        """Nothing."""


@contextmanager
def recipe_modules(recipe: Path = RECIPE) -> Iterator[None]:
    """Make a recipe's own modules importable, and no module of another recipe."""
    path, recipes = sys.path[:], str(RECIPES)

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            if str(vars(module).get("__file__") or "").startswith(recipes):
                del sys.modules[name]

    forget()
    sys.path.insert(0, str(recipe))
    try:
        yield
    finally:
        sys.path[:] = path
        forget()


def recipe_module(name: str, recipe: Path = RECIPE) -> Any:
    """A module of a recipe, such as brains."""
    with recipe_modules(recipe):
        return importlib.import_module(name)


def train(argv: list[str], pictures: bool = False, recipe: Path = RECIPE) -> None:
    """Run a recipe's `train.py` in this process without changing its logging."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    # Drawing takes longer than such a run.
    drawn = "focalcodec.training.monitor"
    try:
        with ExitStack() as stack:
            for name in () if pictures else ("save_png", "training_curves_figure"):
                stack.enter_context(mock.patch(f"{drawn}.{name}"))
            stack.enter_context(recipe_modules(recipe))
            main = runpy.run_path(str(recipe / "train.py"))["main"]
            for line in run.command_lines([str(recipe / argv[0]), *argv[1:]]):
                main(line)
    finally:
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            handler.close()
        root.handlers, sys.excepthook = handlers, hook
        root.setLevel(level)


def clips(data: Path, split: str) -> list[dict[str, Any]]:
    """Manifest rows of a split."""
    manifests = data.parent / "manifests"
    prepare_sets(
        data, manifests, {f"the-{split}": SetSource([split], find_clips)}, PrepareOptions()
    )
    return read_manifest(manifests / f"the-{split}.csv", data)


def loader(rows: list[dict[str, Any]], batch_size: int, **options: Any) -> DataLoader:
    """Batches of rows, made as in a training."""
    dataset = AudioDataset(rows, 16000)
    sampler = EpochBatchSampler(dataset.durations, batch_size, seed=1, **options)
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=pad_collate)


def batch_of(rows: list[dict[str, Any]]) -> AudioBatch:
    """One padded batch of all rows."""
    batch = pad_collate(list(AudioDataset(rows, 16000)))
    assert batch is not None
    return batch


def brain_class(stage: str) -> type[CodecBrain]:
    """The recipe's Brain of a stage."""
    name = "VocoderBrain" if stage == "vocoder" else "QuantizerBrain"
    return getattr(recipe_module("brains"), name)


def load_hparams(stage: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Configuration of such a run; seeds the random weights of its modules."""
    lines = knobs(stage, **changes, output_folder=str(folder))
    with recipe_modules():
        return load_config(
            RECIPE / "hparams" / YAMLS[stage],
            "\n".join(f"{key}: {flow(value)}" for key, value in lines.items()),
        )


def make_brain(
    stage: str,
    folder: Path,
    data: Path,
    run_opts: dict[str, Any] | None = None,
    brain_class: type[CodecBrain] | None = None,
    **changes: Any,
) -> tuple[CodecBrain, DataLoader, DataLoader]:
    """A Brain with the seed's random weights, its training and its validation set."""
    hparams = load_hparams(stage, folder, **changes)
    train_set = loader(clips(data, "train"), hparams["batch_size"], drop_last=True)
    valid_set = loader(clips(data, "dev"), hparams["valid_batch_size"], sorting="ascending")
    loaders = SimpleNamespace(train=train_set, valid=valid_set, cache=None, samples=[], sets={})
    run_folder = RunFolder(folder)
    run_folder.monitor = QuietMonitor(folder)
    start = Start(hparams["encoder"]())
    options = {"noprogressbar": True, **(run_opts or {})}
    brain = (brain_class or hparams["brain"])(start.encoder, loaders, run_folder, hparams, options)
    brain.start_from(start)
    return brain, train_set, valid_set


def fit(brain: CodecBrain, train_set: DataLoader, valid_set: DataLoader) -> None:
    """Train as the YAML says."""
    brain.fit(brain.hparams.epoch_counter, train_set, valid_set)


def weights(brain: CodecBrain) -> dict[str, torch.Tensor]:
    """Copy of all parameters."""
    return {name: p.detach().clone() for name, p in brain.modules.named_parameters()}


def read_yaml(path: Path) -> Any:
    """YAML tree of a file."""
    return YAML().load(path.read_text())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], prefix: str = "") -> bool:
    """Whether all weights, or those with this prefix, are bit by bit the same."""
    return all(torch.equal(a[name], b[name]) for name in a if name.startswith(prefix))


class Killed(BaseException):
    """Ends a process."""


@contextmanager
def killed_after(count: int) -> Iterator[list[torch.Tensor]]:
    """Let a training die in its step `count`; the losses of the steps until then."""
    steps, step = [], TurnsBrain.fit_batch

    def dies(brain: Any, batch: Any) -> Any:
        steps.append(step(brain, batch))
        if len(steps) == count:
            raise Killed
        return steps[-1]

    with mock.patch.object(TurnsBrain, "fit_batch", dies), pytest.raises(Killed):
        yield steps
