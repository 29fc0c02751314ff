"""`focalcodec recipe`: the list, and copies from a checkout and from an installed package."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from focalcodec.cli import recipe
from focalcodec.cli.main import main
from focalcodec.errors import UserError

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_list(capsys: pytest.CaptureFixture) -> None:
    assert main(["recipe", "list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(path.parent.name for path in RECIPES.glob("*/train.py"))


@pytest.mark.parametrize("folder", ["my_recipe", "deep/below", None])
def test_copy(folder: str | None, capsys: pytest.CaptureFixture) -> None:
    words = ["recipe", "copy", "LibriSpeech", *([] if folder is None else [folder])]
    assert main(words) == 0
    copy = Path(folder or "LibriSpeech")
    out = capsys.readouterr().out.splitlines()
    assert out[1] == f"  cd {copy}" and out[2].startswith("  python train.py hparams/")
    assert (copy / out[2].split()[2]).is_file(), "the YAML of the command is in the copy"
    files = recipe.recipe_files(RECIPES / "LibriSpeech")
    assert {Path("train.py"), Path("README.md")} < {*files}
    for path in files:
        assert (copy / path).read_bytes() == (RECIPES / "LibriSpeech" / path).read_bytes()
    assert sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file()) == files


def test_copy_from_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = Path("site-packages/focalcodec")
    shutil.copytree(RECIPES / "LibriSpeech", installed / "recipes" / "LibriSpeech")
    shutil.copytree(installed / "recipes" / "LibriSpeech", installed / "recipes" / "Other")
    (installed / "recipes" / "LibriSpeech" / "results").mkdir()
    (installed / "recipes" / "LibriSpeech" / "results" / "run.yaml").touch()
    monkeypatch.setattr(recipe, "__file__", str(installed / "cli" / "recipe.py"))
    assert recipe.recipes_folder() == installed / "recipes"
    assert main(["recipe", "copy", "Other", "copied"]) == 0
    assert main(["recipe", "copy", "LibriSpeech"]) == 0
    assert Path("copied/train.py").is_file() and not Path("LibriSpeech/results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("copy librispech new", "librispech: no such recipe; did you mean LibriSpeech?"),
        ("copy LibriSpeech taken", "taken: exists already; give a new folder"),
        ("copy", "recipe copy: no name; give one of "),
        ("list LibriSpeech", "recipe list LibriSpeech: list takes no name; leave it out"),
    ],
)
def test_refusals(words: str, message: str, capsys: pytest.CaptureFixture) -> None:
    Path("taken").mkdir()
    assert main(["recipe", *words.split()]) == 2
    assert capsys.readouterr().err.startswith(f"focalcodec: error: {message}")
    assert not any(Path("taken").iterdir())


def test_no_recipes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(recipe, "__file__", "site-packages/focalcodec/cli/recipe.py")
    assert main(["recipe", "list"]) == 2
    assert "no recipes beside the package; install it again" in capsys.readouterr().err


def test_a_copy_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []

    def full(source: Path, target: Path) -> None:
        if copied:
            raise OSError(errno.ENOSPC, "No space left on device", str(source))
        copied.append(str(target))
        Path(target).touch()

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match=f"^{tmp_path}/mine: can't be written: the disk is full"):
        recipe.copy_recipe(recipe.recipes_folder() / "LibriSpeech", tmp_path / "mine")
    assert copied and not list(tmp_path.iterdir())
