"""The YAML of a run's folder is data: no code of another person's run runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from focalcodec.cli.main import main
from focalcodec.errors import UserError
from focalcodec.training.run.stored import read_stored
from focalcodec.training.run.trained import load_run, load_trained

YAML = """\
seed: 1986
__set_seed: !apply:speechbrain.utils.seed_everything [1986]
prepare: !name:librispeech_prepare.prepare_librispeech
    tr_splits: [train]
brain: !name:brains.QuantizerBrain
encoder: !name:focalcodec.encoders.logmel.LogMel {n_mels: 8}
modules:
    compressor: !new:torch.nn.Linear {in_features: 2, out_features: 3}
opt_class: !name:torch.optim.AdamW
    betas: (0.9, 0.98)
epoch_counter: !new:speechbrain.utils.epoch_loop.EpochCounter
    limit: 1
best_checkpoint: {max_key: epoch}
init_from: null
other: 1
"""
PLACES = {  # name: line, and what the code replaces
    "encoder": (6, "!name:focalcodec.encoders.logmel.LogMel {n_mels: 8}"),
    "modules": (8, "!new:torch.nn.Linear {in_features: 2, out_features: 3}"),
    "other": (15, "other: 1"),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, as a training leaves it."""
    folder = tmp_path / "run"
    save = folder / "save" / "CKPT+1"
    save.mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text(YAML)
    (folder / "encoder.json").write_text('{"name": "LogMel", "config": {}, "sha256": ""}')
    save_file(nn.Linear(2, 3).state_dict(), save / "compressor.ckpt")
    write_figures(folder, "end-of-epoch: true\nepoch: 1\nunixtime: 5.0\n")
    return folder


def write_figures(run: Path, text: str) -> None:
    """Write CKPT.yaml, and the mark with its hash: the folder is whole."""
    save = run / "save" / "CKPT+1"
    (save / "CKPT.yaml").write_text(text)
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in save.glob("*[TP].*")}
    hashes["compressor.ckpt"] = hashlib.sha256((save / "compressor.ckpt").read_bytes()).hexdigest()
    (save / "COMPLETE.json").write_text(json.dumps(hashes))


