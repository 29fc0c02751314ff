"""`--help` of the recipes' scripts lists YAMLs, and keys with value and comment."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from focalcodec.training.run import script
from focalcodec.training.run.config import read_tree

RECIPES = Path(__file__).parents[4] / "recipes"
SCRIPTS = [path for path in sorted(RECIPES.glob("*/*.py")) if "script(" in path.read_text()]
OWN_OPTIONS = [path for path in SCRIPTS if "argparse" in path.read_text()]


def help_of(path: Path, words: list[str], monkeypatch, capsys) -> str:
    monkeypatch.setattr(sys, "argv", [str(path), *words])
    script(lambda argv: pytest.fail("the help runs nothing"))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "path", sorted({*SCRIPTS} - {*OWN_OPTIONS}), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_help_lists_the_scripts_yamls(path: Path, monkeypatch, capsys) -> None:
    shown = help_of(path, ["--help"], monkeypatch, capsys)
    named = re.findall(r"^  (hparams/\S+\.yaml) +\S", shown, flags=re.M)
    assert named and all((path.parent / name).is_file() for name in named)
    wrong = "resynthesis" if path.name == "train.py" else "focalcodec_50hz"
    assert not [name for name in named if wrong in name]
    assert f"python {path.name} YAML --help" in shown
    if "sid_mini" in shown:  # a sentence of two lines
        assert "one of eight synthetic speakers, from the tokens of the package's codec" in shown


@pytest.mark.parametrize("path", OWN_OPTIONS, ids=lambda path: path.stem)
def test_a_script_without_yamls_shows_its_own_help(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    asked: list[list[str]] = []
    script(asked.append)
    assert asked == [["--help"]]


@pytest.mark.parametrize("name", ["train.py", "evaluate.py", "augment.py"])
def test_a_yaml_of_another_script_is_refused(name: str, monkeypatch, capsys) -> None:
    yamls = {"train.py": "sid_mini", "evaluate.py": "resynthesis_mini", "augment.py": "augment"}
    for of, yaml in yamls.items():
        file = RECIPES / "LibriSpeech" / "hparams" / f"{yaml}.yaml"
        monkeypatch.setattr(sys, "argv", [str(RECIPES / "LibriSpeech" / name), str(file)])
        if of == name:
            script(lambda argv: None)
            continue
        with pytest.raises(SystemExit) as caught:
            script(lambda argv: pytest.fail("nothing runs"))
        assert caught.value.code == 2
        assert capsys.readouterr().err == f"error: {file}: for {of}, not for {name}\n"


def test_help_lists_each_key_with_value_and_comment(monkeypatch, capsys) -> None:
    file = RECIPES / "LibriSpeech" / "hparams" / "focalcodec_50hz.yaml"
    train = RECIPES / "LibriSpeech" / "train.py"
    shown = help_of(train, [str(file), "--batch_size", "8", "-h"], monkeypatch, capsys)
    for key in read_tree(file):
        assert (f"\n  --{key} " in shown or f"\n  --{key}\n" in shown) != key.startswith("__"), key
    assert re.search(r"\n  --batch_size 16 +# clips, of all processes\n", shown)
    assert re.search(r"\n  --output_folder !ref results/<name>/<seed>\n", shown)
    assert re.search(r"\n  --precision fp32 +# Floating-point precision", shown)
    assert re.search(r"\n  --device +# The device to run the experiment on \(e\.g\. ", shown)
    assert "seed_everything" not in shown


def test_help_of_an_evaluation_has_no_run_options(monkeypatch, capsys) -> None:
    folder = RECIPES / "LibriSpeech"
    words = ["--help", str(folder / "hparams" / "finetuned.yaml")]
    shown = help_of(folder / "evaluate.py", words, monkeypatch, capsys)
    assert "  --old_data !PLACEHOLDER" in shown and "SpeechBrain" not in shown


def test_help_of_a_yaml_that_is_missing(monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        help_of(RECIPES / "LibriSpeech" / "train.py", ["gone.yaml", "-h"], monkeypatch, capsys)
    assert caught.value.code == 2 and "gone.yaml: no such file" in capsys.readouterr().err
