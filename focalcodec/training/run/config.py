"""Read a recipe's YAML: plain HyperPyYAML, or a delta of a base; unknown keys are errors.

HyperPyYAML 1.2 can't merge files at top level, and accepts unknown keys from the command line and
keys that no code reads. Here a YAML may name another one as its `__base__` and contain only the
differences. Unknown keys, and keys that no code reads, are errors with the nearest name. The file
`hyperparams.yaml` of a run is plain HyperPyYAML again.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.tag import Tag

from focalcodec.errors import UserError
from focalcodec.training.run.tree import (
    MOST_NODES,
    check_numbers,
    nodes_of,
    require_kind,
    tag_of,
    to_text,
)

BASE_KEY = "__base__"
RESOLVED_MARK = ", resolved; "  # in the first line of a resolved YAML
COMMAND_LINE = "command line"
_INCLUDE = "!include:"
_LONGEST_CHAIN = 5  # depth of references; a circle never ends

MOVED = {
    "focalcodec.logmel": "focalcodec.encoders.logmel",
    "focalcodec.mel_encoder": "focalcodec.encoders.logmel",
    "focalcodec.encoders.mel_encoder": "focalcodec.encoders.logmel",
    "focalcodec.speech_encoder": "focalcodec.encoders.speech_encoder",
    "focalcodec.wavlm_convert": "focalcodec.encoders.wavlm_convert",
    "focalcodec.whisper_packages": "focalcodec.encoders.whisper_packages",
    "focalcodec.training.mel_loss": "focalcodec.training.losses",
    "focalcodec.training.multi_mel_loss": "focalcodec.training.losses",
    "focalcodec.training.losses.mel": "focalcodec.training.losses",
    "focalcodec.training.distill": "focalcodec.training.run.trained",
    "focalcodec.training.quantized": "focalcodec.training.quantized_feats",
    "focalcodec.training.speaker_encoder": "focalcodec.training.speaker",
    "quantized_feats.quantized_feats": "focalcodec.training.quantized_feats.quantized_feats",
    "speaker.SpeakerEncoder": "focalcodec.training.speaker.SpeakerEncoder",
    "discriminators.SpectrogramDiscriminators": (
        "focalcodec.training.spectrogram_discriminators.SpectrogramDiscriminators"
    ),
}
"""Old names of modules and classes in stored runs, and the new ones; some were in recipes/Demo."""
_MOVED_NAME = re.compile(rf"(?<=:)({'|'.join(map(re.escape, MOVED))})(?!\w)")


def load_config(
    path: str | Path, overrides: str = "", keys: Collection[str] | None = None
) -> dict[str, Any]:
    r"""Load a YAML after checking that each overridden key is known.

    Parameters
    ----------
    path : str or Path
        HyperPyYAML file; may have a `__base__`, relative to itself.
    overrides : str
        YAML text from the command line.
    keys : collection of str, optional
        Construct only the values of these top-level keys; for a YAML without references.

    Raises
    ------
    UserError
        The file does not exist or is not YAML, an override has an unknown key, or an object does
        not accept its arguments.

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
    check_numbers(tree, Path(path).name)
    with problems_of(path):
        hparams = load_hyperpyyaml(_without_chains(to_text(tree)))
        for key, value in hparams.items():
            _check_arguments(key, value)
        return hparams


@contextmanager
def problems_of(path: str | Path) -> Iterator[None]:
    """Turn errors of HyperPyYAML, or of an object that it makes, into one line with the file."""
    try:
        yield
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"{path}: its references (<...>) lead to themselves") from error
    except (ValueError, TypeError, ImportError, KeyError, YAMLError) as error:
        reason = " ".join(str(part) for part in error.args if part) or type(error).__name__
        if isinstance(error, ImportError):
            reason += "; if it is in a module of a recipe, run the command in the recipe's folder"
        raise UserError(f"{path}: {' '.join(reason.split())}") from error


