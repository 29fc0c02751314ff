"""Each YAML of each recipe, run for some steps as a user runs it."""

from __future__ import annotations

import json
import math
import re
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.codec import FocalCodec
from focalcodec.encoders.logmel import LogMel
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.training.run.config import load_config, read_tree, resolve_config
from focalcodec.vocos import Vocos
from tests.scripts import run_script
from tests.unit.training import tiny

ROOT = Path(__file__).parents[2]
# those of hparams/improvements: test_improvements.py
YAMLS = sorted(
    path
    for path in (ROOT / "recipes").glob("*/hparams/**/*.yaml")
    if path.parent.name != "improvements"
)


def recipe_of(path: Path) -> Path:
    """The recipe's folder."""
    return next(folder.parent for folder in path.parents if folder.name == "hparams")


def script_of(path: Path) -> str:
    """The script in the command at the top of a YAML."""
    name = re.escape(str(path.relative_to(recipe_of(path))))
    command = rf"^#\s+python (\w+\.py) {name}(?!\S)"
    found = re.search(command, path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{path}: no command that runs it"
    return found[1]


EVALUATIONS = [path for path in YAMLS if script_of(path) == "evaluate.py"]
# YAMLs of the demo codec have other sizes: test_demo_yamls.py
DEMO = [path for path in YAMLS if recipe_of(path).name == "Demo" and script_of(path) == "train.py"]
# and those of the causal chain start from each other: test_streaming_recipes.py
CHAIN = [path for path in YAMLS if path.parent.name == "streaming"]
# rows of the ablations: test_ablations.py
ROWS = [path for path in YAMLS if path.parent == ROOT / "recipes/LibriSpeech/hparams/ablations"]
# language models of tokens, and text to speech: test_lm_recipes.py, test_aligned_recipe.py
LMS = [path for path in YAMLS if {"lm", "tts"} & {*read_tree(path)}]
APART = [*DEMO, *CHAIN, *ROWS, *LMS]
TRAININGS = [path for path in YAMLS if script_of(path) == "train.py" and path not in APART]
FULL_SIZE = [path for path in TRAININGS if not re.search("_mini$|_demo", path.stem)]
PROBES = [path for path in TRAININGS if "probe" in read_tree(path)]
CODECS = [path for path in FULL_SIZE if path not in PROBES]
CODEC = ROOT / "tests" / "data" / "golden" / "tiny_50hz"

# The published models, less 88,708,240 of the encoder and, in stage 1, 16,843,266 of the decoder.
PARAMETERS = {
    1: 142_126_257 - 88_708_240 - 16_843_266,
    2: 144_223_409 - 88_708_240 - 16_843_266,
    4: 145_271_985 - 88_708_240 - 16_843_266,
}
VOCOS_PARAMETERS = 16_843_266
RATES = {"50hz": [1, 1, 1], "25hz": [2, 1, 1], "12_5hz": [2, 2, 1]}


def name_of(path: Path) -> str:
    return f"{recipe_of(path).name}-{path.stem}"


def every(yamls: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("yaml", yamls, ids=name_of)


def run(script: str, yaml: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run_script(recipe_of(yaml), script, str(yaml), *options)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec with the sizes of `smaller`, for `init_from`."""
    torch.manual_seed(0)
    narrow = {"hidden_dims": [8, 8, 8], "focal_window": 7, "focal_factor": 2}
    codec = FocalCodec(
        LogMel(n_mels=16),
        FocalEncoder(input_dim=16, output_dim=13, downscale_factors=[1, 1, 1], **narrow),
        BinarySphericalQuantizer(codebook_size=2**13),
        FocalDecoder(input_dim=13, output_dim=16, upscale_factors=[1, 1, 1], **narrow),
        Vocos(input_dim=16, num_layers=1, dim=8, ffn_dim=8, n_fft=1024, hop_length=320),
    )
    folder = tmp_path_factory.mktemp("source") / "codec"
    codec.eval().save_pretrained(folder)
    return folder


def encoder_of(tree: Any) -> str:
    """A YAML's encoder and its arguments, as text."""
    text = StringIO()
    YAML().dump({"encoder": tree["encoder"]}, text)
    return text.getvalue()


SHORT = ["--debug", "--debug_epochs=1", "--batch_size=2", "--num_workers=0", "--sample_clips=0"]


def smaller(tree: Any, wavlm: Path) -> list[str]:
    """Options that make a model small enough for a test."""
    options = ["--feature_dim=16"]
    if "encoder_source" in encoder_of(tree):
        options += [f"--encoder_source={wavlm}"]
    if "code_dim" in tree:
        options += ["--hidden_dims=[8, 8, 8]", "--reversed_hidden_dims=[8, 8, 8]"]
    else:
        options += ["--modules={decoder: {num_layers: 1, dim: 8, ffn_dim: 8}}"]
        options += ["--discriminator_divisor=32"]
        options += ["--adversarial_start_step=1"]
    return options


@every([path for path in TRAININGS if path not in PROBES])
def test_trains_as_a_user_runs_it(yaml: Path, wavlm: Path, source: Path, tmp_path: Path) -> None:
    folder, tree = tmp_path / "run", read_tree(yaml)
    tuned = tree["init_from"] is not None or yaml.stem.startswith("finetune")
    # Fine-tuning has the sizes of its source; demo is there in a fresh clone.
    options = [f"--init_from={source}"] if tuned else smaller(tree, wavlm)
    options = [] if tree["init_from"] == "demo" else options
    done = run("train.py", yaml, f"--output_folder={folder}", *SHORT, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [line for line in done.stdout.splitlines() if "embedded mini corpus is used" in line]
    assert len(said) == 1
    log = (folder / "train_log.txt").read_text().splitlines()
    assert len(log) == 1
    assert "nan" not in "".join(log)
    assert " test |" in done.stdout and "loss" in done.stdout
    assert {"hyperparams.yaml", "log.txt", "results.json", "brains.py", yaml.name} <= {
        path.name for path in folder.iterdir()
    }
    rows = json.loads((folder / "results.json").read_text()).keys()
    assert ("test before" in rows) == tuned
    assert any(row.startswith("test-") for row in rows) or tree["group_by"] is None


@every(EVALUATIONS)
def test_evaluates_as_a_user_runs_it(yaml: Path, tmp_path: Path) -> None:
    options = [f"--output_folder={tmp_path}", "--panel=none", "--max_clips=2", "--jobs=1"]
    options += [f"--codecs=[original, {{mine: {CODEC}}}]", "--speed_clips=0", "--device=cpu"]
    if read_tree(yaml).get("own_data") is not None:  # `own_data` of a run that does not exist
        options += [f"--own_data={ROOT / 'corpus' / 'LibriSpeech' / 'dev-mini'}"]
    tree = read_tree(yaml)
    sets = tree["sets"]
    if str(getattr(tree.get("old_data"), "tag", "")) == "!PLACEHOLDER":
        options += [f"--old_data={ROOT / 'corpus' / 'LibriSpeech' / 'test-real'}"]
    elif not yaml.stem.endswith(("_mini", "_demo")):  # test-clean is not there
        options += ["--sets=[{name: test, kind: real}]"]
        sets = sets[:1]
    done = run("evaluate.py", yaml, "--report=False", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.glob("*/mine/card.json"))) >= len(sets)


@every(PROBES)
def test_probes_as_a_user_runs_it(yaml: Path, tmp_path: Path) -> None:
    folder, tree = tmp_path / "run", read_tree(yaml)
    options = ["--debug", "--debug_epochs=1", "--batch_size=2", "--num_workers=0", "--dim=8"]
    options += [f"--codec={CODEC}", f"--token_folder={tmp_path / 'tokens'}"]
    options += ["--bootstrap_samples=20", f"--output_folder={folder}"]
    if "targets" in tree:
        narrow = {"dim": 8, "num_layers": 1, "num_heads": 2, "ffn_dim": 8}
        options += ["--panel=none", f"--probe={tiny.flow(narrow)}"]
    else:
        options += [f"--probe={tiny.flow({'hidden_dim': 8, 'num_layers': 1})}"]
    if "text_model" in tree:
        options += ["--text_model=char"]  # so few texts have no thousand pieces
    done = run("train.py", yaml, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "embedded mini corpus is used" in done.stdout
    assert "nan" not in (folder / "train_log.txt").read_text()
    cards = [json.loads(path.read_text()) for path in folder.glob("*/card.json")]
    assert cards and {card["task"] for card in cards} == {tree["task"]}
    rows = json.loads((folder / "results.json").read_text()).keys()
    assert any(row.startswith("test-") for row in rows) or tree["group_by"] is None


@every([path for path in PROBES if path in FULL_SIZE])
def test_probes_are_the_papers(yaml: Path) -> None:
    tree = read_tree(yaml)
    assert (tree["dim"], tree["batch_size"], tree["lr"], tree["max_grad_norm"]) == (
        512,
        16,
        0.0001,
        0.01,
    )


@every(CODECS)
def test_sizes_are_the_papers(yaml: Path) -> None:
    tree, nothing = read_tree(yaml), "prepare: null\nbrain: null\nmixer: null"
    with torch.device("meta"):
        modules = load_config(yaml, nothing + ("\nmel_loss: null" if "mel_loss" in tree else ""))[
            "modules"
        ]
    learned = {name: module for name, module in modules.items() if name != "discriminator"}
    tensors = [t for module in learned.values() for t in module.state_dict().values()]
    expected = VOCOS_PARAMETERS
    if "downscale_factors" in tree:
        expected = PARAMETERS[math.prod(tree["downscale_factors"])]
    assert sum(t.numel() for t in tensors) == expected


RATED = [
    path
    for path in TRAININGS + DEMO + CHAIN
    if "_".join(path.stem.split("_")[1:]).startswith(tuple(RATES))
]


@every(RATED)
def test_names_contain_the_rate(yaml: Path) -> None:
    modules = YAML().load(resolve_config(yaml))["modules"]
    rate = next(rate for rate in RATES if f"_{rate}" in yaml.stem)
    down, up = (
        modules[part][f"{way}scale_factors"]
        for part, way in (("compressor", "down"), ("decompressor", "up"))
    )
    assert up == down[::-1] and math.prod(down) == math.prod(RATES[rate])
    assert down == RATES[rate] or len(down) != 3


@every(YAMLS)
def test_header_and_length(yaml: Path) -> None:
    lines, tree = yaml.read_text().splitlines(), tiny.read_yaml(yaml)
    assert len(lines) <= (45 if "__base__" in tree else 150)
    assert (recipe_of(yaml) / script_of(yaml)).is_file()
    assert any(script_of(yaml) in line for line in lines[:10])
    # A generator's name is that of the corpus it makes.
    assert tree["name"] == yaml.stem or script_of(yaml) == "generate.py"


@every(FULL_SIZE)
def test_each_has_a_mini(yaml: Path) -> None:
    mini = yaml.with_name(f"{yaml.stem}_mini.yaml")
    assert mini in TRAININGS
    assert "wavlm" not in encoder_of(read_tree(mini))


def test_without_wavlm_the_error_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    yaml = ROOT / "recipes" / "LibriSpeech" / "hparams" / "focalcodec_50hz.yaml"
    small = ("--hidden_dims=[8, 8, 8]", "--reversed_hidden_dims=[8, 8, 8]")
    done = run("train.py", yaml, f"--output_folder={tmp_path / 'run'}", *small)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "microsoft/wavlm-large" in line
    assert "local folder" in line and "mini configuration" in line
    assert not (tmp_path / "run" / "save").exists()
