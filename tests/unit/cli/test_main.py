"""Options, exit codes, and the commands about models: info, export, download."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.audio import write_audio
from focalcodec.cli import info
from focalcodec.cli.main import COMMANDS, command_parser, main, parse
from focalcodec.fct import TokenTable, read_toks, write_toks
from focalcodec.hub import checkpoints
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.hub.publish import model_card, publish
from tests.unit.small_codecs import GOLDEN, golden_codec

MODEL = str(GOLDEN["tiny_50hz"])
HUB = "huggingface_hub.constants"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"{HUB}.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(f"{HUB}.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def cached(tmp_path: Path) -> str:
    """Name of a model in the hub's cache."""
    repository = tmp_path / "hub" / "models--me--codec"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (repository / name).write_bytes((GOLDEN["tiny_50hz"] / name).read_bytes())
        os.symlink(repository / name, snapshot / name)
    return "me/codec"


# -- the command line ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_in_help_are_valid(command: str) -> None:
    epilog = command_parser(command).epilog or ""
    lines = [line for line in epilog.splitlines() if line.startswith("  focalcodec ")]
    assert len(lines) >= 2
    for line in lines:
        parse(shlex.split(re.split(r" [|<] ", line)[0])[1:])


def test_help_lists_the_commands(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0 and all(f"\n  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        parse([command, "--help"])
    summary = COMMANDS[command].summary
    assert end.value.code == 0 and summary[1:] in capsys.readouterr().out.replace("\n", " ")


def test_options_may_stand_anywhere() -> None:
    words = "resynth a --window_seconds 50 b --sample_rate original c --jobs 2".split()
    args = parse(words)
    assert (args.sources, args.out, args.window_seconds) == (["a", "b"], "c", 50.0)
    assert (args.sample_rate, args.jobs, args.channels) == ("original", 2, "mix")
    assert parse(["decode", "-", "-"]).sources == ["-"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sing a b",
        "encode",
        "encode a",
        "encode a b --job 2",
        "encode a b --jobs 0",
        "encode a b --window_seconds inf",
        "resynth a b --sample_rate 0",
        "resynth a b --sample_rate 44.1k",
        "resynth a b --precision int4",
        "export a",
    ],
)
def test_usage_errors_are_2(line: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        parse(line.split())
    assert end.value.code == 2 and "focalcodec" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, code, message",
    [
        (KeyboardInterrupt(), 130, "focalcodec: interrupted"),
        (PermissionError(13, "Permission denied", "x"), 2, "error: x: Permission denied"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
    ],
)
def test_exit_codes_of_errors(error, code, message, monkeypatch, capsys) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(info, "run_info", fail)
    assert main(["info"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_no_model(jobs: str, capsys: pytest.CaptureFixture) -> None:
    for name in ("a.wav", "b.wav"):
        Path(name).touch()
    assert main(["encode", "a.wav", "b.wav", "out", "--jobs", jobs, "--model", "me/codec"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("focalcodec: error: me/codec: no such folder, not in the hub's cache")
    assert "focalcodec download me/codec --to FOLDER" in line and "--model FOLDER" in line


# -- info ------------------------------------------------------------------------------------------


def described(capsys: pytest.CaptureFixture, *words: str) -> list[dict]:
    assert main(["info", *words, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_info_of_a_model(capsys: pytest.CaptureFixture) -> None:
    (model,) = described(capsys, MODEL)
    codec = golden_codec("tiny_50hz")
    assert model["weights_sha256"] == weights_sha256(codec)
    assert (model["token_rate_hz"], model["kbit_per_second"]) == (50.0, 0.65)
    assert (model["vocabulary"], model["bits_per_token"]) == (8192, 13)
    assert model["parameters"] == sum(p.numel() for p in codec.parameters())
    assert model["parts"]["encoder"]["name"] == "WavLM"
    assert main(["info", MODEL]) == 0
    assert "WavLM, 104,280 parameters" in capsys.readouterr().out


def test_info_of_files(capsys: pytest.CaptureFixture) -> None:
    write_audio("a.wav", torch.zeros(44100), 44100)
    assert main(["encode", "a.wav", "a.fct", "--model", MODEL, "--body", "smallest"]) == 0
    audio, tokens = described(capsys, "a.wav", "a.fct")
    assert (audio["kind"], audio["seconds"], audio["channels"]) == ("audio", 1.0, 1)
    assert (tokens["model"], tokens["num_samples"], tokens["bits"]) == ("tiny_50hz", 44100, 13)
    size = Path("a.fct").stat().st_size
    assert (tokens["bytes"], tokens["kbit_per_second"]) == (size, 8 * size / 1000)
    assert tokens["body"] == "own" and tokens["crc_checked"]


def test_info_checks_the_end_of_a_file(capsys: pytest.CaptureFixture) -> None:
    write_audio("a.wav", torch.zeros(16000), 16000)
    assert main(["encode", "a.wav", "a.fct", "--model", MODEL]) == 0
    header, toks = read_toks("a.fct")
    table = TokenTable.from_toks([toks.repeat(9)], 13)
    table.save("table.fcf")
    write_toks("coded.fct", toks, header, body="smallest", table=table)
    assert [d["crc_checked"] for d in described(capsys, "coded.fct")] == [False]
    assert [d["crc_checked"] for d in described(capsys, "coded.fct", "--table", "table.fcf")]
    data = bytearray(Path("a.fct").read_bytes())
    data[-1] ^= 1
    Path("a.fct").write_bytes(data)
    assert main(["info", "a.fct", "a.wav"]) == 1, "the other one is described"
    out, err = capsys.readouterr()
    assert "a.fct: corrupted" in err and "a.wav: audio" in out
    assert main(["info", "a.fct"]) == main(["info", "gone.wav"]) == main(["info", "gone"]) == 2


def test_info_without_permission(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    write_audio("a.wav", torch.zeros(9), 8000)
    monkeypatch.setattr("focalcodec.audio.audio_info", refuse)
    assert main(["info", "a.wav", MODEL]) == 1
    out, err = capsys.readouterr()
    assert err == "focalcodec: error: a.wav: Permission denied\n" and ": model" in out


# -- download and export ---------------------------------------------------------------------------


def test_download_to_a_folder(cached: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["download", cached]) == 0
    assert main(["download", cached, "--to", "mine"]) == 0
    out = capsys.readouterr().out
    assert "in the cache" in out and "--model mine needs no network" in out
    assert sorted(path.name for path in Path("mine").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert not any(path.is_symlink() for path in Path("mine").iterdir())
    shutil.rmtree("hub")
    codec = FocalCodec.from_pretrained("mine")
    assert weights_sha256(codec) == weights_sha256(golden_codec("tiny_50hz"))


def test_download_takes_what_was_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers needs the code, and own parts their modules; other files stay on the hub."""
    codec = golden_codec("tiny_50hz")
    publish(codec, tmp_path / "published", model_card(codec, "mine"))
    (tmp_path / "published" / "my_parts.py").touch()
    (tmp_path / "published" / "optimizer.bin").touch()
    asked: list[str] = []

    def hub_folder(name: str, patterns: Sequence[str], *options: Any) -> Path:
        asked.extend(patterns)
        return tmp_path / "published"

    monkeypatch.setattr(checkpoints, "hub_folder", hub_folder)
    assert main(["download", "me/mine", "--to", "mine"]) == 0
    names = {path.name for path in (tmp_path / "published").iterdir()} - {"optimizer.bin"}
    assert {path.name for path in Path("mine").iterdir()} == names
    assert all(any(fnmatch(name, pattern) for pattern in asked) for name in names)


def test_download_errors(cached: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["download", "me/other"]) == 2
    assert main(["download", cached, "--revision", "v2"]) == 2
    assert "at v2, and the hub gave none" in capsys.readouterr().err
    Path("file").touch()
    assert main(["download", cached, "--to", "file"]) == 2
    assert main(["download", "hub"]) == 2
    err = capsys.readouterr().err
    assert (
        "file/model.safetensors: can't be written: File exists" in err
        and "hub: a path on this machine" in err
    )


def test_a_full_disk(
    cached: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(args[0]))

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr("focalcodec.training.run.export.export", full)
    assert main(["download", cached, "--to", "mine"]) == 2
    assert main(["export", MODEL, MODEL, "ex"]) == 2
    download, export = capsys.readouterr().err.splitlines()
    assert "error: mine/model.safetensors: can't be written: the disk is full" in download
    assert "error: ex/model.safetensors: can't be written: the disk is full" in export
    assert not list(Path("mine").iterdir())


def test_export_of_neither_a_run_nor_a_codec(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["export", "a", "b", "c"]) == 2
    assert "error: a: not a folder, nor the name of a hub" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "b", "c"]) == 2
    assert "neither an exported codec (no config.json) nor a run" in capsys.readouterr().err


def test_export_without_the_packages_of_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "focalcodec.training.run.export", None)
    assert main(["export", "a", "b", "c"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_config_prints_a_yaml_that_loads(capsys: pytest.CaptureFixture[str]) -> None:
    hparams = Path(__file__).parents[3] / "recipes" / "LibriSpeech" / "hparams"
    yaml = hparams / "focalcodec_25hz_mini.yaml"
    assert main(["config", str(yaml), "--batch_size", "3"]) == 0
    text = capsys.readouterr().out
    lines = {line.split(":")[0]: line for line in text.splitlines()}
    assert lines["batch_size"].split("#")[1].strip() == "command line"
    assert lines["downscale_factors"].split("#")[1].strip() == yaml.name
    assert lines["lr"].split("#")[1].strip() == "focalcodec_50hz_mini.yaml"
    assert "!ref" not in text and "__base__" not in text
    assert main(["config", str(yaml), "--batch_siez", "3"]) == 2
    assert "did you mean 'batch_size'" in capsys.readouterr().err
