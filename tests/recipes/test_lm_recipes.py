"""Language models of tokens: each YAML trains two steps, is killed and resumed, tested and used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.training.run.config import load_config, read_tree
from tests.unit.training import tiny

ROOT = Path(__file__).parents[2]
HPARAMS = ROOT / "recipes" / "LibriSpeech" / "hparams"
YAMLS = sorted(path for path in HPARAMS.glob("*.yaml") if "lm" in read_tree(path))
CODEC = ROOT / "tests" / "data" / "golden" / "tiny_50hz"
TINY = {
    "codec": str(CODEC),
    "tr_splits": ["dev-mini"],
    "dev_splits": ["test-real"],
    "te_splits": ["test-real"],
    "number_of_epochs": 1,
    "batch_size": 2,
    "row_length": 1024,
    "valid_batch_size": 4,
    "num_workers": 0,
    "hidden_size": 16,
    "num_layers": 1,
    "lm": {"ffn_size": 16},
    "panel": "none",
    "judge_clips": 1,
    "samples": 2,
    "bootstrap_samples": 20,
    "characters": "bytes",
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


def train(yaml: str, folder: Path, tokens: Path, *options: str, **changes: Any) -> Path:
    """Train a YAML in this process; return the run's folder."""
    argv = [f"hparams/{yaml}", f"--output_folder={folder}", f"--token_folder={tokens}"]
    argv += [f"--{key}={tiny.flow(value)}" for key, value in (TINY | changes).items()]
    with mock.patch("focalcodec.lm.readers.SECONDS_A_CHARACTER", 0.01):  # such a model never ends
        tiny.train([*argv, *options], pictures=False)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "save").glob("CKPT*"), key=lambda path: path.stat().st_mtime_ns)
    return load_file(newest / "lm.ckpt")


@pytest.mark.parametrize("name", ["tts_chunks", "lm_mini", "asr_lm_mini"])
def test_each_trains_tests_and_writes_its_cards(name: str, tmp_path: Path, tokens: Path) -> None:
    yaml = HPARAMS / f"{name}.yaml"
    folder = train(yaml.name, tmp_path / "run", tokens)
    results = json.loads((folder / "results.json").read_text())
    card = json.loads((folder / "test" / "card.json").read_text())
    tree = read_tree(yaml)
    bits = card["figures"]["bits"]
    assert card["task"] == tree["task"] and bits["low"] <= bits["value"] <= bits["high"]
    assert 1 < bits["value"] < 1.1 * card["chance"]["bits"]
    if tree["task"] == "tts":
        assert {"failed", "no_end", "reading_rtf"} <= results["test"].keys()
        cards = {path.parent.name for path in (folder / "test").glob("*/card.json")}
        assert cards == {"one_sample", "resynthesis", "recording"}  # no judge: no best of two
        assert (folder / "tts" / "README.md").is_file()
    elif tree["task"] == "lm":
        assert card["figures"]["swapped_halves"]["count"] == len(card["clips"])
        assert card["figures"]["speaker_switch"]["count"] > 1
    else:
        assert {"wer", "cer"} <= results["test"].keys() and (folder / "wer_test.txt").is_file()


def made(name: str) -> Any:
    """The model of a YAML, without memory for its weights."""
    nothing = "prepare: null\nbrain: null\nloaders: null"
    with torch.device("meta"):
        return load_config(HPARAMS / f"{name}.yaml", nothing)["lm"](vocab_size=8232, code_dim=13)


@pytest.mark.parametrize("name", ["tts", "tts_25hz", "tts_12_5hz", "tts_chunks", "lm", "asr_lm"])
def test_sizes_are_the_papers(name: str) -> None:
    sizes, chunk_size = made(name).config, 4 if name == "tts_chunks" else 1
    assert (sizes["num_layers"], sizes["hidden_size"], sizes["num_heads"]) == (12, 512, 4)
    assert (sizes["num_kv_heads"], sizes["ffn_size"]) == (1, 2048)
    assert sizes["chunk_size"] == chunk_size


def test_the_small_ones_are_small() -> None:
    tensors = made("tts_demo").state_dict().values()
    assert 2 * sum(tensor.numel() for tensor in tensors) < 15e6  # bytes of float16
    assert made("tts_small").config["num_layers"] == 8