def resolve_config(
    path: str | Path,
    overrides: str = "",
    change: Callable[[str], str] | None = None,
    given_by: str = COMMAND_LINE,
) -> str:
    """Text of a YAML in which bases, overrides and references are resolved.

    If a value is not the base's, its comment names the file that it comes from, and replaces the
    comment of the base's value.

    Parameters
    ----------
    path, overrides
        See `load_config`.
    change : callable, optional
        Function for the top-level values that are text.
    given_by : str
        Where the overrides come from, for the comments.

    Returns
    -------
    str
        HyperPyYAML that needs no other file.
    """
    origins: dict[str, str] = {}
    tree = read_tree(path, overrides, origins=origins)
    for key, value in tree.items():
        if change is not None and isinstance(value, str):
            tree[key] = change(value)
    with problems_of(path):
        resolved = resolve_references(_without_chains(to_text(tree))).getvalue()
    text = to_text(YAML().load(resolved))
    lines = text.split("\n")
    for line, name in _places(YAML().load(text)):
        if name in origins:
            origin = given_by if origins[name] == COMMAND_LINE else origins[name]
            lines[line] = f"{lines[line].partition(' # ')[0].rstrip():<40} # {origin}"
    body = "\n".join(lines)
    # The comment at the top is from the base and has the base's command.
    while body.startswith("#"):
        body = body.partition("\n")[2]
    about = "a comment beside a value may name the file that the value comes from"
    return f"# {Path(path).name}{RESOLVED_MARK}{about}.\n{body}"


def _places(tree: Any, prefix: str = "") -> Iterator[tuple[int, str]]:
    """Line and dotted name of each key of a tree that was parsed from text."""
    for key in tree:
        name = f"{prefix}.{key}" if prefix else str(key)
        yield tree.lc.key(key)[0], name
        if isinstance(tree[key], CommentedMap):
            yield from _places(tree[key], name)


def read_tree(
    path: str | Path,
    overrides: str = "",
    above: Sequence[Path] = (),
    origins: dict[str, str] | None = None,
) -> Any:
    """YAML tree of a file merged with base and overrides; tags and references are kept.

    Parameters
    ----------
    path, overrides
        See `load_config`.
    above : sequence of Path
        Files that have this file as their base.
    origins : dict, optional
        Filled with dotted name -> file for each value that is not the base's.

    Returns
    -------
    CommentedMap
        Its paths of includes are absolute.
    """
    path, origins = Path(path), {} if origins is None else origins
    tree = read_file(path)
    bases = pop_bases(tree, path)
    below: Any = CommentedMap()
    for base in bases:
        if (path.parent / base).resolve() in (inner := [*above, path.resolve()]):
            raise UserError(f"{path}: {BASE_KEY} {base} has this file as its base; give another")
        base_tree = read_tree(path.parent / base, above=inner, origins=origins)
        below = _Merge(path, origins, True).into(below, base_tree) if below else base_tree
    tree = _Merge(path, origins, True).into(below, tree) if bases else tree
    try:
        changes = YAML().load(current_names(overrides)) if overrides else {}
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"command line: {overrides!r} is not --key value ({reason})") from error
    if not isinstance(changes, Mapping):
        raise UserError(f"command line: {overrides!r} is not --key value")
    return _Merge(path, origins, False).into(tree, changes)


def pop_bases(tree: Any, path: Path) -> list[str]:
    """Remove the bases from the tree of a file and return their names."""
    bases = tree.pop(BASE_KEY, [])
    names = [bases] if isinstance(bases, str) else bases
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path}: {BASE_KEY} {bases!r}; name a YAML file, or remove the key")
    return names


def current_names(text: str) -> str:
    """Replace old names of modules in YAML text with the current names."""
    return _MOVED_NAME.sub(lambda found: MOVED[found[1]], text)


def read_file(path: Path) -> Any:
    """YAML tree of one file, without its base; UserError names the file and the problem."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = YAML().load(current_names(text))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; a recipe's YAMLs lie in its hparams/") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a YAML file") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(tree, Mapping):
        raise UserError(f"{path}: no keys in this file")
    for key in tree:
        if not isinstance(key, str):
            raise UserError(
                f"{path}: the key {key!r} is not a name; remove it, or write it as text"
            )
    for count, node in enumerate(nodes_of(tree)):
        if count == MOST_NODES:
            raise UserError(f"{path}: its aliases (&, *) make it too large")
        _rename_class(node)
        tag = tag_of(node)
        if tag.startswith("!applyref:"):
            raise UserError(f"{path}: {tag} runs code whenever the file is read; use !apply:")
        if tag.startswith(_INCLUDE):
            target = (path.parent / tag.removeprefix(_INCLUDE)).resolve()
            included = read_file(target)
            node.yaml_set_ctag(Tag(suffix=_INCLUDE + str(target)))
            if isinstance(node, Mapping):
                for key in node:
                    _require_key(key, included, target)
    return tree


def current_class(name: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Discriminators with `windows` in early runs are those of spectrograms."""
    if name == "focalcodec.training.discriminators.Discriminators" and "windows" in arguments:
        windows = arguments.pop("windows")
        if windows and not arguments.get("periods"):
            return MOVED["discriminators.SpectrogramDiscriminators"], {"windows": windows}
    return name, arguments


