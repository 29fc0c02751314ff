"""Code and YAML that several recipes contain stay equal in all of them."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from focalcodec.training.run.config import BASE_KEY
from focalcodec.training.run.folder import knobs_of
from tests.unit.training import tiny

SCRIPTS = sorted(tiny.RECIPES.glob("*/train.py"))
FOLDERS = [script.parent for script in SCRIPTS]
YAMLS = sorted(path for folder in FOLDERS for path in (folder / "hparams").glob("**/*.yaml"))
BASES = [path for path in YAMLS if f"\n{BASE_KEY}:" not in path.read_text(encoding="utf-8")]

DATA = {"data_folder", "prepare", "group_by", "temperature"}
"""Each corpus has its own."""
SPLITS = {"tr_splits", "dev_splits", "te_splits", "extra_sets"}
LANGUAGES = {"languages", "splits", "unlabelled", "segment_seconds"}
MIXTURES = {"num_speakers", "mixture", "target", "mode", "librispeech_folder", "mixer"} | {
    *("noise_folder", "babble_share", "snr_db", "reverb_share", "rooms"),
}
TEXTS = {"vocab_size", "text_model", "character_coverage", "language", "beam_size"}
TASK = {"name", "task", "probe", "brain", "best_checkpoint"}
"""Keys of a probe: its prediction and its network."""

PAIRS = [
    ("LibriSpeech/focalcodec_50hz", "VoxPopuli/focalcodec_50hz", DATA | SPLITS | LANGUAGES),
    ("LibriSpeech/focalcodec_50hz", "LibriMix/focalcodec_50hz", DATA | SPLITS | MIXTURES),
    (
        "LibriSpeech/focalcodec_50hz",
        "LibriSpeech/streaming/causal_50hz_4k",
        {"name", "lr", "betas", "encoder", "encoder_source", "distilled", "window_size", "modules"}
        | {"code_dim", "hidden_dims", "reversed_hidden_dims", "focal_window"}
        | {"downscale_factors", "upscale_factors", "voice_tokens"},
    ),
    (
        "LibriSpeech/streaming/causal_50hz_4k",
        "LibriSpeech/streaming/joint_50hz_4k",
        {"name", "encoder", "encoder_source", "distilled", "quantizer_source", "lookahead_size"}
        | {"modules", "freeze", "brain"},
    ),
    ("LibriSpeech/vocos_16khz", "VoxPopuli/vocos_16khz", DATA | SPLITS | LANGUAGES),
    (
        "LibriSpeech/vocos_16khz",
        "LibriMix/vocos_16khz",
        DATA | SPLITS | MIXTURES | {"mixture_share"},
    ),
    ("LibriSpeech/asr", "VoxPopuli/asr", DATA | SPLITS | LANGUAGES | {"vocab_size"}),
    (
        "LibriSpeech/sid",
        "IEMOCAP/emotion",
        DATA
        | SPLITS
        | {"name", "task", "label", "brain"}
        | {"shares", "corpus", "test_actor", "valid_share", "test_share"},
    ),
    (
        "LibriSpeech/asr",
        "LibriSpeech/sid",
        DATA | SPLITS | TEXTS | TASK | {"label", "shares", "split_seed"},
    ),
    (
        "LibriSpeech/asr",
        "LibriMix/enhancement",
        DATA
        | SPLITS
        | MIXTURES
        | TASK
        | (TEXTS - {"language"})
        | {"source", "targets", "panel", "judge_clips"},
    ),
    (
        "LibriSpeech/resynthesis",
        "VoxPopuli/resynthesis",
        DATA | SPLITS | LANGUAGES | {"max_clips"},
    ),
    ("LibriSpeech/resynthesis", "LibriMix/denoising", DATA | SPLITS | MIXTURES | {"name", "task"}),
]
"""Two bases, and the keys that may differ or that one of them lacks."""


def name_of(path: Path) -> str:
    return str(path.relative_to(tiny.RECIPES))


def recipe_of(path: Path) -> Path:
    """Folder of the recipe of a YAML."""
    return next(folder for folder in FOLDERS if folder in path.parents)


def every(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


def keys_of(name: str) -> dict[str, Any]:
    """Top-level keys of a base with their whole values."""
    folder, stem = name.split("/", 1)
    tree = tiny.read_yaml(tiny.RECIPES / folder / "hparams" / f"{stem}.yaml")
    return {key: dict(knobs_of(tree[key], key)) for key in tree}


def comments_of(name: str) -> dict[str, str]:
    """Comment beside each top-level key that has one."""
    folder, stem = name.split("/", 1)
    lines = (tiny.RECIPES / folder / "hparams" / f"{stem}.yaml").read_text().splitlines()
    pairs = [line.split(" # ", 1) for line in lines if line[:1].isalpha() and " # " in line]
    return {left.partition(":")[0]: right for left, right in pairs}


# -- train.py and brains.py ------------------------------------------------------------------------


@every(SCRIPTS)
def test_train_is_the_same_code_in_each_recipe(path: Path) -> None:
    def code(script: Path) -> str:
        """The text below the docstring, comments too."""
        text = script.read_text(encoding="utf-8")
        lines = text.splitlines()
        return "\n".join(lines[ast.parse(text).body[0].end_lineno :])

    assert code(path) == code(tiny.RECIPE / "train.py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None and "\npython train.py hparams/" in docstring


@every(FOLDERS)
def test_recipe_shows_forward_pass_and_losses(path: Path) -> None:
    trees = map(tiny.read_yaml, sorted((path / "hparams").glob("**/*.yaml")))
    named = {str(tree["brain"].tag.value) for tree in trees if "brain" in tree}
    assert named
    with tiny.recipe_modules(path):
        for module, _, name in (tag.removeprefix("!name:").partition(".") for tag in named):
            brain = getattr(importlib.import_module(module), name)
            # A variant may be built on another Brain of the folder.
            files = {
                each: sys.modules[each.__module__].__file__ or "" for each in brain.__mro__[:-1]
            }
            shown = {key for each, file in files.items() if str(path) in file for key in vars(each)}
            assert {"compute_forward", "compute_objectives"} <= shown, name
    tree = ast.parse((path / "brains.py").read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert classes
    assert all((node.end_lineno or 0) - node.lineno <= 75 for node in classes)


CLASSES = [
    ("LibriSpeech/QuantizerBrain", "VoxPopuli/QuantizerBrain", set()),
    ("LibriSpeech/QuantizerBrain", "LibriMix/QuantizerBrain", {"compute_forward"}),
    ("LibriSpeech/VocoderBrain", "VoxPopuli/VocoderBrain", set()),
    ("LibriSpeech/VocoderBrain", "LibriMix/VocoderBrain", {"compute_forward"}),
    ("LibriSpeech/ASRBrain", "VoxPopuli/ASRBrain", set()),
    ("LibriSpeech/SpeakerBrain", "IEMOCAP/EmotionBrain", set()),
]
"""Two Brains, and the methods that differ."""


def methods_of(name: str) -> dict[str, str]:
    """Code of each method of a recipe's Brain, without docstrings and comments."""
    recipe, brain = name.split("/")
    tree = ast.parse((tiny.RECIPES / recipe / "brains.py").read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == brain)
    methods = [node for node in found.body if isinstance(node, ast.FunctionDef)]
    bodies = {
        method.name: method.body[ast.get_docstring(method) is not None :] for method in methods
    }
    return {key: ast.unparse(ast.Module(body, [])) for key, body in bodies.items()}


