"""The recipe of docs/new_dataset.md, made from the blocks of the page, trains and evaluates."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from focalcodec.cli.main import main

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "new_dataset.md"
SPEAKERS = ("p225", "p226", "p227", "p228", "p229", "p230")


def named_blocks() -> dict[str, str]:
    """Content of each file in the document, by its name."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.findall(r"`([\w.]+)`:\n\n```(?:python|yaml)\n(.*?)^```$", text, re.M | re.S)
    assert len(found) == len(dict(found)) == 4
    return dict(found)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anywhere") / "VCTK"
    assert main(["recipe", "copy", "LibriSpeech", str(folder)]) == 0
    for name, content in named_blocks().items():
        (folder / ("hparams" if name.endswith(".yaml") else "") / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def vctk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of the corpus: tones at 48 kHz, two microphones, a speaker without texts."""
    root = tmp_path_factory.mktemp("VCTK")
    for number, speaker in enumerate(SPEAKERS):
        for kind in ("wav48_silence_trimmed", "txt"):
            (root / kind / speaker).mkdir(parents=True)
        for clip in (f"{speaker}_001", f"{speaker}_002"):
            time = np.arange(36000) / 48000
            tone = 0.3 * np.sin(2 * np.pi * (200 + 50 * number) * time)
            for mic in ("mic1", "mic2"):
                path = root / "wav48_silence_trimmed" / speaker / f"{clip}_{mic}.flac"
                soundfile.write(path, tone, 48000)
            if speaker != "p230":
                (root / "txt" / speaker / f"{clip}.txt").write_text("Please call Stella.\n")
    return root


def run(recipe: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=recipe,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_new_recipe_trains_and_evaluates(recipe: Path, vctk: Path, tmp_path: Path) -> None:
    small = ["--debug", "--batch_size=2", "--num_workers=0", "--sample_clips=0", "--feature_dim=8"]
    small += ["--encoder=!name:focalcodec.encoders.logmel.LogMel {n_mels: 8}"]
    small += ["--hidden_dims=[8, 8, 8]", "--reversed_hidden_dims=[8, 8, 8]"]
    folder = tmp_path / "run"
    yaml = "hparams/vctk_50hz.yaml"
    done = run(
        recipe, "train.py", yaml, f"--data_folder={vctk}", f"--output_folder={folder}", *small
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert " test |" in done.stdout
    manifest = (folder / "manifests" / "train.csv").read_text().splitlines()
    assert len(manifest) == 1 + 2 * 2
    assert sum("Please call Stella." in line for line in manifest) == 2
    assert not any("mic2" in line for line in manifest)

    done = run(
        recipe,
        *(
            "evaluate.py",
            "hparams/vctk_resynthesis.yaml",
            f"--data_folder={vctk}",
            "--codecs=[original]",
        ),
        *("--panel=none", "--report=False", f"--output_folder={tmp_path / 'judged'}"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "judged" / "test" / "original" / "card.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "VCTK is not embedded"),
        (["--data_folder={vctk}", "--te_speakers=[p999]"], "no speaker p999"),
    ],
)
def test_errors_of_the_new_recipe_are_one_line(
    recipe: Path, vctk: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    words = [option.format(vctk=vctk) for option in options]
    out = f"--output_folder={tmp_path}"
    encoder = "--encoder=!name:focalcodec.encoders.logmel.LogMel {n_mels: 8}"
    words += [encoder, "--feature_dim=8"]
    done = run(recipe, "train.py", "hparams/vctk_vocos.yaml", out, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]
