"""The codec of the package by its name, and the default model of commands."""

from __future__ import annotations

import shutil
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from focalcodec import FocalCodec, UserError, hub
from focalcodec.audio import audio_info, write_audio
from focalcodec.cli import models
from focalcodec.cli.main import main
from focalcodec.cli.models import DEFAULT_MODEL, choose_model
from focalcodec.cli.options import add_model_options
from focalcodec.coders import load_coder, parse_spec
from focalcodec.fct import read_toks
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.training.run.export import export
from focalcodec.training.run.folder import whole_path
from focalcodec.training.run.trained import load_student, load_trained
from tests.unit.small_codecs import GOLDEN, golden_codec

OTHER = str(GOLDEN["tiny_12_5hz"])
SMALL = ("tiny_50hz", "tiny_12_5hz", "tiny_50hz_causal")
"""Small codecs in place of those of `hub.NAMES`."""


def ship(models: Path, monkeypatch: pytest.MonkeyPatch, *golden: str) -> None:
    """A package with small codecs, which have the first names of `hub.NAMES`."""
    for name, source in zip(hub.NAMES, golden, strict=False):
        shutil.copytree(GOLDEN[source], models / name)
    monkeypatch.setattr("focalcodec.hub.MODELS", models)


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a small codec called demo, and a folder of that name."""
    ship(tmp_path / "models", monkeypatch, "tiny_50hz")
    (tmp_path / "here" / "demo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    torch.manual_seed(0)
    write_audio("a.wav", 0.1 * torch.randn(9600), 16000)
    return tmp_path / "here"


@pytest.fixture
def no_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("focalcodec.hub.MODELS", tmp_path / "nothing")


def same_weights(codec: FocalCodec) -> bool:
    return weights_sha256(codec) == weights_sha256(golden_codec("tiny_50hz"))


# -- by its name -----------------------------------------------------------------------------------


def test_every_way_to_name_a_model(demo: Path) -> None:
    cpu = torch.device("cpu")
    assert same_weights(FocalCodec.from_pretrained("demo"))
    assert load_trained("demo").is_whole and load_trained("demo").name == "demo"
    assert load_student("demo").config == golden_codec("tiny_50hz").encoder.config
    for text, label in (("demo", "demo"), ("mine=demo", "mine"), ("vocoder:demo", "vocoder:demo")):
        coder = load_coder(spec := parse_spec(text), cpu)
        assert (spec.label, coder.source) == (label, "demo")
        assert coder.weights_sha256 == weights_sha256(golden_codec("tiny_50hz"))
    assert same_weights(export("demo", "demo", demo / "copy"))


def test_a_folder_of_that_name_is_named_by_its_path(demo: Path) -> None:
    for source in ("./demo", Path("demo"), demo / "demo"):
        with pytest.raises(UserError, match="no config.json there"):
            FocalCodec.from_pretrained(source)


def test_a_run_keeps_its_name(demo: Path) -> None:
    """Folders are stored as full paths, because a run is read from other places; demo is not."""
    assert whole_path("demo") == "demo"
    assert whole_path("./demo") == str(demo / "demo")


def test_demo_has_no_revisions(demo: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["resynth", "a.wav", "b.wav", "--model", "demo", "--revision", "v2"]) == 2
    assert "demo: comes with the package, without revisions" in capsys.readouterr().err
    with pytest.raises(UserError, match="leave out v2"):
        load_coder(parse_spec("demo@v2"), torch.device("cpu"))


def test_a_package_without_it(no_demo: None) -> None:
    for load in (FocalCodec.from_pretrained, load_trained, load_student):
        with pytest.raises(UserError, match="demo: not in this installation .*install focalcodec"):
            load("demo")
    with pytest.raises(UserError, match=r"dmeo: not .* codec of the package \(none\); check"):
        FocalCodec.from_pretrained("dmeo")


@pytest.mark.parametrize("name", hub.NAMES)
def test_each_codec_that_the_package_has(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    name: str,
) -> None:
    """Its folder is all that it needs; without the folder one line names the others."""
    monkeypatch.chdir(tmp_path)
    ship(tmp_path / "models", monkeypatch, *SMALL)
    assert hub.shipped() == list(hub.NAMES)
    write_audio("a.wav", torch.zeros(9600), 16000)
    assert FocalCodec.from_pretrained(name).name == name
    assert main(["resynth", "a.wav", "b.wav", "--model", name, "--quiet"]) == 0
    parser = ArgumentParser()
    add_model_options(parser)
    assert f"package ({', '.join(hub.NAMES)};" in " ".join(parser.format_help().split())
    shutil.rmtree(tmp_path / "models" / name)
    others = ", ".join(other for other in hub.NAMES if other != name)
    assert main(["resynth", "a.wav", "c.wav", "--model", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: not in this installation" in line and f", which has {others};" in line
    with pytest.raises(UserError, match=rf"dmeo: not .* \({others}\); check the path"):
        FocalCodec.from_pretrained("dmeo")


def test_info_download_and_convert(demo: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["info", "demo"]) == 0
    assert capsys.readouterr().out.startswith("demo: model\n")
    assert main(["download", "demo", "--to", "copy"]) == 0 == main(["download", "demo"])
    out = capsys.readouterr().out
    assert "demo: in copy; --model copy needs no network" in out
    assert "demo: in the package, " in out
    assert same_weights(FocalCodec.from_pretrained("copy"))
    words = ["convert", "a.wav", "b.wav", "--reference", "a.wav", "--model", "demo"]
    assert main(words) == 0 and audio_info("b.wav").num_samples == 9600


# -- token files -----------------------------------------------------------------------------------


def test_token_files_of_demo_are_decoded_by_demo(demo: Path, capsys: pytest.CaptureFixture) -> None:
    """By the hash: the model's name in the file and the default have no influence."""
    shutil.copytree(GOLDEN["tiny_50hz"], "renamed")
    for model, name in (("demo", "demo"), ("renamed", "renamed")):
        assert main(["encode", "a.wav", f"{name}.fct", "--model", model, "--quiet"]) == 0
        assert read_toks(f"{name}.fct")[0].model == name
        assert main(["decode", f"{name}.fct", f"{name}.wav", "--quiet"]) == 0
        assert audio_info(f"{name}.wav").num_samples == 9600
    assert capsys.readouterr().err == ""
    assert main(["encode", "a.wav", "other.fct", "--model", OTHER]) == 0
    assert main(["decode", "demo.fct", "other.fct", "both/"]) == 1, "the good one is done"
    assert audio_info("both/demo.wav").num_samples == 9600
    err = capsys.readouterr().err
    assert "other.fct: tokens of tiny_12_5hz" in err and "decode with tiny_12_5hz (--model)" in err
    assert main(["decode", "demo.fct", "b.wav", "--model", OTHER]) == 1, "what is named is taken"
    assert main(["decode", "demo.fct", "b.wav", "--device", "abacus"]) == 2


