"""Read the YAML in a run's folder as data, because the folder may be another person's.

`!new:` and `!name:` are read as `Named`, which is data. Only `Named.build` makes an object, and
only of this package's parts, torch.nn and torch.optim, and of modules that the caller trusts. A tag
that would run other code is an error that names its line.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import re
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode
from torch import nn, optim

from focalcodec.errors import UserError, one_line
from focalcodec.parts import is_inside
from focalcodec.training.run.config import current_class, current_names
from focalcodec.training.run.tree import MOST_NODES

_LARGEST_BYTES = 1_000_000

# The modules of this package whose networks are built.
_PARTS = (
    *("bsq", "focalnet", "vocos", "wavenext", "wavlm", "nn", "encoders", "probes"),
    *("quantizers", "blocks"),
    *("training.discriminators", "training.losses", "training.speaker"),
    "training.spectrogram_discriminators",
)
_NETWORKS = ("torch.nn", "torch.optim", *(f"focalcodec.{part}" for part in _PARTS))
_KINDS = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)
# Functions that make an encoder, and their arguments that a stored YAML may give.
_MAKERS = {
    "focalcodec.encoders.wavlm_convert.wavlm_from_transformers": {"source", "layer", "revision"},
    "focalcodec.encoders.whisper_packages.whisper_base": {"layer", "components"},
    "focalcodec.encoders.whisper_packages.whisper_base_mix": {"file"},
    "focalcodec.training.quantized_feats.quantized_feats": {"source"},
    "focalcodec.training.run.trained.load_student": {"source"},
}
_READ_PACKAGES = ("focalcodec", "torch.nn", "torch.optim", "speechbrain")
# of a constructor, for an unknown argument or a value of a wrong type or size
_MAKING_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(RuntimeError, TypeError, ValueError),
)
_SEED = "speechbrain.utils.seed_everything"  # each recipe's YAML calls it


@dataclass(frozen=True)
class Named:
    """A `!new:` or `!name:` of a stored YAML.

    Parameters
    ----------
    tag, name : str
        For instance `!new` and `focalcodec.vocos.Vocos`.
    arguments : mapping or sequence
        They may contain more of these.
    where : str
        File and line, for messages.
    """

    tag: str
    name: str
    arguments: Mapping[str, Any] | list[Any]
    where: str

    def build(self, trust: Collection[str] = ()) -> Any:
        """Make the object, or the function of `!name:`.

        Raises
        ------
        UserError
            It is none of this package's parts, torch.nn and torch.optim, nor of a module in
            `trust`; or it does not take these arguments.
        """
        made = self._found(trust)
        values = built(self.arguments, trust)
        args, kwargs = ([], values) if isinstance(values, dict) else (values, {})
        if self.tag == "!name":
            return functools.partial(self._call, made, *args, **kwargs)
        return self._call(made, *args, **kwargs)

    def _call(self, made: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return made(*args, **kwargs)
        except UserError:
            raise
        except _MAKING_ERRORS as error:
            reason = one_line(error)
            raise UserError(
                f"{self.where}: {self.name} can't be made ({reason}); correct its values"
            ) from error

    def _found(self, trust: Collection[str]) -> Any:
        trusted = is_inside(self.name, trust)
        module, _, attribute = self.name.rpartition(".")
        if self.tag not in ("!new", "!name") or not (
            trusted or self.name in _MAKERS or is_inside(self.name, _NETWORKS)
        ):
            raise self._refusal()
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{self.where}: there is no {self.name} ({error})") from error
        is_network = isinstance(found, type) and issubclass(found, _KINDS)
        if self.name in _MAKERS and not trusted:
            known, given = _MAKERS[self.name], self.arguments or {}  # without arguments: a list
            if not isinstance(given, Mapping) or not given.keys() <= known:
                names = ", ".join(sorted(known))
                raise UserError(f"{self.where}: {self.name} may have only {names} here")
        elif not trusted and not (is_network and is_inside(found.__module__, _NETWORKS)):
            raise self._refusal()
        return found

    def _refusal(self) -> UserError:
        return _refusal(self.where, f"{self.tag}:{self.name}")


def read_stored(path: str | Path, trust: Collection[str] = ()) -> dict[str, Any]:
    r"""Read the YAML in a run's folder; no code of the folder runs.

    Parameters
    ----------
    path : str or Path
        The file; references in it are resolved, as in each `hyperparams.yaml`.
    trust : collection of str
        Modules that `!new:`, `!name:` and other tags may name.

    Returns
    -------
    dict
        Values; a `!new:` or `!name:` is a `Named`.

    Raises
    ------
    UserError
        The file is not YAML, or has a tag that would run code of a module that is not in `trust`.

    Example
    -------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "hyperparams.yaml"
    >>> _ = path.write_text("lr: 0.1\nact: !new:torch.nn.LeakyReLU {negative_slope: 0.2}\n")
    >>> values = read_stored(path)
    >>> values["lr"], values["act"].build()
    (0.1, LeakyReLU(negative_slope=0.2))
    >>> _ = path.write_text("lr: !apply:os.system [reboot]\n")
    >>> read_stored(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: .../hyperparams.yaml, line 1: !apply:os.system is code ...
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UserError(f"{path}: too large for the YAML of a run; was it damaged?")
        yaml = _reader(path, trust)
        node = yaml.compose(current_names(path.read_text(encoding="utf-8")))
        _refuse_huge(node, path)
        values = None if node is None else yaml.constructor.construct_document(node)
    except UserError:
        raise  # it is a ValueError too
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = " ".join(str(error.problem).split())
        raise UserError(f"{path}{line}: not the YAML of a run ({problem})") from error
    except (YAMLError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply for the YAML of a run") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path}: not the YAML of a run (no mapping of names)")
    return values


def built(value: Any, trust: Collection[str] = ()) -> Any:
    """Copy of a value of `read_stored` in which each `Named` is built."""
    if isinstance(value, Named):
        return value.build(trust)
    if isinstance(value, Mapping):
        return {key: built(item, trust) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(built(item, trust) for item in value)
    return value


def _reader(path: Path, trust: Collection[str]) -> YAML:
    class Reader(SafeConstructor):
        """SafeConstructor with the tags of HyperPyYAML; ruamel keeps tags by class."""

    def named(tag: str, reader: Any, name: str, node: Any) -> Named:
        where = f"{path}, line {node.start_mark.line + 1}"
        if not _may_name(tag, name, trust):
            raise _refusal(where, f"{tag}:{name}")
        if node.id == "mapping":
            arguments = reader.construct_mapping(node, deep=True)
            return Named(tag, *current_class(name, arguments), where)
        return Named(tag, name, _items(reader, node), where)

    for tag in ("!new", "!name", "!apply", "!module"):
        Reader.add_multi_constructor(f"{tag}:", functools.partial(named, tag))
    # HyperPyYAML gives ruamel this tag for texts in parentheses, in the whole process.
    for tag in ("tag:yaml.org,2002:str", "!tuple"):
        Reader.add_constructor(tag, _text_or_tuple)
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Reader
    return yaml


def _items(reader: Any, node: Any) -> list[Any]:
    return reader.construct_sequence(node, deep=True) if node.id == "sequence" else []


def _text_or_tuple(reader: Any, node: Any) -> Any:
    """HyperPyYAML reads (1, 2) as a tuple."""
    text = reader.construct_yaml_str(node)
    if node.style is not None or not re.fullmatch(r"\(.*\)", text):
        return text
    try:
        return tuple(YAML(typ="safe", pure=True).load(f"[{text[1:-1]}]"))
    except YAMLError:
        return text


def _may_name(tag: str, name: str, trust: Collection[str]) -> bool:
    """Whether a tag may stand in a stored YAML, where most are only read."""
    if is_inside(name, trust) or (tag, name) == ("!apply", _SEED):
        return True
    is_known = is_inside(name, _READ_PACKAGES) or _is_of_a_recipe(name)
    return tag in ("!new", "!name") and is_known


def _is_of_a_recipe(name: str) -> bool:
    """Whether a name is of a module that is neither Python's nor installed."""
    top = name.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return False
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return True
    places = [*(spec.submodule_search_locations or []), spec.origin or ""]
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return not any(place.startswith(folder) for place in places for folder in installed)


def _refuse_huge(root: Any, path: Path) -> None:
    """Refuse aliases that stand for a huge tree."""
    if sum(1 for _ in itertools.islice(_nodes(root), MOST_NODES + 1)) > MOST_NODES:
        raise UserError(f"{path}: its aliases (&, *) make it too large for the YAML of a run")


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for child in node.value if isinstance(node, CollectionNode) else []:
        for each in child if isinstance(child, tuple) else (child,):
            yield from _nodes(each)


def _refusal(where: str, tag: str) -> UserError:
    module = tag.partition(":")[2].rpartition(".")[0] or "MODULE"
    return UserError(
        f"{where}: {tag} is code that is not of this package; if you have read it and trust it,"
        f" give --trust {module}"
    )
