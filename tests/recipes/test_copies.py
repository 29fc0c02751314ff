"""A copied recipe, and an experiment folder outside of the repository, run unchanged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from focalcodec.cli.main import main

ROOT = Path(__file__).parents[2]
TINY = [
    *("--debug", "--debug_epochs=1", "--batch_size=2", "--num_workers=0", "--sample_clips=0"),
    *("--feature_dim=8", "--hidden_dims=[8, 8, 8]", "--reversed_hidden_dims=[8, 8, 8]"),
]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder; of the repository, only the package can be imported."""
    package = folder.parent / "site-packages"
    if not package.exists():
        left_out = shutil.ignore_patterns("models", "__pycache__")
        shutil.copytree(ROOT / "focalcodec", package / "focalcodec", ignore=left_out)
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "my_recipe"
    assert main(["recipe", "copy", "LibriSpeech", str(folder)]) == 0
    return folder


def losses(output: str) -> str:
    """The table of results of a run."""
    return "\n".join(line for line in output.splitlines() if line.startswith("|"))


def test_a_copied_recipe_trains_with_a_changed_knob_and_a_changed_loss(recipe: Path) -> None:
    yaml, brains = recipe / "hparams" / "focalcodec_50hz_mini.yaml", recipe / "brains.py"
    data = f"--data_folder={ROOT / 'corpus' / 'LibriSpeech'}"
    before = run(recipe, "train.py", str(yaml), data, "--output_folder=before", *TINY)
    assert before.returncode == 0, before.stderr[-3000:]
    yaml.write_text(yaml.read_text().replace("lr: 0.002", "lr: 0.001"))
    squared = "self.hparams.feature_loss(out.qfeats, out.targets)"
    assert brains.read_text().count(squared) == 1
    brains.write_text(brains.read_text().replace(squared, f"{squared}.sqrt()"))
    after = run(recipe, "train.py", str(yaml), data, "--output_folder=after", *TINY)
    assert after.returncode == 0, after.stderr[-3000:]
    assert losses(before.stdout) and losses(after.stdout) != losses(before.stdout)
    # The run's folder has a copy of the code of the training.
    assert ".sqrt()" in (recipe / "after" / "brains.py").read_text()
    assert "0.001" in (recipe / "after" / "hyperparams.yaml").read_text()


def test_without_data_the_error_names_the_missing_option(recipe: Path) -> None:
    done = run(recipe, "train.py", "hparams/vocos_16khz_mini.yaml", "--output_folder=nothing")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "--data_folder" in line


PARTS = '''
from focalcodec.focalnet import FocalEncoder


class MyCompressor(FocalEncoder):
    """A user's compressor."""

    def forward(self, feats, *state, lengths=None):
        print("my compressor", flush=True)
        return super().forward(feats, *state, lengths=lengths)
'''
BRAIN = '''
from brains import QuantizerBrain


class MyBrain(QuantizerBrain):
    """A user's loss with its own knob."""

    def total_loss(self, feature_loss, sample_entropy, codebook_entropy):
        return self.hparams.my_weight * feature_loss
'''


def test_an_experiment_folder_needs_no_pythonpath(recipe: Path) -> None:
    folder = recipe.parent / "my_experiment"
    folder.mkdir()
    (folder / "my_parts.py").write_text(PARTS)
    (folder / "my_brain.py").write_text(BRAIN)
    (folder / "mine.yaml").write_text(
        "__base__: ../my_recipe/hparams/focalcodec_50hz_mini.yaml\n"
        "name: mine\n"
        "my_weight: 2.0\n"
        "brain: !name:my_brain.MyBrain\n"
        "modules:\n"
        "    compressor: !new:my_parts.MyCompressor\n"
        "        input_dim: !ref <feature_dim>\n"
        "        output_dim: !ref <code_dim>\n"
        "        hidden_dims: !ref <hidden_dims>\n"
        "        downscale_factors: !ref <downscale_factors>\n"
    )
    data = f"--data_folder={ROOT / 'corpus' / 'LibriSpeech'}"
    done = run(folder, "../my_recipe/train.py", "mine.yaml", data, "--output_folder=out", *TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "my compressor" in done.stdout
    kept = {path.name for path in (folder / "out").iterdir()}
    assert {"mine.yaml", "my_parts.py", "my_brain.py", "brains.py", "train.py"} <= kept
    assert "folder.py" not in kept  # which calls SpeechBrain
    (folder / "mine.yaml").write_text(
        re.sub("my_weight", "my_wieght", (folder / "mine.yaml").read_text())
    )
    done = run(folder, "../my_recipe/train.py", "mine.yaml", data, "--output_folder=o", *TINY)
    assert done.returncode == 2 and "nothing reads the key 'my_wieght'" in done.stderr
    assert "did you mean 'my_weight'" in done.stderr
