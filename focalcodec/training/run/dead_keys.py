"""Find keys of a YAML that no code reads: an error, because a user who sets one expects an effect.

A key is read if the YAML refers to it or the source code of the Brain names it.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ruamel.yaml import YAML

from focalcodec.errors import UserError
from focalcodec.training.run.command import read_command
from focalcodec.training.run.config import (
    RESOLVED_MARK,
    load_config,
    pop_bases,
    read_file,
    read_tree,
)
from focalcodec.training.run.folder import code_folders
from focalcodec.training.run.tree import references


def load_command(
    argv: Sequence[str], *readers: type | ModuleType
) -> tuple[str, dict[str, Any], str]:
    """Load the YAML of a command that trains nothing, such as an evaluation.

    Parameters
    ----------
    argv : sequence of str
        The YAML, then `--key value` for its keys. The YAML may name modules of its recipe.
    *readers : module or class
        Code that reads the keys, as for `keys_read_by`.

    Returns
    -------
    str, dict, str
        File, configuration, and the values of the command line as YAML text. `__trust__` of the
        configuration are the modules that codecs may name.

    Raises
    ------
    UserError
        The YAML or a value can't be read, a key is unknown, or no code reads a key.
    """
    command = read_command(argv)
    file, overrides = command.file, command.overrides
    sys.path[:0] = [str(path) for path in code_folders(file) if str(path) not in sys.path]
    hparams = load_config(file, overrides)
    refuse_dead_keys(file, keys_read_by(*readers), overrides)
    hparams["__trust__"] = own_names(file) | {*command.trust}
    return file, hparams, overrides


def own_names(yaml: str | Path) -> set[str]:
    """Names of the modules that a YAML may name, which are the user's own."""
    return {path.stem for folder in code_folders(yaml) for path in folder.glob("*.py")}


def refuse_dead_keys(path: str | Path, read_keys: Collection[str], overrides: str = "") -> None:
    """Raise if no code reads a top-level key of a YAML or of the command line.

    If a delta makes a key of its base useless, this key can't be set any more.

    Parameters
    ----------
    path, overrides
        See `load_config`.
    read_keys : collection of str
        Keys that code reads, from `keys_read_by`. Others must be referenced by `!ref` or `!copy`,
        or start with two underscores.

    Raises
    ------
    UserError
        There is such a key; the message has the nearest name.
    """
    path = Path(path)
    own = read_file(path)
    for base in pop_bases(own, path):
        refuse_dead_keys(path.parent / base, read_keys)
    trees = read_tree(path), read_tree(path, overrides)
    names = (name for tree in trees for name in references(tree))
    referenced = {re.split(r"[\[.]", name)[0] for name in names}
    # In a resolved YAML the references to a key are replaced by its value, and the key remains.
    is_resolved = RESOLVED_MARK in path.read_text(encoding="utf-8").partition("\n")[0]
    for key in [*([] if is_resolved else own), *(YAML().load(overrides) or {})]:
        if key.startswith("__") or key in referenced or key in read_keys:
            continue
        near = difflib.get_close_matches(key, sorted(read_keys), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        if is_resolved:
            hint = "in this resolved YAML, change its value where it is used"
        raise UserError(f"{path.name}: nothing reads the key {key!r}; {hint}")


def keys_read_by(*objects: type | ModuleType) -> set[str]:
    """Keys of `hparams` that the source code of modules, or of a class and its bases, reads.

    The keys of the other classes of its file count too: a delta may have one of them as its Brain.

    It finds `hparams["key"]`, `hparams.get("key")`, `"key" in hparams`, `self.hparams.key` and
    `getattr(self.hparams, "key", default)`, and the same for `vars(self.hparams)` and
    `self.hparams.__dict__`, so your own Brain needs no list of its keys.

    Example
    -------
    >>> from focalcodec.training.brain import CodecBrain
    >>> "number_of_epochs" in keys_read_by(CodecBrain), "epochs" in keys_read_by(CodecBrain)
    (True, False)
    """
    modules: set[ModuleType] = set()
    for each in objects:
        own = vars(sys.modules[each.__module__]).values() if isinstance(each, type) else ()
        beside = [c for c in own if isinstance(c, type) and c.__module__ == each.__module__]
        names = {base.__module__ for c in beside for base in c.__mro__} - {"builtins"}
        modules |= {sys.modules[name] for name in names}
        modules |= {each} if isinstance(each, ModuleType) else set()
    files = (vars(module).get("__file__") or "" for module in modules)
    found = [Path(file).read_text(encoding="utf-8") for file in files if file.endswith(".py")]
    return {key for text in found for key in _keys_in(text)}


def _keys_in(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and _is_hparams(node.value):
            yield from {node.attr} - {"__dict__", *dir(dict)}
        elif isinstance(node, ast.Subscript) and _is_hparams(node.value):
            yield from _strings(node.slice)
        elif isinstance(node, ast.Compare) and _is_hparams(node.comparators[0]):
            yield from _strings(node.left)
        elif isinstance(node, ast.Call) and len(node.args) > 0:
            if getattr(node.func, "attr", "") == "get" and _is_hparams(node.func.value):  # type: ignore[attr-defined]
                yield from _strings(node.args[0])
            elif getattr(node.func, "id", "") == "getattr" and _is_hparams(node.args[0]):
                yield from _strings(node.args[1])


def _is_hparams(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        node = node.value
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "vars" and node.args:
        node = node.args[0]
    return getattr(node, "attr", getattr(node, "id", None)) == "hparams"


def _strings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