@pytest.mark.parametrize(("ours", "theirs", "own"), CLASSES)
def test_brains_share_their_code(ours: str, theirs: str, own: set[str]) -> None:
    first, second = methods_of(ours), methods_of(theirs)
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    assert differing == own


# -- hparams/ --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "theirs", "own"), PAIRS)
def test_blocks_are_equal(ours: str, theirs: str, own: set[str]) -> None:
    first, second = keys_of(ours), keys_of(theirs)
    differing = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    assert differing <= own
    # A key that does not differ any more must be removed from the list above.
    assert own - differing <= DATA | SPLITS | LANGUAGES | MIXTURES
    # In the same order, with the same comments.
    shared = [key for key in first if key not in own]
    assert shared == [key for key in second if key not in own]
    notes, others = comments_of(ours), comments_of(theirs)
    assert {k: notes[k] for k in notes.keys() & set(shared)} == {
        k: others[k] for k in others.keys() & set(shared)
    }


READ_ALONE = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, ".")
from focalcodec.packages import ensure_torchaudio
ensure_torchaudio()
import torch
from hyperpyyaml import load_hyperpyyaml
for path in sys.argv[1:]:
    text = open(path, encoding="utf-8").read()
    given = {"data_folder": "x"} if "\\ndata_folder:" in text else {}
    with torch.device("meta"):
        hparams = load_hyperpyyaml(text, given)
    assert given.items() <= hparams.items(), path
print(len(sys.argv) - 1, "read")
"""


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_bases_are_plain_hyperpyyaml(folder: Path) -> None:
    """`load_hyperpyyaml` alone reads each of them, in the recipe's folder."""
    bases = [str(path) for path in BASES if recipe_of(path) == folder]
    done = subprocess.run(
        [sys.executable, "-c", READ_ALONE, *bases],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith(f"{len(bases)} read\n") and bases


@every(YAMLS)
def test_delta_stays_in_its_folder(path: Path) -> None:
    levels = -1
    below: Path | None = path
    while below is not None:
        levels += 1
        assert "!include" not in below.read_text(encoding="utf-8")
        base = YAML().load(below.read_text(encoding="utf-8")).get(BASE_KEY)
        assert base is None or (isinstance(base, str) and Path(base).suffix == ".yaml")
        following = None if base is None else (below.parent / base).resolve()
        assert following is None or recipe_of(path).resolve() in following.parents
        below = following
    assert levels <= 2


@every(YAMLS)
def test_steps_of_a_schedule_are_computed(path: Path) -> None:
    assert "total_steps" not in path.read_text(encoding="utf-8")
