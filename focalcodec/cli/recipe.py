"""`focalcodec recipe` and `config`: copies of the training recipes, and their resolved YAMLs."""

from __future__ import annotations

import argparse
import ast
import difflib
import shutil
import tempfile
from pathlib import Path

from focalcodec.cli.main import DONE
from focalcodec.errors import UserError
from focalcodec.files import write_errors

RECIPE_EXAMPLES = """examples:
  focalcodec recipe list
  focalcodec recipe copy LibriSpeech my_recipe

A copy runs in its own folder if the package is installed. Edit its YAML files and Python files.
"""
CONFIG_EXAMPLES = """examples:
  focalcodec config hparams/focalcodec_50hz_mini.yaml
  focalcodec config hparams/focalcodec_50hz.yaml --batch_size 8 > my_50hz.yaml

The output is one plain HyperPyYAML file with all values. If a value is not the base's, a comment
says where it comes from: a file or the command line.
"""
_LEFT_OUT = ("results", "__pycache__")  # made by runs


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec recipe`."""
    parser.epilog = RECIPE_EXAMPLES
    parser.add_argument("action", choices=["list", "copy"], help="list all recipes, or copy one")
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the recipe to copy")
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="new folder for the copy (default: NAME)"
    )


def run_recipe(args: argparse.Namespace) -> int:
    """List the recipes, or copy one and print the command that runs the copy."""
    root = recipes_folder()
    names = sorted(path.name for path in root.iterdir() if (path / "train.py").is_file())
    if args.action == "list":
        if args.name is not None:
            raise UserError(f"recipe list {args.name}: list takes no name; leave it out")
        for name in names:
            print(f"{name:<14}{_title(root / name)}")
        return DONE
    if args.name is None:
        raise UserError(f"recipe copy: no name; give one of {', '.join(names)}")
    if args.name not in names:
        lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(args.name.lower(), lower, n=1, cutoff=0)
        raise UserError(f"{args.name}: no such recipe; did you mean {lower[near[0]]}?")
    folder = Path(args.name if args.folder is None else args.folder)
    copy_recipe(root / args.name, folder.expanduser())
    print(f"{folder}: copy of recipe {args.name}; to run it:")
    print(f"  cd {folder}")
    print(f"  {_command(root / args.name)}")
    return DONE


def recipes_folder() -> Path:
    """Folder of the recipes: `recipes/` of a checkout, or of the installed package."""
    package = Path(__file__).parents[1]
    for folder in (package / "recipes", package.parent / "recipes"):
        if (folder / "LibriSpeech" / "train.py").is_file():
            return folder
    raise UserError(f"{package}: no recipes beside the package; install it again")


def recipe_files(recipe: Path) -> list[Path]:
    """Files of a recipe, relative to its folder: Python, YAML and README.md, no results."""
    paths = sorted(path.relative_to(recipe) for path in recipe.rglob("*"))
    return [
        path
        for path in paths
        if (path.suffix in (".py", ".yaml") or path.name == "README.md")
        and not {*path.parts} & {*_LEFT_OUT}
    ]


def copy_recipe(recipe: Path, folder: Path) -> None:
    """Copy a recipe to a new folder; a `UserError` if the folder exists."""
    if folder.exists():
        raise UserError(f"{folder}: exists already; give a new folder")
    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as staging:
            whole = Path(staging, recipe.name)
            for path in recipe_files(recipe):
                (whole / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(recipe / path, whole / path)
            whole.rename(folder)


def _title(recipe: Path) -> str:
    """First sentence of the recipe's README.md, without the mark of a heading."""
    readme = recipe / "README.md"
    if not readme.is_file():
        return ""
    return readme.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def _command(recipe: Path) -> str:
    """First command in the docstring of the recipe's train.py."""
    script = ast.parse((recipe / "train.py").read_text(encoding="utf-8"))
    lines = (ast.get_docstring(script) or "").splitlines()
    # the comment behind a command starts with "#"
    commands = [line.partition("#")[0].strip() for line in lines if line.startswith("python ")]
    return next(iter(commands), "python train.py --help")


# -- config ---------------------------------------------------------------------------------------


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec config`; other options are keys of the YAML."""
    parser.usage = "focalcodec config FILE [--key value ...]"
    parser.epilog = CONFIG_EXAMPLES
    parser.add_argument("file", metavar="FILE", help="YAML file of a recipe, or your own")


def run_config(args: argparse.Namespace) -> int:
    """Print the resolved YAML."""
    try:
        from focalcodec.training.run.command import read_command
        from focalcodec.training.run.config import resolve_config
    except ImportError as error:
        raise UserError(
            f"config: needs {error.name}, which is installed for training;"
            " pip install -e '.[recipes]'"
        ) from error
    command = read_command([args.file, *args.keys])
    print(resolve_config(command.file, command.overrides).rstrip())
    return DONE