def test_every_yaml_is_one_of_these() -> None:
    names = {path.stem for path in YAMLS}
    minis = {"tts_mini", "lm_mini", "asr_lm_mini"}
    sized = {"tts", "tts_25hz", "tts_12_5hz", "tts_chunks", "lm", "asr_lm"}
    assert names == minis | sized | {"tts_small", "tts_demo"}


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path, tokens: Path) -> None:
    more = {"number_of_epochs": 2, "text_dropout": 0.5, "dropout": 0.3}
    interval = ("--ckpt_interval_minutes=0", "--ckpt_interval_steps=1")
    whole = train("tts_mini.yaml", tmp_path / "whole", tokens, *interval, **more)
    with tiny.killed_after(3) as steps:
        train("tts_mini.yaml", tmp_path / "killed", tokens, *interval, **more)
    killed = train("tts_mini.yaml", tmp_path / "killed", tokens, *interval, **more)
    assert len(steps) == 3
    expected, found = weights(whole), weights(killed)
    assert expected and all(torch.equal(expected[name], found[name]) for name in expected)
    spoken = tmp_path / "out.wav"
    assert main(["say", "one", str(spoken), "--model", str(killed), "--seed", "1"]) == 0
    assert soundfile.info(spoken).frames > 0


def test_tokens_of_a_corpus_and_those_of_another_codec(tmp_path: Path, tokens: Path) -> None:
    source = ROOT / "corpus/LibriSpeech/dev-mini"
    for model, name, below in ((str(CODEC), "mine", ""), ("demo", "other", "11")):
        folder = str(tmp_path / name)
        assert main(["tokenize", str(source / below), folder, "--model", model]) == 0
    one = train("tts_mini.yaml", tmp_path / "one", tokens, tokenized=str(tmp_path / "mine"))
    assert weights(one)
    with pytest.raises(UserError, match=r"other: tokens of demo \(.*\), but this codec is"):
        train("tts_mini.yaml", tmp_path / "two", tokens, tokenized=str(tmp_path / "other"))


def test_a_character_of_a_transcript_that_has_no_id(tmp_path: Path, tokens: Path) -> None:
    with pytest.raises(UserError, match=r"clip '.*': text .*: the model has no character"):
        train("tts_mini.yaml", tmp_path / "run", tokens, characters="abc")


def test_no_clip_of_the_right_length_with_a_transcript(tmp_path: Path, tokens: Path) -> None:
    with pytest.raises(UserError, match=r"training clips, and none has a transcript"):
        train("tts_mini.yaml", tmp_path / "run", tokens, min_seconds=900, max_seconds=1000)


def test_pairs_of_files(tmp_path: Path) -> None:
    pairs = tiny.recipe_module("lm_pairs")
    with pytest.raises(UserError, match="no such folder"):
        pairs.read_pairs(tmp_path / "none")
    salmon, story, gold = (tmp_path / name for name in ("salmon", "story", "sblimp"))
    for folder, names in {
        salmon / "speaker_consistency": ["sample_0_a.wav", "sample_0_b.wav", "sample_1_a.wav"],
        salmon / "rir_consistency": ["sample_3_a.wav", "sample_3_b.wav"],
        story: ["10_correct.wav", "10_incorrect.wav", "2_correct.wav", "2_incorrect.wav"],
        gold: ["x.wav", "y.wav"],
    }.items():
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
    (gold / "gold.csv").write_text("id,filename,voice,correct\n7,x,B,0\n7,y,B,1\n8,z,B,1\n")
    found = pairs.read_pairs(salmon)
    assert {task: len(each) for task, each in found.items()} == {
        "speaker_consistency": 1,
        "rir_consistency": 1,
    }
    assert [good.name for good, _ in pairs.read_pairs(story)[""]] == [
        "2_correct.wav",
        "10_correct.wav",
    ]
    assert pairs.read_pairs(gold)[""] == [(gold / "y.wav", gold / "x.wav")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pairs of audio files"):
        pairs.read_pairs(tmp_path / "empty")


def test_a_change_of_the_speaker_is_found_if_the_model_has_learnt_voices(tmp_path: Path) -> None:
    pairs = tiny.recipe_module("lm_pairs")
    assert pairs.right(1.0, 2.0) == 1.0 and pairs.right(2.0, 1.0) == 0.0
    assert pairs.right(1.0, 1.0) == 0.5
    first, second = torch.arange(5), torch.arange(10, 14)
    assert pairs.joined(first, second).tolist() == [0, 1, 12, 13]
