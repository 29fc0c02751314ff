"""The rows of the ablations: deltas of one base, which train, resume, are exported and compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.cli.main import main
from focalcodec.evaluation.ablations import COSTS
from focalcodec.training.run import command_lines
from focalcodec.training.run.config import BASE_KEY, read_file, read_tree, resolve_config
from tests.unit.training import tiny

ABLATIONS = tiny.RECIPE / "hparams" / "ablations"
ENDS = ("_mini", "_small")
ROWS = sorted(
    path.stem
    for path in ABLATIONS.glob("*.yaml")
    if path.stem not in ("base", "hifigan") and not path.stem.endswith(ENDS)
)
TWINS = sorted(path.stem for path in ABLATIONS.glob("*_mini.yaml") if "hifigan" not in path.stem)
TINY: dict[str, Any] = {
    "number_of_epochs": 1,
    "passes_per_epoch": 1,
    "batch_size": 2,
    "sample_clips": 0,
    "speed_perturb": None,
    "feature_dim": 8,
    "hidden_dims": [8, 4],
    "reversed_hidden_dims": [4, 8],
    "tr_splits": ["train"],
    "dev_splits": ["dev"],
    "te_splits": ["test"],
    "extra_sets": {},
}
TWO_LEVELS = "{compressor: {downscale_factors: [1, 1]}, decompressor: {upscale_factors: [1, 1]}}"
SMALL_BLOCKS = {
    "conformer_mini": "{num_heads: 2, kernel_size: 3}",
    "amp_mini": "{kernel_sizes: [3], dilations: [1]}",
}


def delta(name: str) -> dict[str, Any]:
    """What a YAML changes, without its name."""
    tree = dict(read_file(ABLATIONS / f"{name}.yaml"))
    return {key: value for key, value in tree.items() if key not in (BASE_KEY, "name")}


def base_of(name: str) -> str:
    return str(read_file(ABLATIONS / f"{name}.yaml")[BASE_KEY])


def command(name: str, folder: Path, data: Path, **more: Any) -> list[str]:
    options = {**TINY, "modules": TWO_LEVELS, **more}
    if name in SMALL_BLOCKS:
        options["block_options"] = SMALL_BLOCKS[name]
    line = [f"hparams/ablations/{name}.yaml", f"--output_folder={folder}", f"--data_folder={data}"]
    return [*line, *(f"--{key}={tiny.flow(value)}" for key, value in options.items())]


def test_each_row_is_one_delta_and_its_twins_have_the_same() -> None:
    papers = {"bsq", "fsq", "leaky_relu", "conformer", "amp", "linear"}
    assert papers < {*ROWS} and len(ROWS) == 17
    for row in ROWS:
        assert base_of(row) == "base.yaml"
        for end in ENDS:
            twin = f"{row}{end}"
            wanted = row in papers if end == "_small" else not row.startswith("layer")
            assert (ABLATIONS / f"{twin}.yaml").exists() == wanted
            if wanted and twin != "amp_small":  # it has fewer kernels
                assert base_of(twin) == f"base{end}.yaml"
                assert str(delta(twin)) == str(delta(row))
    for end in ENDS:
        assert base_of(f"base{end}") == "base.yaml"


def test_the_base_is_that_of_the_paper() -> None:
    tree = read_tree(ABLATIONS / "base.yaml")
    assert [*tree["hidden_dims"]] == [512, 256, 128] and [*tree["reversed_hidden_dims"]] == [
        *(128, 256, 512)
    ]
    assert (tree["code_dim"], tree["batch_size"], [*tree["tr_splits"]]) == (
        *(10, 4, ["train-clean-100"]),
    )
    full = read_tree(tiny.RECIPE / "hparams" / "focalcodec_50hz.yaml")
    for key in ("lr", "betas", "weight_decay", "entropy_weight", "gamma", "max_grad_norm"):
        assert tree[key] == full[key]


def test_seeds_are_an_option_of_the_command() -> None:
    yaml = str(ABLATIONS / "bsq_mini.yaml")
    lines = command_lines([yaml, "--lr=0.1", "--seeds", "[1, 2]"])
    assert lines == [[yaml, "--lr=0.1", "--seed=1"], [yaml, "--lr=0.1", "--seed=2"]]
    assert "results/ablations/bsq_mini/2" in resolve_config(yaml, "seed: 2")
    assert command_lines([yaml, "--seed=3"]) == [[yaml, "--seed=3"]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpus, and a trained HiFi-GAN."""
    folder = tmp_path_factory.mktemp("ablations")
    data = tiny.write_corpus(folder / "data", train=[0.8] * 4, dev=[0.7] * 2, test=[0.6, 0.9])
    decoder = [f"--output_folder={folder / 'decoder'}", f"--data_folder={data}"]
    keys = TINY.keys() - {"speed_perturb", "hidden_dims", "reversed_hidden_dims"}
    decoder += [f"--{key}={tiny.flow(TINY[key])}" for key in keys]
    small = "--modules={decoder: {dim: 16, unit_kernels: [3], dilations: [1]}}"
    tiny.train(["hparams/ablations/hifigan_mini.yaml", *decoder, small])
    return folder


