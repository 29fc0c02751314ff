"""Reading a recipe's YAML: HyperPyYAML, with deltas over a base and no key that nobody reads.

HyperPyYAML 1.2 can't merge files at top level, accepts an unknown key inside an include's
overrides or in a command line that reaches into one, and does not notice a key that nothing reads.
Here a YAML may name another as its `__base__`, or a list of them, and hold only what differs, and
unknown and dead keys are refused with the nearest name. What a run stores as `hyperparams.yaml` is
plain HyperPyYAML.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.tag import Tag

from focalcodec.errors import UserError

BASE_KEY = "__base__"
_INCLUDE = "!include:"
_LONGEST_CHAIN = 5  # of references; a circle has no end
MOVED = {
    "focalcodec.logmel": "focalcodec.encoders.logmel",
    "focalcodec.mel_encoder": "focalcodec.encoders.logmel",
    "focalcodec.encoders.mel_encoder": "focalcodec.encoders.logmel",
    "focalcodec.speech_encoder": "focalcodec.encoders.speech_encoder",
    "focalcodec.wavlm_convert": "focalcodec.encoders.wavlm_convert",
    "focalcodec.whisper_packages": "focalcodec.encoders.whisper_packages",
}
"""Modules that stored runs name, and where their content is now."""
_MOVED_NAME = re.compile(rf"(?<=:)({'|'.join(map(re.escape, MOVED))})(?=\.)")
_REFERENCE = re.compile(r"<([^<>\s]+)>")


def load_config(
    path: str | Path, overrides: str = "", keys: Collection[str] | None = None
) -> dict[str, Any]:
    r"""Load a YAML after checking that each overridden key is known.

    Parameters
    ----------
    path : str or Path
        HyperPyYAML file; may have a `__base__`, relative to itself. Of several, each changes those
        before it.
    overrides : str
        YAML text from the command line.
    keys : collection of str, optional
        Make only what these top-level keys hold; for a YAML without references.

    Returns
    -------
    dict
        The loaded configuration.

    Raises
    ------
    UserError
        No such file, bad YAML, an unknown key in an override, or an object that refuses its
        arguments.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "base.yaml").write_text("batch_size: 4\nlr: 0.1\n")
    >>> _ = (folder / "fast.yaml").write_text("__base__: base.yaml\nlr: 0.2\n")
    >>> load_config(folder / "fast.yaml")
    {'batch_size': 4, 'lr': 0.2}
    >>> load_config(folder / "fast.yaml", "batch_siez: 8")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: fast.yaml: no key 'batch_siez'; did you mean 'batch_size'?
    """
    tree = read_tree(path, overrides)
    for key in [key for key in tree if keys is not None and key not in keys]:
        del tree[key]
    try:
        hparams = load_hyperpyyaml(_without_chains(_to_text(tree)))
        for key, value in hparams.items():
            _check_arguments(key, value)
        return hparams
    except UserError:
        raise
    except (ValueError, TypeError, ImportError, KeyError, YAMLError) as error:
        reason = " ".join(str(part) for part in error.args) or type(error).__name__
        raise UserError(f"{path}: {' '.join(reason.split())}") from error


def refuse_dead_keys(path: str | Path, read_keys: Collection[str]) -> None:
    """Refuse a YAML with a key that nothing reads.

    Parameters
    ----------
    path : str or Path
        As `load_config`.
    read_keys : collection of str
        Top-level keys that code reads. Others must be referenced by `!ref` or `!copy`, or start
        with two underscores.

    Raises
    ------
    UserError
        There is such a key; the nearest name is shown.
    """
    tree = read_tree(path)
    referenced = {re.split(r"[\[.]", name)[0] for name in _references(tree)}
    for key in tree:
        if key.startswith("__") or key in referenced or key in read_keys:
            continue
        near = difflib.get_close_matches(key, sorted(read_keys), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "remove it"
        raise UserError(f"{Path(path).name}: nothing reads the key {key!r}; {hint}")


def resolve_config(path: str | Path, overrides: str = "") -> str:
    """Text of a YAML with its bases, includes, overrides and references put in.

    Parameters
    ----------
    path, overrides
        As `load_config`.

    Returns
    -------
    str
        HyperPyYAML that needs no other file.
    """
    text = _without_chains(_to_text(read_tree(path, overrides)))
    return resolve_references(text).getvalue()


def read_tree(path: str | Path, overrides: str = "", above: Sequence[Path] = ()) -> Any:
    """YAML tree of a file over its bases, overrides put in, tags and references kept.

    Parameters
    ----------
    path, overrides
        As `load_config`.
    above : sequence of Path
        Files that this one is a base of.

    Returns
    -------
    CommentedMap
        Paths of includes are absolute in it.
    """
    path = Path(path)
    tree = _read_file(path)
    bases = tree.pop(BASE_KEY, [])
    below: Any = CommentedMap()
    for base in [bases] if isinstance(bases, str) else bases:
        if (path.parent / base).resolve() in (inner := [*above, path.resolve()]):
            raise UserError(f"{path}: {BASE_KEY} {base} is built on this very file; name another")
        below = _merge(below, read_tree(path.parent / base, above=inner), path, new_keys=True)
    tree = _merge(below, tree, path, new_keys=True) if bases else tree
    try:
        changes = YAML().load(overrides) if overrides else {}
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"command line: {overrides!r} is not --key value ({reason})") from error
    if not isinstance(changes, Mapping):
        raise UserError(f"command line: {overrides!r} is not --key value")
    return _merge(tree, changes, path)


def _read_file(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        tree = YAML().load(_MOVED_NAME.sub(lambda found: MOVED[found[1]], text))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; a recipe's YAMLs lie in its hparams/") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(tree, Mapping):
        raise UserError(f"{path}: no keys in this file")
    for node in _nodes(tree):
        tag = _tag(node)
        if tag.startswith(_INCLUDE):
            target = (path.parent / tag.removeprefix(_INCLUDE)).resolve()
            included = _read_file(target)
            node.yaml_set_ctag(Tag(suffix=_INCLUDE + str(target)))
            if isinstance(node, Mapping):
                for key in node:
                    _require_key(key, included, target)
    return tree


def _merge(tree: Any, changes: Mapping[str, Any], path: Path, new_keys: bool = False) -> Any:
    known: Any = tree
    if _tag(tree).startswith(_INCLUDE):
        known = _read_file(Path(_tag(tree).removeprefix(_INCLUDE)))
    for key, value in changes.items():
        # An object's arguments (`!new:`, `!name:`) are known to its class, not to the YAML.
        if not new_keys and not re.match("!(new|name|apply):", _tag(tree)):
            _require_key(key, known, path)
        old = tree.get(key)
        if _tag(old).startswith(_INCLUDE) and not isinstance(old, Mapping):
            tag = Tag(suffix=_tag(old))
            old = tree[key] = CommentedMap()
            old.yaml_set_ctag(tag)
        # {} empties a plain mapping, and an empty one takes any keys.
        joined = bool(_tag(old)) or bool(value and old)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and joined and not _tag(value):
            _merge(old, value, path)
        else:
            _require_kind(key, old, value, path)
            tree[key] = value
    return tree


def _require_kind(key: str, old: Any, value: Any, path: Path) -> None:
    if isinstance(old, (bool, int, float)) and isinstance(value, str):
        kind = "True or False" if isinstance(old, bool) else "a number"
        raise UserError(f"{path.name}: {key}={value!r}; give {kind}, such as {old}")


def _require_key(key: str, tree: Mapping[str, Any], path: Path) -> None:
    if key in tree:
        return
    near = difflib.get_close_matches(str(key), [str(k) for k in tree], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"its keys are {', '.join(map(str, tree))}"
    raise UserError(f"{path.name}: no key {key!r}; {hint}")


def _check_arguments(key: str, value: Any) -> None:
    # `!name:` holds arguments for a later call; told now, not after the data was prepared.
    if not isinstance(value, functools.partial):
        return
    try:
        inspect.signature(value.func).bind_partial(*value.args, **value.keywords)
    except TypeError as error:
        raise TypeError(f"{key}: {value.func.__name__} {error}") from error
    except ValueError:
        return  # something compiled that has no signature


def _references(tree: Any) -> Iterator[str]:
    for node in _nodes(tree):
        text = node if isinstance(node, str) else getattr(node, "value", None)
        if isinstance(text, str):
            yield from _REFERENCE.findall(text)


def _nodes(tree: Any) -> Iterator[Any]:
    yield tree
    children = list(tree.values()) if isinstance(tree, Mapping) else tree
    if isinstance(children, list):
        for child in children:
            yield from _nodes(child)


def _tag(node: Any) -> str:
    tag = getattr(node, "tag", None)
    return str(getattr(tag, "value", None) or "")


def _without_chains(text: str) -> str:
    """Text in which no reference leads to one further down: HyperPyYAML follows only the first."""
    for _ in range(_LONGEST_CHAIN):
        resolved = resolve_references(text).getvalue()
        if "!ref" not in resolved:
            break
        text = resolved
    return text


def _to_text(tree: Any) -> str:
    text = io.StringIO()
    YAML().dump(tree, text)
    return text.getvalue()