def _rename_class(node: Any) -> None:
    kind, _, name = tag_of(node).partition(":")
    if kind == "!new" and isinstance(node, CommentedMap):
        now, arguments = current_class(name, node)
        if now != name:
            node.clear()
            node.update(arguments)
            node.yaml_set_ctag(Tag(suffix=f"!new:{now}"))


class _Merge:
    """Writes the values of a file or of the command line into the tree of a base."""

    def __init__(self, path: Path, origins: dict[str, str], is_file: bool) -> None:
        self.path, self.origins, self.is_file = path, origins, is_file
        self.origin = path.name if is_file else COMMAND_LINE

    def into(self, tree: Any, changes: Mapping[str, Any], prefix: str = "") -> Any:
        known: Any = tree
        if tag_of(tree).startswith(_INCLUDE):
            known = read_file(Path(tag_of(tree).removeprefix(_INCLUDE)))
        for key, value in changes.items():
            # A file may add keys. The YAML does not list all arguments of an object (`!new:`,
            # `!name:`); its class does.
            new_keys = self.is_file and not prefix
            if not new_keys and not re.match("!(new|name|apply):", tag_of(tree)):
                _require_key(key, known, self.path)
            name, old = f"{prefix}.{key}" if prefix else str(key), tree.get(key)
            if tag_of(old).startswith(_INCLUDE) and not isinstance(old, Mapping):
                tag = Tag(suffix=tag_of(old))
                old = tree[key] = CommentedMap()
                old.yaml_set_ctag(tag)
            # {} empties a plain mapping, and an empty mapping accepts any keys.
            joined = bool(tag_of(old)) or bool(value and old)
            both = isinstance(value, Mapping) and isinstance(old, Mapping)
            if both and joined and not tag_of(value):
                self.into(old, value, name)
            else:
                require_kind(key, old, value, self.path)
                _drop_comment(tree, key)
                tree[key] = value
                self.origins[name] = self.origin
        return tree


def _drop_comment(tree: Any, key: str) -> None:
    """Remove the comment beside a value, but keep a comment below it, which is the next key's."""
    token = (tree.ca.items.get(key) or [None] * 3)[2]
    if token is None:
        return
    _, _, below = token.value.partition("\n")
    tree.ca.items[key][2] = None
    later = list(tree)[list(tree).index(key) + 1 :]
    if below.strip() and later:
        text = "\n".join(line.removeprefix("#").strip() for line in below.strip().split("\n"))
        tree.yaml_set_comment_before_after_key(later[0], before=text)


def _require_key(key: str, tree: Mapping[str, Any], path: Path) -> None:
    if key in tree:
        return
    near = difflib.get_close_matches(str(key), [str(k) for k in tree], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"its keys are {', '.join(map(str, tree))}"
    raise UserError(f"{path.name}: no key {key!r}; {hint}")


def _check_arguments(key: str, value: Any) -> None:
    # `!name:` has arguments for a later call: check them now, not after the data is prepared.
    if not isinstance(value, functools.partial):
        return
    try:
        inspect.signature(value.func).bind_partial(*value.args, **value.keywords)
    except TypeError as error:
        raise TypeError(f"{key}: {value.func.__name__} {error}") from error
    except ValueError:
        return  # a compiled function without a signature


def _without_chains(text: str) -> str:
    """Resolve references until none leads to another one: HyperPyYAML follows only one step."""
    for _ in range(_LONGEST_CHAIN):
        resolved = resolve_references(text).getvalue()
        if "!ref" not in resolved:
            break
        text = resolved
    return text
