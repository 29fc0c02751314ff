"""Each YAML of the recipe, run for some steps as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from focalcodec.training.config import load_config, resolve_config
from tests.unit.training import tiny

RECIPE = Path(__file__).parents[2] / "recipes" / "LibriSpeech"
YAMLS = sorted(  # those of train.py
    path for path in (RECIPE / "hparams").glob("*.yaml") if "resynthesis" not in path.stem
)
FULL_SIZE = [path for path in YAMLS if not path.stem.endswith("_mini")]

# The published models, less 88,708,240 of the encoder and, in stage 1, 16,843,266 of the decoder.
PARAMETERS = {
    "focalcodec_50hz": 142_126_257 - 88_708_240 - 16_843_266,
    "focalcodec_25hz": 144_223_409 - 88_708_240 - 16_843_266,
    "focalcodec_12_5hz": 145_271_985 - 88_708_240 - 16_843_266,
    "vocos_16khz": 16_843_266,
}
RATES = {"50hz": [1, 1, 1], "25hz": [2, 1, 1], "12_5hz": [2, 2, 1]}


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny WavLM with random weights, as `transformers` saves it."""
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=7,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        num_buckets=32,
        max_bucket_distance=80,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
    )
    folder = tmp_path_factory.mktemp("wavlm")
    WavLMModel(config).save_pretrained(folder)
    return folder


def smaller(yaml: Path, wavlm: Path) -> list[str]:
    """What makes a few steps of it fit a test."""
    text = resolve_config(yaml)
    options = ["--debug", "--debug_epochs=1", "--batch_size=2", "--num_workers=0"]
    options += ["--sample_clips=0"]
    if "encoder_source" in text:
        options += [f"--encoder_source={wavlm}", "--feature_dim=16"]
    if "code_dim" in text:
        options += ["--hidden_dims=[8, 8, 8]", "--reversed_hidden_dims=[8, 8, 8]"]
    else:
        options += ["--modules={decoder: {num_layers: 1, dim: 8, ffn_dim: 8}}"]
        options += ["--discriminator_divisor=32"]
        options += ["--adversarial_start_step=1"]
    return options


@pytest.mark.parametrize("yaml", YAMLS, ids=lambda path: path.stem)
def test_runs_as_a_user_runs_it(yaml: Path, wavlm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run(f"hparams/{yaml.name}", f"--output_folder={folder}", *smaller(yaml, wavlm))
    assert done.returncode == 0, done.stderr[-3000:]
    said = [line for line in done.stdout.splitlines() if "embedded mini corpus is used" in line]
    assert len(said) == 1
    log = (folder / "train_log.txt").read_text().splitlines()
    assert len(log) == 1
    assert "nan" not in "".join(log)
    assert "| test" in done.stdout and "loss" in done.stdout
    assert {"hyperparams.yaml", "log.txt", "results.json", yaml.name} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.parametrize("yaml", FULL_SIZE, ids=lambda path: path.stem)
def test_sizes_are_the_papers(yaml: Path) -> None:
    with torch.device("meta"):
        modules = load_config(yaml, "mel_loss: null" if "vocos" in yaml.stem else "")["modules"]
    learned = {name: module for name, module in modules.items() if name != "discriminator"}
    tensors = [t for module in learned.values() for t in module.state_dict().values()]
    assert sum(t.numel() for t in tensors) == PARAMETERS[yaml.stem]


@pytest.mark.parametrize("yaml", [p for p in YAMLS if "focalcodec" in p.stem], ids=lambda p: p.stem)
def test_names_tell_the_rate(yaml: Path) -> None:
    rate = yaml.stem.removeprefix("focalcodec_").removesuffix("_mini")
    compressor = YAML().load(resolve_config(yaml))["modules"]["compressor"]
    decompressor = YAML().load(resolve_config(yaml))["modules"]["decompressor"]
    assert compressor["downscale_factors"] == RATES[rate]
    assert decompressor["upscale_factors"] == RATES[rate][::-1]


@pytest.mark.parametrize("yaml", YAMLS, ids=lambda path: path.stem)
def test_header_and_length(yaml: Path) -> None:
    lines = yaml.read_text().splitlines()
    assert len(lines) < 80
    header = "\n".join(line for line in lines[:10] if line.startswith("#"))
    assert re.search(rf"^#\s+python train\.py hparams/{re.escape(yaml.name)}\b", header, re.M)
    name = tiny.read_yaml(yaml)["name"]
    assert name == yaml.stem


@pytest.mark.parametrize("full", FULL_SIZE, ids=lambda path: path.stem)
def test_each_has_a_mini(full: Path) -> None:
    mini = full.with_name(f"{full.stem}_mini.yaml")
    assert mini in YAMLS
    assert "encoder_source" not in resolve_config(mini)


def test_without_wavlm_the_error_names_the_way_out(tmp_path: Path) -> None:
    cache = {"HF_HOME": str(tmp_path / "empty")}
    done = subprocess.run(
        [sys.executable, "train.py", "hparams/focalcodec_50hz.yaml"]
        + ["--output_folder", str(tmp_path / "run"), "--hidden_dims", "[8, 8, 8]"]
        + ["--reversed_hidden_dims", "[8, 8, 8]"],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        env={**os.environ, **cache, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "microsoft/wavlm-large" in line
    assert "local folder" in line and "mini configuration" in line
    assert not (tmp_path / "run" / "save").exists()