def trained(place: Path, twin: str) -> Path:
    """The codec of a twin, after two steps of training."""
    run, codec = place / "runs" / twin, place / "codecs" / twin
    if not codec.exists():
        tiny.train(command(twin, run, place / "data"))
        assert main(["export", str(run), str(place / "decoder"), str(codec)]) == 0
    return codec


@pytest.mark.parametrize("twin", TWINS)
def test_each_twin_trains_is_exported_and_loads(place: Path, twin: str) -> None:
    folder = trained(place, twin)
    results = json.loads((place / "runs" / twin / "results.json").read_text())["test"]
    assert results["loss"] == results["loss"] and results["feature_loss"] > 0
    codec = FocalCodec.from_pretrained(folder)
    assert type(codec.decoder).__name__ == "HiFiGAN"
    torch.manual_seed(0)
    sig = 0.1 * torch.randn(2, 8000)
    toks, frames = codec.encode(sig, 16000, lengths=torch.tensor([8000, 5000]))
    alone, _ = codec.encode(sig[1:, :5000], 16000)
    assert torch.equal(toks[1, : frames[1]], alone[0])
    ends = torch.tensor([8000, 5000])
    assert codec.decode(toks, frames, num_samples=ends).shape == (2, 8000)
    assert not codec.causal


@pytest.mark.parametrize("twin", ["amp_mini", "vq_mini"])
def test_a_run_resumes(place: Path, twin: str) -> None:
    trained(place, twin)
    run = place / "runs" / twin
    tiny.train(command(twin, run, place / "data", number_of_epochs=2))
    assert "resuming" in (run / "log.txt").read_text()
    assert len((run / "train_log.txt").read_text().splitlines()) == 2


def test_the_table_has_figures_costs_and_differences(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips, out = str(place / "data" / "test"), str(tmp_path / "eval")
    names = {"base-1": "base_mini", "base-2": "bsq_mini", "linear-1": "linear_mini"}
    codecs = [f"{name}={trained(place, twin)}" for name, twin in names.items()]
    assert main(["eval", clips, out, "--panel=none", "--speed_clips=0", "--codecs", *codecs]) == 0
    capsys.readouterr()
    assert main(["ablations", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "| base   | 2 " in text and "| linear | 1 " in text
    assert all(title in text for title in COSTS.values())
    assert main(["ablations", str(tmp_path), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    base, linear = one["rows"]
    assert base["seeds"] == [1, 2] and linear["seeds"] == [1]
    assert 0 < linear["cost"]["stage1_gmac"] < base["cost"]["stage1_gmac"]
    assert linear["cost"]["parameters"] > linear["cost"]["stage1_parameters"] > 0
    assert 0 <= base["usage"]["entropy_seen"]["value"] <= 100
    assert main(["ablations", str(tmp_path / "nothing")]) == 2
    assert "no card.json of an evaluation" in capsys.readouterr().err


def test_a_wrong_row_is_one_line() -> None:
    script = [sys.executable, "ablations.py", "/tmp/none", "--size", "mini", "--rows", "mamba"]
    done = subprocess.run(script, cwd=tiny.RECIPE, capture_output=True, text=True)
    assert done.returncode == 2 and "row mamba: none of this name" in done.stderr
    assert "conformer" in done.stderr and "Traceback" not in done.stderr
