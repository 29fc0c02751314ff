"""The READMEs are correct: their Python runs, and their commands, files and options exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from focalcodec.cli.main import parse
from focalcodec.training.run.config import read_tree

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


def yamls_of_training() -> dict[str, str]:
    """YAMLs that docs/training.md shows, by the name in their first line."""
    found = blocks(ROOT / "docs" / "training.md", "yaml")
    return {block.partition("# ")[2].partition(":")[0]: block for block in found}


def test_yaml_of_a_delta_loads(tmp_path: Path) -> None:
    hparams = tmp_path / "hparams"
    shutil.copytree(RECIPE / "hparams", hparams)
    name = "focalcodec_50hz_small.yaml"
    (hparams / name).write_text(yamls_of_training()[name], encoding="utf-8")
    tree = read_tree(hparams / name)
    assert tree["tr_splits"] == ["train-clean-100"] and tree["hidden_dims"] == [512, 256, 128]
    assert tree["lr"] == 0.0005, "of its base"


def test_an_experiment_folder_is_found(tmp_path: Path) -> None:
    """`my_experiment/` of docs/training.md, with a schedule beside its YAML, trains."""
    experiment = tmp_path / "my_experiment"
    experiment.mkdir()
    (python,) = blocks(ROOT / "docs" / "training.md", "python")
    (experiment / "my_parts.py").write_text(python, encoding="utf-8")
    yaml = yamls_of_training()["my_50hz.yaml"].replace("__base__: ..", f"__base__: {ROOT}")
    (experiment / "my_50hz.yaml").write_text(yaml, encoding="utf-8")
    words = [str(experiment / "my_50hz.yaml"), "--debug", "--sample_clips=0"]
    done = subprocess.run(
        [sys.executable, "train.py", *words, f"--output_folder={tmp_path / 'run'}"],
        cwd=RECIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "my_parts.cosine" in (tmp_path / "run" / "hyperparams.yaml").read_text(encoding="utf-8")


# -- commands: each one is known here --------------------------------------------------------------


SHOWN = "".join(
    block
    for page in ("training.md", "new_dataset.md", "parts.md")
    for block in blocks(ROOT / "docs" / page, "yaml")
)
SCRIPTS = ("train.py", "evaluate.py", "generate.py", "augment.py", "demo_corpus.py")
SCRIPTS += ("leave_one_out.py",)


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
    package = words[-1].startswith(".")  # this one
    if "-e" in words or package:
        extra = re.fullmatch(r"\.(?:\[([\w-]+)\])?", words[-1])
        assert extra is not None
        assert extra[1] is None or f'"{extra[1]}":' in (ROOT / "setup.py").read_text()
    if "--index-url" in words:  # PyTorch's CPU build, in the Makefile too
        assert words[-1] in (ROOT / "Makefile").read_text()
    assert pins or package or "--index-url" in words


def check_train(recipe: Path, words: Sequence[str]) -> None:
    from focalcodec.packages import ensure_torchaudio

    ensure_torchaudio()
    import speechbrain as sb

    file, _, overrides = sb.parse_arguments(list(words))
    path = recipe / file
    if not path.exists():  # shown in the documents, for a recipe of one's own
        bases = re.findall(rf"{path.name}.*?^__base__: (\S+)$", SHOWN, re.M | re.S)
        path = RECIPE / "hparams" / Path(bases[0]).name
    read_tree(path, overrides)


@pytest.mark.parametrize(("recipe", "words"), ALL_COMMANDS)
def test_command_is_right(recipe: Path, words: list[str]) -> None:
    while re.match(r"[A-Z_]+=", words[0]):  # the environment
        words = words[1:]
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
    elif rest and rest[0] == "demo_chain.py":
        for yaml in (recipe / "hparams").glob("*_50hz_joint.yaml"):
            check_train(recipe, [f"hparams/{yaml.name}", *rest[3:]])
    elif rest and rest[0] == "improvements.py":
        for yaml in (recipe / "hparams" / "improvements").glob("*.yaml"):
            check_train(recipe, [f"hparams/improvements/{yaml.name}", *rest[2:]])
    elif rest and rest[0] == "token_perplexity.py":
        assert (RECIPES[0].parent / "Demo" / rest[0]).is_file() and len(rest) > 3
    elif rest and rest[0] in ("fit_mix.py", "fit_words.py", "ablations.py", "docs/demo/publish.py"):
        folder = ROOT if "/" in rest[0] else recipe
        script = (folder / rest[0]).read_text(encoding="utf-8")
        own = rest[: rest.index("--")] if "--" in rest else rest
        assert all(f'"{word}"' in script for word in own if word.startswith("--"))
        if own != rest:  # options of train.py are after it
            check_train(recipe, ["hparams/ablations/base.yaml", *rest[len(own) + 1 :]])
    elif program.endswith("focalcodec"):
        assert parse(rest).command == rest[0]
    elif rest and rest[0].startswith(("examples/", "docs/course/")):
        assert (ROOT / rest[0]).is_file()
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
            [".venv/bin/jupyter", "lab", "docs/course"],
            ["tensorboard", "--logdir", "results"],
        ), "a command without a check: add one"


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
class TestNames:
    def test_links_are_valid(self, document: Path) -> None:
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
        folder = document.parent if document.parent in RECIPES else RECIPE
        for name in re.findall(r"`([\w./-]+)`", prose(document)):
            first = name.split("/")[0]
            if first in made_by_runs or name.startswith("lucadellalib/"):
                continue
            if name.endswith(".yaml"):
                places = [recipe / "hparams" / name for recipe in RECIPES]
                places += [ROOT / name, folder / name]
                places += [recipe / "hparams" / "ablations" / name for recipe in RECIPES]
                assert any(place.is_file() for place in places) or f"/{name} " in SHOWN, name
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
    known = {key for path in (recipe / "hparams").rglob("*.yaml") for key in read_tree(path)}
    for row in re.findall(r"^\| (`.+?) \|", table, flags=re.MULTILINE):
        for knob in re.findall(r"`(\w+)`", row):
            assert knob in known, knob


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_every_yaml_is_listed(recipe: Path) -> None:
    text = (recipe / "README.md").read_text(encoding="utf-8")
    for path in (recipe / "hparams").rglob("*.yaml"):
        assert f"`{path.relative_to(recipe / 'hparams')}`" in text, path.name
