"""The command line of a recipe: a YAML, values of its keys, and run options of SpeechBrain.

python train.py hparams/focalcodec_50hz.yaml --batch_size 8 --own_data "my speech" --precision bf16

A value is a name, and taken as it was typed, if the YAML's own value is text. Other values are
YAML: numbers, True or False, lists, mappings, null. If the YAML's own value is null or empty, the
last word of the key decides: `NAMES`.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperpyyaml.core import recursive_resolve
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, TaggedScalar
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode
from ruamel.yaml.tag import Tag
from speechbrain.utils.run_opts import HELP_TEXTS, RunOptions

from focalcodec.errors import UserError
from focalcodec.training.run.config import read_tree
from focalcodec.training.run.tree import tag_of, to_text

NAMES = frozenset(
    """
    actor by cache codecs data distilled file folder freeze from languages mixture pairs path
    sentences sets source splits target tests tokenized unlabelled voices
    """.split()
)
"""Last words of keys whose values are names: `data_folder`, `init_from`, `te_splits`."""

RUN_OPTIONS = (HELP_TEXTS.keys() & RunOptions().as_dict().keys()) | {
    "jit_module_keys",
    "compile_module_keys",
}
_WANTED = {bool: "no value", int: "a whole number", float: "a number"}
_TYPES = typing.get_type_hints(RunOptions)


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes
    ----------
    file : str
        The YAML.
    overrides : str
        Values of its keys, as YAML.
    run_options : dict
        Options of SpeechBrain that were given.
    trust : tuple of str
        Modules whose classes may be built from the YAML of another run.
    """

    file: str
    overrides: str
    run_options: dict[str, Any]
    trust: tuple[str, ...]


def read_command(argv: Sequence[str], with_run_options: bool = False) -> Command:
    r"""Read the command line of a recipe.

    Parameters
    ----------
    argv : sequence of str
        The YAML, then `--key value` or `--key=value`. `--trust` names a module.
    with_run_options : bool
        Whether SpeechBrain's run options may be given too; they come before keys of the YAML.

    Raises
    ------
    UserError
        There is no YAML, a value is missing or is not of its key's kind.

    Example
    -------
    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.yaml"
    >>> _ = file.write_text("name: demo\nlr: 0.1\nown_data: null\n")
    >>> command = read_command([str(file), "--name", "007", "--lr", "1e-3", "--own_data=a #b"])
    >>> print(command.overrides.strip())
    name: '007'
    lr: 1e-3
    own_data: 'a #b'
    """
    if not argv or argv[0].startswith("-"):
        given = f"{argv[0]}: " if argv else ""
        raise UserError(f"{given}name a YAML first, such as hparams/NAME.yaml; --help lists them")
    tree, changes = read_tree(argv[0]), CommentedMap()
    options: dict[str, Any] = {}
    trust: list[str] = []
    for key, words in _pairs(argv[1:]):
        if with_run_options and key in RUN_OPTIONS:
            options[key] = _run_option(key, words)
        elif not any(words):
            raise UserError(f"--{key}: no value behind it; give --{key} VALUE, or null for none")
        elif key == "trust" and key not in tree:
            trust += words
        else:
            changes[key] = _value(key, " ".join(words), tree)
    overrides = to_text(changes) if changes else ""
    return Command(argv[0], overrides, options, tuple(trust))


