"""Text to speech by an aligned model: it trains, is killed and resumed, is tested and used."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.lm import write_phonemes
from focalcodec.training.run.config import load_config, read_tree
from tests.unit.training import tiny

ROOT = Path(__file__).parents[2]
HPARAMS = ROOT / "recipes" / "LibriSpeech" / "hparams"
YAMLS = sorted(path for path in HPARAMS.glob("*.yaml") if "tts" in read_tree(path))
TINY = {
    "codec": str(ROOT / "tests" / "data" / "golden" / "tiny_50hz"),
    "tr_splits": ["dev-mini"],
    "dev_splits": ["test-real"],
    "te_splits": ["test-real"],
    "number_of_epochs": 1,
    "batch_size": 8,
    "valid_batch_size": 4,
    "num_workers": 0,
    "hidden_size": 16,
    "text_layers": 1,
    "frame_layers": 1,
    "panel": "none",
    "judge_clips": 1,
    "bootstrap_samples": 20,
    "dropout": 0.3,
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


def train(yaml: str, folder: Path, tokens: Path, *options: str, **changes: Any) -> Path:
    """Train a YAML in this process; return the run's folder."""
    argv = [f"hparams/{yaml}", f"--output_folder={folder}", f"--token_folder={tokens}"]
    argv += [f"--{key}={tiny.flow(value)}" for key, value in (TINY | changes).items()]
    tiny.train([*argv, *options], pictures=False)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "save").glob("CKPT*"), key=lambda path: path.stat().st_mtime_ns)
    return load_file(newest / "tts.ckpt")


def test_a_killed_run_ends_with_the_same_weights_and_reads_texts(
    tmp_path: Path, tokens: Path
) -> None:
    interval = ("--ckpt_interval_minutes=0", "--ckpt_interval_steps=1")
    yaml, more = "tts_aligned_mini.yaml", {"number_of_epochs": 2}
    whole = train(yaml, tmp_path / "whole", tokens, *interval, **more)
    with tiny.killed_after(4):  # in the second of two epochs of three steps
        train(yaml, tmp_path / "killed", tokens, *interval, **more)
    killed = train(yaml, tmp_path / "killed", tokens, *interval, **more)
    expected, found = weights(whole), weights(killed)
    assert expected and all(torch.equal(expected[name], found[name]) for name in expected)

    results = json.loads((killed / "results.json").read_text())["test"]
    assert {"bit_errors", "bits_loss", "alignment_loss", "duration_loss"} <= results.keys()
    assert results["no_end"] == 0 and 0 < results["bit_errors"] < 60
    total = results["bits_loss"] + 0.3 * results["alignment_loss"] + 0.5 * results["duration_loss"]
    assert results["loss"] == pytest.approx(total, rel=1e-5)
    cards = {path.parent.name for path in (killed / "test").glob("*/card.json")}
    assert cards == {"one_sample", "resynthesis", "recording"}
    spoken = tmp_path / "out.wav"
    assert main(["say", "one, 2, three", str(spoken), "--model", str(killed)]) == 0
    assert soundfile.info(spoken).frames > 0


def test_clips_with_more_phonemes_than_frames_are_left_out(
    tmp_path: Path,
    tokens: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    def one(texts: list[str], language: str) -> list[list[str]]:
        # The first text, in the order of the alphabet, is too long for any clip.
        first, *others = write_phonemes(texts, language)
        return [first * 100, *others]

    monkeypatch.setattr("focalcodec.lm.write_phonemes", one)
    train("tts_aligned_mini.yaml", tmp_path / "run", tokens)
    assert "clips are skipped: fewer frames than phonemes" in "".join(capsys.readouterr())
    every = lambda *how: [line * 100 for line in write_phonemes(*how)]  # noqa: E731
    monkeypatch.setattr("focalcodec.lm.write_phonemes", every)
    with pytest.raises(UserError, match=r"no clip of \d+ is left: each has fewer frames"):
        train("tts_aligned_mini.yaml", tmp_path / "none", tokens)


def test_prompts_are_other_clips_of_the_speaker_in_the_set() -> None:
    names = ["anna", "anna", "ben", "", ""]
    rows = [{"ID": f"clip {k}", "spk_id": name} for k, name in enumerate(names)]
    store = [torch.full((10 * k + 10,), k) for k in range(5)]
    dataset = SimpleNamespace(rows=rows, places=np.arange(5)[:, None], store=store)
    prompts = tiny.recipe_module("aligned_data", HPARAMS.parent).Prompts(dataset, 15)
    found = [prompts.toks(row, at_random=False) for row in rows]
    assert [int(toks[0]) for toks in found] == [1, 0, 2, 3, 4]  # the others have no other clip
    assert [len(toks) for toks in found] == [15, 10, 15, 15, 15]


def test_the_sizes() -> None:
    assert {path.stem for path in YAMLS} == {"tts_aligned", "tts_aligned_demo", "tts_aligned_mini"}
    nothing = "prepare: null\nbrain: null\nloaders: null"
    with torch.device("meta"):
        made = load_config(HPARAMS / "tts_aligned_demo.yaml", nothing)["tts"](num_phonemes=100)
    tensors = made.state_dict().values()
    assert 2 * sum(tensor.numel() for tensor in tensors) < 15e6  # bytes of float16