def test_each_codec_of_the_package_decodes_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Without --model, in one command."""
    monkeypatch.chdir(tmp_path)
    ship(tmp_path / "models", monkeypatch, *SMALL)
    torch.manual_seed(0)
    write_audio("a.wav", 0.1 * torch.randn(9600), 16000)
    for name in hub.NAMES:
        assert main(["encode", "a.wav", f"{name}.fct", "--model", name, "--quiet"]) == 0
        assert main(["resynth", "a.wav", f"{name}-direct.wav", "--model", name, "--quiet"]) == 0
    assert main(["decode", *(f"{name}.fct" for name in hub.NAMES), "out/", "--quiet"]) == 0
    for name in hub.NAMES:
        assert Path(f"out/{name}.wav").read_bytes() == Path(f"{name}-direct.wav").read_bytes()
    assert capsys.readouterr().err == ""


def test_token_files_of_another_version_of_it(
    demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert main(["encode", "a.wav", "a.fct", "--model", "demo"]) == 0
    ship(demo / "models", monkeypatch, "tiny_12_5hz")
    assert main(["decode", "a.fct", "b.wav", "--model", "demo"]) == 1
    assert (
        "decode with the demo with those weights (--model), or give any_model"
        in capsys.readouterr().err
    )


# -- the default -----------------------------------------------------------------------------------


def chosen(**options: str) -> str:
    args = Namespace(**{"model": None, "revision": None} | options)
    choose_model(args)
    return args.model


def test_default_without_a_network(demo: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["resynth", "a.wav", "b.wav", "--quiet"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"focalcodec: using the small codec in the package, --model demo: {DEFAULT_MODEL}"
    )
    assert "offline mode is enabled" in line and "focalcodec download fetches it" in line
    assert main(["resynth", "a.wav", "c.wav", "--model", "demo", "--quiet"]) == 0
    assert capsys.readouterr().err == "", "a model that is named needs no message"
    assert Path("b.wav").read_bytes() == Path("c.wav").read_bytes()
    assert main(["info"]) == 0
    assert capsys.readouterr().out.startswith("demo: model")
    assert main(["resynth", "a.wav", "b.wav"]) == 0
    assert "using the" not in capsys.readouterr().err, "nothing to do, nothing to choose"


def test_default_of_a_corpus(demo: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["tokenize", str(demo), "tokens"]) == 0
    assert "tokens of demo" in capsys.readouterr().err


def test_default_with_several_processes_is_printed_once(
    demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shutil.copy("a.wav", "b.wav")
    started = []

    def no_results(setup: partial, *_: object, **__: object) -> Iterator[None]:
        started.append(setup.args[0].model)
        yield from ()

    monkeypatch.setattr("focalcodec.cli.jobs.in_processes", no_results)
    assert main(["encode", "a.wav", "b.wav", "tokens", "--jobs", "2", "--quiet"]) == 0
    assert started == ["demo"]
    assert capsys.readouterr().err.count("using the") == 1


def test_default_is_the_published_codec_if_the_hub_has_it(
    demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert chosen(revision="v1") == DEFAULT_MODEL
    assert chosen(model="x/y") == "x/y"
    assert chosen() == "demo"
    with monkeypatch.context() as patch:
        patch.setattr(models, "hub_problem", lambda name: "")
        assert chosen() == DEFAULT_MODEL
    part = tmp_path / "cached"
    part.mkdir()
    monkeypatch.setattr(models, "hub_folder", lambda *args, **kwargs: part)
    (part / "config.json").touch()
    assert chosen() == "demo", "half of it is cached"
    (part / "model.safetensors").touch()
    monkeypatch.delattr(models, "hub_problem")
    assert chosen() == DEFAULT_MODEL, "the hub is not asked"


def test_default_of_a_package_without_demo(
    no_demo: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert chosen() == DEFAULT_MODEL
    assert main(["decode", "a.fct", "b.wav"]) == 2
    assert capsys.readouterr().err.startswith("focalcodec: error: ")


def test_the_wait_for_the_hub_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_api = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub_api, "HfApi", lambda: SimpleNamespace(model_info=wait_for_ever))
    assert hub.hub_problem("x/y", seconds=0.05) == "no answer within 0.05 s"
    answers = SimpleNamespace(model_info=lambda *args, **kwargs: None)
    monkeypatch.setattr(hub_api, "HfApi", lambda: answers)
    assert hub.hub_problem("x/y") == ""


def wait_for_ever(*args: object, **kwargs: object) -> None:
    time.sleep(5)