def _pairs(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Keys, and the words behind each."""
    pairs: list[tuple[str, list[str]]] = []
    for word in words:
        key, has_value, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and key:
            pairs.append((key, [value] if has_value else []))
        elif not pairs:
            raise UserError(f"{word}: no key before this value; write --key value")
        else:
            pairs[-1][1].append(word)
    return pairs


def _run_option(key: str, words: list[str]) -> Any:
    """Value of a run option, of the type that SpeechBrain's class declares."""
    kind, text = _TYPES[key], " ".join(words)
    if kind is bool and not words:
        return True
    if key.endswith("_module_keys"):
        return words
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    kind = next((each for each in _WANTED if each in (kind, *typing.get_args(kind))), str)
    wanted = " or ".join(choices) or _WANTED.get(kind, "a value")
    try:
        if kind is bool or not text or (choices and text not in choices):
            raise ValueError
        return kind(text)
    except ValueError:
        raise UserError(f"--{key}={text}: give {wanted}") from None


def _value(key: str, text: str, tree: Mapping[str, Any]) -> Any:
    """A value for the tree of a YAML: a name as it was typed, else what YAML makes of it."""
    own: Any = tree.get(key)
    if tag_of(own) in ("!ref", "!copy"):
        with suppress(ValueError):  # a wrong reference, which is reported when the YAML is loaded
            own = recursive_resolve(own.value, [], tree)
    has_name = key.rpartition("_")[2] in NAMES
    is_open = own is None or tag_of(own) == "!PLACEHOLDER"
    if has_name and text == "null":
        return None
    if isinstance(own, str) or (is_open and has_name):
        return _name(text)
    try:
        if isinstance(own, (list, Mapping)) and not tag_of(own) and _has_names(own, has_name):
            return _names(YAML(typ="safe", pure=True).compose(text))
        return YAML().load(text)
    except (YAMLError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "problem", None) or "too deep").split())
        raise UserError(f"--{key} {text}: not YAML ({reason})") from error


def _name(text: str) -> Any:
    # HyperPyYAML would read a text in parentheses as a tuple.
    if re.fullmatch(r"\(.*\)", text):
        return TaggedScalar(text, style="'", tag=Tag(suffix="tag:yaml.org,2002:str"))
    return text


def _has_names(own: Any, if_empty: bool) -> bool:
    """Whether the values of a list or mapping are names: its own are, or it is empty."""
    leaves = list(_leaves(own))
    return if_empty if not leaves else all(isinstance(leaf, str) for leaf in leaves)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(item)
    else:
        yield value.value if tag_of(value) == "!ref" else value


def _names(node: Any) -> Any:
    """Lists and mappings of YAML whose keys and values are text, as it was typed."""
    if isinstance(node, SequenceNode):
        return [_names(item) for item in node.value]
    if isinstance(node, MappingNode):
        return {key.value: _names(value) for key, value in node.value}
    if node is None or (node.style is None and node.value in ("null", "")):
        return None
    return _name(node.value)


def run_options(command: Command) -> RunOptions:
    """SpeechBrain's run options, with those of a command line."""
    return dataclasses.replace(
        RunOptions.from_dictionary(command.run_options), param_file=command.file
    )


# -- help ------------------------------------------------------------------------------------------


HELP = ("--help", "-h")


def usage(argv: Sequence[str], script: Path, description: str) -> str:
    """Help of a script for a command line that asks for it; empty if no YAML is for this script.

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
        yamls = list(_yamls(script))
        if not yamls:
            return ""
        lines += ["YAMLs:", *yamls, ""]
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
        head = _head(path)
        if script.name in _scripts_in(head):
            title = re.split(r"\.(?:\s|$)|;", " ".join(head.partition("\n\n")[0].split()))[0]
            yield f"  {path.relative_to(script.parent).as_posix():<44} {title}"


def refuse_other_script(argv: Sequence[str], script: Path) -> None:
    """Raise if the first lines of a YAML have commands, but none with this script.

    Raises
    ------
    UserError
        The YAML is for another script, which the message names.
    """
    file = Path(argv[0]) if argv else Path()
    if file.suffix in (".yaml", ".yml") and file.is_file():
        known = _scripts_in(_head(file))
        if known and script.name not in known:
            raise UserError(f"{file}: for {' or '.join(known)}, not for {script.name}")


def _head(path: Path) -> str:
    """The comment in the first lines of a YAML."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    head = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "\n".join(line.lstrip("# ") for line in head)


def _scripts_in(head: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\bpython (\w+\.py) ", head)))


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
            first = re.split(r"(?<!e\.g)\. (?=[A-Z'])", about)[0].rstrip(".")
            yield f"  {f'--{name}{value}':<42} # {first}"