def refusal_of_export(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that export prints."""
    assert main(["export", str(run), "demo", str(run.parent / "codec")]) == 2
    assert not (run.parent / "codec").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_run_is_read(run: Path) -> None:
    loaded = load_run(run)
    assert loaded["encoder"]().config["n_mels"] == 8
    stored = load_run(run)["modules"]["compressor"]
    assert torch.equal(loaded["modules"]["compressor"].weight, stored.weight)
    values = read_stored(run / "hyperparams.yaml")
    assert values["seed"] == 1986 and values["opt_class"].arguments == {"betas": (0.9, 0.98)}
    assert values["brain"].name == "brains.QuantizerBrain"


CODE = [
    "!apply:os.system ['touch MARK']",
    "!new:subprocess.Popen [[touch, MARK]]",
    "!name:os.system",
    "!name:numpy.load",
    "!name:torch.hub.load {repo_or_dir: MARK}",
    "!module:antigravity",
    "!applyref:os.system ['touch MARK']",
    "!include:other.yaml",
    "!ref <seed>",
    "!!python/object/apply:os.system ['touch MARK']",
    "!!python/name:os.system",
    "!<tag:yaml.org,2002:python/object/new:subprocess.Popen> [[touch, MARK]]",
    "!whatever 1",
]


@pytest.mark.parametrize("place", [*PLACES, "figures"])
@pytest.mark.parametrize("code", CODE)
def test_code_is_refused_by_its_line(code: str, place: str, run: Path, capsys) -> None:
    mark = run / "mark"
    (run / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    code = code.replace("MARK", str(mark))
    if place == "figures":
        file, line = "CKPT.yaml", 2
        write_figures(run, f"end-of-epoch: true\nepoch: {code}\nunixtime: 5.0\n")
    else:
        file, (line, old) = "hyperparams.yaml", PLACES[place]
        new = f"other: {code}" if place == "other" else code
        (run / file).write_text(YAML.replace(old, new))
    message = refusal_of_export(run, capsys)
    assert not mark.exists()
    assert f"{file}, line {line}: " in message and message.count(file) == 1


def test_code_in_a_tuple_is_text(run: Path) -> None:
    """HyperPyYAML reads what is in the parentheses with the tags of Python."""
    code = f"(!!python/object/apply:os.system ['touch {run / 'mark'}'])"
    (run / "hyperparams.yaml").write_text(YAML.replace("other: 1", f"other: {code}"))
    assert read_stored(run / "hyperparams.yaml")["other"] == code
    assert not (run / "mark").exists()


@pytest.mark.parametrize(
    "code",
    [
        "!new:evil.Evil {}",  # of the recipe, whose modules the folder has
        "!name:focalcodec.training.run.export.export {folder: MARK}",
        "!new:focalcodec.files.os.system {}",
        "!new:torch.nn.modules.module.Tensor {}",
    ],
)
def test_other_names_are_read_and_never_made(code: str, run: Path) -> None:
    mark = run / "mark"
    (run / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (run / "hyperparams.yaml").write_text(YAML.replace("other: 1", f"other: {code}"))
    assert load_run(run)["modules"] and not mark.exists()
    assert read_stored(run / "hyperparams.yaml")["other"].name in code
    for tag, old in list(PLACES.values())[:2]:
        (run / "hyperparams.yaml").write_text(YAML.replace(old, code))
        with pytest.raises(UserError, match=rf"hyperparams.yaml, line {tag}: .* --trust"):
            load_run(run)["encoder"]()
    assert not mark.exists()


def test_modules_that_the_caller_trusts_are_built(run: Path) -> None:
    (run / "mine.py").write_text("import torch\nclass Mine(torch.nn.Linear): pass\n")
    (run / "hyperparams.yaml").write_text(YAML.replace("torch.nn.Linear", "mine.Mine"))
    with pytest.raises(UserError, match=r"line 8: !new:mine\.Mine is code .* give --trust mine$"):
        load_run(run)
    for trust in ("mine", "mine.Mine"):
        assert type(load_run(run, [trust])["modules"]["compressor"]).__name__ == "Mine"


BOMB = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '1'] * 9)}]" for i in range(20))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "its aliases"),
        ("a: &a [*a]", "nested too deeply"),
        (f"a: {'[' * 5000}", "nested too deeply"),
        (f"a: {'{b: ' * 2000}1{'}' * 2000}", "nested too deeply"),
        ("a: " + "x" * 2_000_000, "too large"),
        ("a: [1", "line 1: not the YAML of a run"),
        ("a: 1\na: 2", "not the YAML of a run"),
        ("[1, 2]", "no mapping of names"),
        ("2: 3", "no mapping of names"),
        ("", "no mapping of names"),
        ("a: \x00", "not YAML"),
    ],
)
@pytest.mark.parametrize("place", ["hyperparams.yaml", "save/CKPT+1/CKPT.yaml"])
def test_yaml_that_is_none_is_one_line(text, words, place, run: Path, capsys) -> None:
    if place == "hyperparams.yaml":
        (run / place).write_text(text)
    else:
        write_figures(run, text)
    message = refusal_of_export(run, capsys)
    assert words in message and Path(place).name in message and len(message) < 500


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{max_key: epoch}", "{ckpt_predicate: 1}"),
        ("{max_key: epoch}", "[]"),
        ("out_features: 3", "out_features: [1]"),
        ("out_features: 3", "outer: 3"),
        ("out_features: 3", "out_features: 4"),
        ("out_features: 3", "out_features: 1.e+30"),
        ("out_features: 3", "out_features: 100_000_000_000_000"),
        ("compressor: !new:torch.nn.Linear", "compressor: !name:torch.nn.Linear"),
        ("compressor: !new:torch.nn.Linear", "compressor: "),
        ("init_from: null", "init_from: 7"),
        ("init_from: null", "init_from: [a]"),
        ("init_from: null", "init_from: RUN"),
    ],
)
def test_wrong_values_are_one_line(old: str, new: str, run: Path, capsys) -> None:
    yaml = run / "hyperparams.yaml"
    yaml.write_text(YAML.replace(old, new.replace("RUN", str(run))))
    assert yaml.name in (message := refusal_of_export(run, capsys)) or "CKPT" in message


def test_two_runs_that_start_from_each_other_are_refused(run: Path) -> None:
    other = run.parent / "other"
    other.symlink_to(run)
    yaml = run / "hyperparams.yaml"
    yaml.write_text(YAML.replace("init_from: null", f"init_from: {other}"))
    with pytest.raises(UserError, match="not the source of this run"):
        load_trained(run)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{}", "x", "\x00"])
def test_a_wrong_description_of_the_encoder_is_one_line(text: str, run: Path, capsys) -> None:
    (run / "encoder.json").write_text(text)
    message = refusal_of_export(run, capsys)
    assert "encoder.json: not" in message or "encoder.json: JSON of" in message


def test_an_encoder_without_arguments_is_made(tmp_path: Path) -> None:
    path = tmp_path / "hyperparams.yaml"
    maker = "focalcodec.encoders.whisper_packages.whisper_base_mix"
    path.write_text(f"encoder: !name:{maker}\nother: !name:{maker} [a_file]\n")
    stored = read_stored(path)
    assert stored["encoder"].build().args[0].__name__ == "whisper_base_mix"
    with pytest.raises(UserError, match="may have only file here"):
        stored["other"].build()
