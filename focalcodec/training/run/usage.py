"""The help of a recipe's script: its YAMLs, or the keys of one of them with value and comment."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

from focalcodec.training.run.command import RUN_OPTIONS
from focalcodec.training.run.config import read_tree
from focalcodec.training.run.tree import to_text

HELP = ("--help", "-h")


def usage(argv: Sequence[str], script: Path, description: str) -> str:
    """Help of a script for a command line that asks for it.

    Parameters
    ----------
    argv : sequence of str
        If a YAML is in it, its keys are listed, else the YAMLs of the script's folder.
    script : Path
        The script.
    description : str
        What the script does.

    Raises
    ------
    UserError
        The YAML can't be read.
    """
    file = next((word for word in argv if word.endswith((".yaml", ".yml"))), None)
    lines = [description.strip(), ""]
    if file is None:
        lines += ["YAMLs:", *_yamls(script), ""]
        lines += [f"python {script.name} YAML --help lists the keys of a YAML. Each is an option."]
        return "\n".join(lines)
    tree = read_tree(file)
    lines += [f"Keys of {file}; each is an option, with this value if it is not given:"]
    lines += _keys(to_text(tree))
    if "brain" in tree:
        lines += ["", "Run options of SpeechBrain:", *_run_options(set(tree))]
    return "\n".join(lines)


def _yamls(script: Path) -> Iterator[str]:
    """Names and titles of the YAMLs whose first lines have a command with this script."""
    for path in sorted((script.parent / "hparams").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if f"python {script.name} " in text.partition("\nname:")[0]:
            title = re.split(r"\.(?:\s|$)|;", text.partition("\n")[0].lstrip("# "))[0]
            yield f"  {path.relative_to(script.parent).as_posix():<44} {title}"


def _keys(text: str) -> Iterator[str]:
    """The lines of a YAML as options, from the first key on."""
    shown = False
    lines = text.split("\n")
    for line in itertools.dropwhile(lambda line: not re.match(r"\w", line), lines):
        key = re.match(r"(\w+):", line)
        if key is not None or line.startswith("#"):
            shown = key is None or not key[1].startswith("__")
        if shown and line.strip():
            yield "  " + re.sub(r"^(\w+): ?", r"--\1 ", line).rstrip()


def _run_options(known: set[str]) -> Iterator[str]:
    defaults = RunOptions().as_dict()
    for name in sorted(RUN_OPTIONS - known):
        value = "" if defaults[name] in (False, None) else f" {defaults[name]}"
        about = HELP_TEXTS.get(name, "Names in modules")
        if "deprecated" not in about:
            first = re.split(r"\. (?=[A-Z'])", about)[0].rstrip(".")
            yield f"  {f'--{name}{value}':<42} # {first}"
