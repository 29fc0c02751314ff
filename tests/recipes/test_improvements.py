"""Deltas of hparams/improvements/: Demo's train, export and load, in tiny sizes and this process.

Those of LibriSpeech have the same keys; here they are loaded and their keys checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.training.run import load_hparams
from focalcodec.training.run.config import read_tree
from focalcodec.training.run.export import export
from tests.unit.training import tiny

YAMLS = sorted(tiny.RECIPES.glob("*/hparams/improvements/*.yaml"))
TRAINED = [path for path in YAMLS if "Demo" in path.parts]
RUN: dict[str, Any] = {
    "number_of_epochs": 1,
    "passes_per_epoch": 1,
    "batch_size": 2,
    "valid_batch_size": 2,
    "num_workers": 0,
    "sample_clips": 0,
    "tr_splits": ["train"],
    "dev_splits": ["dev"],
    "te_splits": ["test"],
    "extra_sets": {},
    "lr_scheduler": "!name:torch.optim.lr_scheduler.LinearLR {start_factor: 1.0, total_iters: 9}",
}
ENCODER = {
    "feature_dim": 8,
    "encoder": "!name:focalcodec.encoders.logmel.LogMel {n_mels: 8}",
    "init_from": None,
    "replace_encoder": False,
}
WIDTHS = {"hidden_dims": [4, 4], "reversed_hidden_dims": [4, 4]}
DECODER = {"num_layers": 1, "dim": 8, "ffn_dim": 8}
FOR_DEMO = {"codec_input": "demo_50hz_small", "distilled": "distill_encoder"}
"""YAMLs of tiny runs in place of the codec of the package, for each key that names it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "corpus"
    tiny.write_corpus(folder, train=[1.2, 1.4, 1.6, 1.8], dev=[1.2, 1.3], test=[1.2])
    for path in sorted((folder / "train" / "1" / "2").iterdir()):  # a second speaker
        copy = folder / "train" / "2" / "2" / path.name.replace("1-2", "2-2", 1)
        copy.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        copy.write_bytes(content.replace(b"1-2-", b"2-2-") if path.suffix == ".txt" else content)
    return folder


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train a YAML of a recipe once, in tiny sizes; return the run's folder."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def make(recipe: str, name: str) -> Path:
        (yaml,) = (tiny.RECIPES / recipe / "hparams").rglob(f"{name}.yaml")
        tree, output, home = read_tree(yaml), folder / recipe / name, tiny.RECIPES / recipe
        knobs = RUN | {"output_folder": output, "data_folder": data} | small(tree)
        for key, source in sources(tree).items() if yaml in YAMLS else ():
            run = make(recipe, source)
            knobs[key] = {**tree[key], "source": run} if key == "codec_input" else run
        words = [f"--{key}={tiny.flow(value)}" for key, value in knobs.items() if key in tree]
        tiny.train([str(yaml.relative_to(home)), *words], recipe=home)
        return output

    return make


def small(tree: Any) -> dict[str, Any]:
    """Knobs that make a model small."""
    modules = tree["modules"]
    if "compressor" in modules:
        levels = len(tree["downscale_factors"])
        widths = {key: [4] * levels for key in WIDTHS}
        return ENCODER | widths | {"code_dim": 4, "speed_perturb": None, "min_seconds": 0.5}
    if "student" in modules:
        return ENCODER | {"modules": {"student": DECODER}}
    if "speaker" in modules:
        return {"modules": {"speaker": DECODER}, "max_speakers": 4}
    sizes = {"windows": [64]} if "windows" in modules["discriminator"] else {}
    return ENCODER | {
        "modules": {"decoder": DECODER, "discriminator": sizes},
        "discriminator_divisor": 32,
        "adversarial_start_step": 0,
    }


def sources(tree: Any) -> dict[str, str]:
    """Keys of a delta that name a run or the codec of the package, and the YAML of a run."""
    named = {key: tree[key] for key in ("distilled", "speaker_source") if key in tree}
    if tree.get("codec_input"):
        named["codec_input"] = tree["codec_input"]["source"]
    return {
        key: FOR_DEMO[key] if path == "demo" else Path(path).parent.name
        for key, path in named.items()
    }


def name_of(path: Path) -> str:
    return f"{path.relative_to(tiny.RECIPES).parts[0]}-{path.stem}"


@pytest.mark.parametrize("yaml", TRAINED, ids=name_of)
def test_trains_exports_and_loads(yaml: Path, made: Callable[..., Path], tmp_path: Path) -> None:
    recipe, tree = yaml.relative_to(tiny.RECIPES).parts[0], read_tree(yaml)
    run = made(recipe, yaml.stem)
    log = (run / "train_log.txt").read_text()
    assert len(log.splitlines()) == 1 and "nan" not in log
    assert all(name in log for name in tree["extra_losses"])
    first = run if "compressor" in tree["modules"] else made("Demo", "demo_25hz_voice")
    second = made("Demo", "vocos_codec_input") if first == run else run
    export(first, second, tmp_path / "codec")
    codec = FocalCodec.from_pretrained(tmp_path / "codec")
    sig = torch.randn(2, 16000)
    toks, lengths = codec.encode(sig, 16000, [16000, 9000])
    voice = codec.encode_voice(sig, 16000) if codec.voice_tokens else None
    assert (voice is not None) == ("voice" in first.name)
    assert torch.isfinite(codec.decode(toks, lengths, voice=voice)).all()


@pytest.mark.parametrize("yaml", YAMLS, ids=name_of)
def test_keys_and_header(yaml: Path) -> None:
    recipe, text = yaml.parents[2], yaml.read_text(encoding="utf-8")
    if yaml not in TRAINED:
        with tiny.recipe_modules(recipe):
            load_hparams([str(yaml)])
    assert f"#     python train.py {yaml.relative_to(recipe)} " in text.replace("\n", " \n")
    assert read_tree(yaml)["name"] == yaml.stem and len(text.splitlines()) <= 45
    if recipe.name == "LibriSpeech" and not yaml.stem.endswith("_mini"):
        assert yaml.with_name(f"{yaml.stem}_mini.yaml") in YAMLS
