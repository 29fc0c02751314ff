"""docs/parts.md: parts and losses of one's own train, resume, are exported, loaded, evaluated."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.training.run.trained import load_trained
from tests.unit.training import tiny

ROOT = Path(__file__).parents[2]
CLIPS = ROOT / "corpus" / "LibriSpeech" / "test-real" / "93"
TRUST = ["--trust", "my_parts"]
COMMON = [
    *("--passes_per_epoch=1", "--batch_size=12", "--sample_clips=0", "--num_workers=0"),
    *("--tr_splits=[dev-mini]", "--dev_splits=[test-real]", "--te_splits=[test-real]"),
    "--extra_sets={}",
]
SMALL = {
    "my_codec": ["--hidden_dims=[8, 8, 8]", "--reversed_hidden_dims=[8, 8, 8]"],
    "my_decoder": ["--modules={decoder: {num_layers: 1, dim: 8, ffn_dim: 8}}"],
}


def forget() -> None:
    sys.modules.pop("my_parts", None)


def train(experiment: Path, name: str, *more: str) -> None:
    """Two steps an epoch with a YAML of the document."""
    yaml, out = experiment / f"{name}.yaml", experiment.parent / name
    tiny.train([str(yaml), f"--output_folder={out}", *COMMON, *SMALL[name], *more], pictures=True)
    forget()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the experiment, both runs (stage 1 was resumed), and the exported codec."""
    folder = tmp_path_factory.mktemp("own")
    experiment = folder / "my_experiment"
    experiment.mkdir()
    text = (ROOT / "docs" / "parts.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|yaml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (experiment / "my_parts.py").write_text(blocks[0][1], encoding="utf-8")
    for language, block in blocks:
        if language == "yaml":
            name = block.partition("# ")[2].partition(":")[0]
            (experiment / name).write_text(block.replace("__base__: ..", f"__base__: {ROOT}"))
    train(experiment, "my_codec", "--number_of_epochs=1")
    train(experiment, "my_codec", "--number_of_epochs=2")
    train(experiment, "my_decoder", "--number_of_epochs=1")
    shutil.rmtree(experiment)  # the runs have copies
    runs = [str(folder / "my_codec"), str(folder / "my_decoder")]
    assert main(["export", *runs, str(folder / "codec"), *TRUST]) == 0
    forget()
    return folder


@pytest.fixture(autouse=True)
def nothing_imported() -> None:
    forget()


def test_the_run_has_a_copy_of_the_module_and_both_epochs(place: Path) -> None:
    run = place / "my_codec"
    assert "class ScalarQuantizer" in (run / "my_parts.py").read_text()
    lines = (run / "train_log.txt").read_text().splitlines()
    assert len(lines) == 2 and "resuming" in (run / "log.txt").read_text()


def test_a_term_counts_in_loss_log_and_choice_of_the_checkpoint(place: Path) -> None:
    run = place / "my_codec"
    newest = max((run / "save").glob("CKPT*"), key=lambda path: path.stat().st_mtime_ns)
    for epoch in json.loads((newest / "brain.ckpt").read_text())["history"]:
        for stage in ("train", "valid"):
            stats = epoch[stage]
            whole = stats["feature_loss"] + 0.1 * stats["slope_loss"]
            assert stats["loss"] == pytest.approx(whole, rel=1e-5) and stats["slope_loss"] > 0
            assert "sample_entropy" not in stats
    assert "slope_loss" in (run / "train_log.txt").read_text()
    results = json.loads((run / "results.json").read_text())["test"]
    assert results["loss"] > results["feature_loss"] and "added_loss" not in results


def test_the_codec_names_its_code_and_has_a_copy(place: Path) -> None:
    config = json.loads((place / "codec" / "config.json").read_text())
    assert config["encoder_name"] == "my_parts.Energies"
    assert config["quantizer_name"] == "my_parts.ScalarQuantizer"
    assert config["compressor_name"] == "FocalEncoder"
    copy = (place / "codec" / "my_parts.py").read_text()
    assert copy == (place / "my_codec" / "my_parts.py").read_text()


def test_without_trust_no_code_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec, mark = place / "evil", place / "mark"
    shutil.copytree(place / "codec", codec)
    (codec / "my_parts.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(UserError, match=r"give --trust my_parts, or trust=\['my_parts'\]"):
        FocalCodec.from_pretrained(codec)
    for words in (["info", str(codec)], ["export", str(codec), str(codec), str(place / "no")]):
        assert main(words) == 2
        assert "--trust my_parts" in capsys.readouterr().err
    assert not mark.exists() and not (place / "no").exists()


def test_every_command_takes_the_codec(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec, out = str(place / "codec"), place / "out"
    model = ["--model", codec, *TRUST, "--device", "cpu"]
    assert main(["info", codec, *TRUST, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["vocabulary"] == 1000 and about["bits_per_token"] == 10
    assert about["kbit_per_second"] == pytest.approx(0.498, abs=1e-3)
    assert main(["encode", str(CLIPS), str(out / "toks"), *model]) == 0
    assert main(["decode", str(out / "toks"), str(out / "audio"), *model]) == 0
    assert main(["tokenize", str(CLIPS), str(out / "corpus"), *model]) == 0
    codecs = ["--codecs", codec, *TRUST, "--device", "cpu", "--panel", "none", "--speed_clips", "0"]
    assert main(["eval", str(CLIPS), str(out / "eval"), *codecs]) == 0
    assert list(out.glob("toks/**/*.fct")) and list(out.glob("audio/**/*.wav"))
    assert list(out.glob("eval/*/codec/card.json"))


def test_it_loads_in_python_and_is_saved_again(place: Path, tmp_path: Path) -> None:
    codec = FocalCodec.from_pretrained(place / "codec", trust=["my_parts"])
    sig = torch.randn(2, 16000)
    toks, lengths = codec.encode(sig, 16000, lengths=torch.tensor([16000, 9000]))
    alone, _ = codec.encode(sig[1:, :9000], 16000)
    assert torch.equal(toks[1, : lengths[1]], alone[0])
    ends = torch.tensor([16000, 9000])
    assert codec.decode(toks, lengths, num_samples=ends).shape == (2, 16000)
    codec.save_pretrained(tmp_path / "again")
    forget()
    again = FocalCodec.from_pretrained(tmp_path / "again", trust=["my_parts"])
    assert torch.equal(again.encode(sig, 16000)[0], codec.encode(sig, 16000)[0])


def test_runs_and_codecs_are_sources_of_other_runs(place: Path) -> None:
    for source in ("my_codec", "codec"):
        with pytest.raises(UserError, match="--trust my_parts"):
            load_trained(place / source)
        trained = load_trained(place / source, trust=["my_parts"])
        assert type(trained.part("quantizer")).__name__ == "ScalarQuantizer"
        assert trained.encoder.dim == 40


def test_l1_for_mse_on_the_command_line(tmp_path: Path) -> None:
    data = tiny.write_corpus(tmp_path / "corpus")
    loss = "--feature_loss=!name:focalcodec.training.losses.absolute_error"
    results = {}
    for name, more in {"mse": [], "l1": [loss]}.items():
        tiny.train(tiny.arguments("quantizer", tmp_path / name, data, *more, number_of_epochs=1))
        results[name] = json.loads((tmp_path / name / "results.json").read_text())["test"]
    assert results["l1"]["feature_loss"] != results["mse"]["feature_loss"]
    with pytest.raises(UserError, match="started with feature_loss=!name:.*squared_error, now"):
        tiny.train(tiny.arguments("quantizer", tmp_path / "mse", data, loss))


REFUSALS = [
    ({"code_dim": 40}, "codebook_size=1099511627776; give 2 to 1048576, .* code_dim of 20 bits"),
    ({"downscale_factors": [2, 1, 1]}, "divides the frame rate by 2, decompressor multiplies"),
    ({"modules": {"compressor": "!new:torch.nn.Identity "}}, "Identity has no attribute 'config'"),
    ({"feature_loss": "!name:focalcodec.nn.masking.full_lengths "}, "feature_loss: too many pos"),
    ({"extra_losses": {"a_loss": 1}}, r"extra_losses: give \{name: \{weight: 0.1, loss"),
    ({"extra_losses": {"loss": {"weight": 1, "loss": "!name:math.exp "}}}, "'loss' is no name"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS)
def test_what_does_not_fit_is_refused_in_one_line(changes, message, tmp_path) -> None:
    data = tiny.write_corpus(tmp_path / "corpus")
    with pytest.raises(UserError, match=message) as refused:
        tiny.train(tiny.arguments("quantizer", tmp_path / "run", data, **changes))
    assert "\n" not in str(refused.value)
