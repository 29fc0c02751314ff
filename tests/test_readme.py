"""What the READMEs say holds: their Python runs, their commands, files and options exist."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from focalcodec.cli.main import parse
from focalcodec.training.config import read_tree

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "LibriSpeech"
RECIPES = sorted(path.parent for path in (ROOT / "recipes").glob("*/README.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
DOCUMENTS += [recipe / "README.md" for recipe in RECIPES]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS += sorted((ROOT / "focalcodec" / "models").glob("*/*.md"))


def blocks(document: Path, language: str) -> list[str]:
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def prose(document: Path) -> str:
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[tuple[Path, list[str]]]:
    """Folder and words of each command: pipes are taken apart, redirections left out."""
    lines = "".join(blocks(document, "bash")).splitlines()
    parts = [part for line in lines for part in line.split(" | ")]
    simple = [re.sub(r" [<>] \S+", "", part) for part in parts]
    found = []
    recipe = document.parent if document.parent in RECIPES else RECIPE
    for words in (shlex.split(part, comments=True) for part in simple):
        if words[:1] == ["cd"] and ROOT / words[1] in RECIPES:
            recipe = ROOT / words[1]
        if words:
            found.append((recipe, words))
    return found


ALL_COMMANDS = [
    pytest.param(recipe, words, id=f"{recipe.name}: {' '.join(words)}")
    for path in DOCUMENTS
    for recipe, words in commands(path)
]


# -- Python and YAML: run as they stand ------------------------------------------------------------


def test_yaml_of_a_delta_loads(tmp_path: Path) -> None:
    (block,) = blocks(ROOT / "docs" / "training.md", "yaml")
    found = re.match(r"# (\w+\.yaml): ", block)
    assert found is not None
    hparams = tmp_path / "recipes" / "LibriSpeech" / "hparams"
    shutil.copytree(RECIPE / "hparams", hparams)
    shutil.copytree(ROOT / "focalcodec" / "hparams", tmp_path / "focalcodec" / "hparams")
    (hparams / found[1]).write_text(block, encoding="utf-8")
    tree = read_tree(hparams / found[1])
    assert tree["tr_splits"] == ["train-clean-100"] and tree["hidden_dims"] == [512, 256, 128]
    assert tree["lr"] == 0.0005, "of its base"


# -- commands: each one is known here --------------------------------------------------------------


SCRIPTS = ("train.py", "evaluate.py", "generate.py", "augment.py", "demo_corpus.py")


def check_make(words: Sequence[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert words[1] in targets
    for word in words[2:]:
        assert re.search(rf"^{word.partition('=')[0]} \?=", (ROOT / "Makefile").read_text(), re.M)


def check_pip(words: Sequence[str]) -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    pins = [word for word in words if "==" in word]
    assert all(f"\n{pin}\n" in constraints for pin in pins)
    if "-c" in words:
        assert words[words.index("-c") + 1] == "constraints.txt"
    if "-e" in words:
        extra = re.fullmatch(r"\.(?:\[([\w-]+)\])?", words[-1])
        assert extra is not None
        assert extra[1] is None or f'"{extra[1]}":' in (ROOT / "setup.py").read_text()
    assert pins or "-e" in words


def check_train(recipe: Path, words: Sequence[str]) -> None:
    from focalcodec.compat import ensure_torchaudio

    ensure_torchaudio()
    import speechbrain as sb

    file, _, overrides = sb.parse_arguments(list(words))
    path = recipe / file
    if not path.exists():  # the delta of docs/training.md
        (block,) = blocks(ROOT / "docs" / "training.md", "yaml")
        assert path.name in block
        path = RECIPE / "hparams" / "focalcodec_50hz.yaml"
    read_tree(path, overrides)


@pytest.mark.parametrize(("recipe", "words"), ALL_COMMANDS)
def test_command_is_right(recipe: Path, words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        check_make(words)
    elif program.endswith("pip"):
        check_pip(words)
    elif program == "torchrun":
        assert rest[0] == "--nproc_per_node"
        if rest[2:4] == ["-m", "focalcodec"]:
            assert parse(rest[4:]).command == rest[4]
        else:
            assert rest[2] in ("train.py", "evaluate.py")
            check_train(recipe, rest[3:])
    elif rest and rest[0] in SCRIPTS:
        check_train(recipe, rest[1:])
    elif rest and rest[0] == "fit_mix.py":
        script = (recipe / rest[0]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in script for word in rest if word.startswith("--"))
    elif program.endswith("focalcodec"):
        assert parse(rest).command == rest[0]
    elif program.endswith("python") and rest[0].endswith("quickstart.py"):
        assert (ROOT / rest[0]).is_file() or (RECIPE / rest[0]).is_file()
    elif words[:3] == [".venv/bin/python", "-m", "pytest"]:
        assert all((ROOT / word).is_file() for word in words[3:])
    elif program in ("cd", "cp"):
        assert (ROOT / [word for word in rest if word != "-r"][0]).is_dir()
    else:
        assert words in (
            ["python3", "-m", "venv", ".venv"],
            ["source", ".venv/bin/activate"],
            ["tensorboard", "--logdir", "results"],
        ), "a command without a check: add one"


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
class TestNames:
    def test_links_lead_somewhere(self, document: Path) -> None:
        for target in re.findall(r"\]\(([^)]+)\)", prose(document)):
            if re.match(r"https?://", target):
                continue
            path, _, anchor = target.partition("#")
            file = (document.parent / path).resolve() if path else document
            assert file.exists(), target
            if anchor:
                titles = re.findall(r"^#+ (.+)$", prose(file), flags=re.MULTILINE)
                assert anchor in [
                    re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles
                ]

    def test_yamls_and_files_exist(self, document: Path) -> None:
        made_by_runs = {
            "hyperparams.yaml",
            "save",
            "results",
            "samples",
            "tensorboard",
            "manifests",
        }
        for name in re.findall(r"`([\w./-]+)`", prose(document)):
            first = name.split("/")[0]
            if first in made_by_runs or name.startswith("lucadellalib/"):
                continue
            if name.endswith(".yaml"):
                places = [recipe / "hparams" / name for recipe in RECIPES] + [ROOT / name]
                assert any(place.is_file() for place in places), name
            elif re.search(r"\.(py|md|txt)$", name) and "/" in name:
                assert (ROOT / name).is_file(), name

    def test_nothing_left_to_fill_in(self, document: Path) -> None:
        assert not re.search(r"\{\{|TODO|XXX", prose(document))


def test_layout_is_the_repository() -> None:
    (block,) = [b for b in blocks(ROOT / "README.md", "text") if b.startswith("focalcodec/")]
    folder = ROOT
    for line in block.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if not line.startswith(" "):
            folder = ROOT / names[0]
            assert folder.is_dir(), names[0]
            continue
        for name in names:
            assert (folder / name).exists(), name


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_knobs_of_the_table_are_knobs(recipe: Path) -> None:
    text = (recipe / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^## Knobs.*?(?=^## )", text, flags=re.MULTILINE | re.DOTALL)
    known = {key for path in (recipe / "hparams").glob("*.yaml") for key in read_tree(path)}
    for row in re.findall(r"^\| (`.+?) \|", table, flags=re.MULTILINE):
        for knob in re.findall(r"`(\w+)`", row):
            assert knob in known, knob


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_every_yaml_is_listed(recipe: Path) -> None:
    text = (recipe / "README.md").read_text(encoding="utf-8")
    for path in (recipe / "hparams").glob("*.yaml"):
        assert f"`{path.name}`" in text, path.name
