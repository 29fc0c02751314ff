"""The parts of a codec by their names: this package's, registered ones, and those of a user."""

from __future__ import annotations

import ast
import importlib
import json
import os
import reprlib
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import nn

from focalcodec.blocks.hifigan import HiFiGAN
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.contracts import ROLES, check_fit, check_part, takes_lengths
from focalcodec.encoders.logmel import LogMel, MelEncoder
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.errors import UserError, one_line
from focalcodec.files import atomic_path
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.hub.weights import check_arguments
from focalcodec.quantizers.fsq import FiniteScalarQuantizer
from focalcodec.quantizers.lfq import LookupFreeQuantizer
from focalcodec.quantizers.ssq import ScalarSphericalQuantizer
from focalcodec.quantizers.vq import SimVQ, VectorQuantizer
from focalcodec.vocos import Vocos
from focalcodec.wavenext import WaveNeXt
from focalcodec.wavlm import WavLM

PARTS: dict[str, tuple[type[nn.Module], ...]] = {
    "encoder": (WavLM, LogMel, MelEncoder, SpeechEncoder),
    "compressor": (FocalEncoder,),
    "quantizer": (
        BinarySphericalQuantizer,
        LookupFreeQuantizer,
        FiniteScalarQuantizer,
        ScalarSphericalQuantizer,
        VectorQuantizer,
        SimVQ,
    ),
    "decompressor": (FocalDecoder,),
    "decoder": (Vocos, WaveNeXt, HiFiGAN),
}
# Classes of the official package by their names; a client may add its own, for any role.
REGISTRY: dict[str, type[nn.Module]] = {
    part.__name__: part
    for part in (BinarySphericalQuantizer, FocalDecoder, FocalEncoder, Vocos, WaveNeXt, WavLM)
}
_OFFICIAL = frozenset(REGISTRY)
_COPY_OF = "__focalcodec_folder__"  # in a module that was found in the folder of a model
_SHIPPED = frozenset(part for parts in PARTS.values() for part in parts)


def register_part(part: type[nn.Module]) -> type[nn.Module]:
    """Let a codec's configuration name a class of one's own; also a decorator.

    Configurations then contain the name of the class alone. A class that is not registered is named
    with its module, such as `my_parts.MyEncoder`, and loaded with `trust=["my_parts"]`. Raises a
    `UserError` if another class has this name.

    Example
    -------
    >>> @register_part
    ... class Loud(Vocos):
    ...     pass
    >>> type(build_part("decoder", "Loud", {"input_dim": 8, "num_layers": 1})).__name__
    'Loud'
    """
    name = part.__name__
    known = REGISTRY.get(name) or next((p for p in _SHIPPED if p.__name__ == name), part)
    if path_of(known) != path_of(part):
        raise UserError(f"register_part: {path_of(known)} has the name {name}; take another name")
    REGISTRY[name] = part
    return part


def path_of(part: type) -> str:
    """Module and name of a class."""
    return f"{part.__module__}.{part.__qualname__}"


def stored_name(part: Any) -> str:
    """Name of a part's class in `config.json`; with its module if it is not ours or registered.

    Example
    -------
    >>> stored_name(LogMel()), stored_name(nn.Identity())
    ('LogMel', 'torch.nn.modules.linear.Identity')
    """
    kind = type(part)
    if kind in _SHIPPED:
        return kind.__name__
    return next((name for name, own in REGISTRY.items() if own is kind), path_of(kind))


def is_inside(name: str, modules: Collection[str]) -> bool:
    """Whether a class is of one of these modules, or one of these names itself."""
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


@contextmanager
def trusted_code(folder: Path, trust: Collection[str]) -> Iterator[None]:
    """Find trusted modules also in the folder of a model, which may have copies, or in this one."""
    here, path = folder.resolve(), list(sys.path)
    for name in list(sys.modules) if trust else ():
        # The copy of a module in the folder of another model may differ.
        if vars(sys.modules[name]).get(_COPY_OF, here) != here:
            del sys.modules[name]
    known = set(sys.modules)
    if trust:
        sys.path += [str(here), str(Path.cwd())]
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - known:
            if Path(vars(sys.modules[name]).get("__file__") or "").parent == here:
                vars(sys.modules[name])[_COPY_OF] = here


def import_trusted(module: str) -> Any:
    """Import a module of the user; a `UserError` in one line if it is missing or wrong."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"trust {module}: no module {error.name}; run in the folder that has it, or copy it to"
            " the folder of the model"
        ) from error
    except Exception as error:  # whatever the user's code raises
        kind = type(error).__name__
        raise UserError(f"trust {module}: {kind} in this module: {one_line(error)}") from error


def _find_class(role: str, name: Any, trust: Collection[str]) -> type[nn.Module]:
    own = {key: part for key, part in REGISTRY.items() if key not in _OFFICIAL}
    classes = own | {path_of(part): part for part in own.values()}
    classes |= {part.__name__: part for part in PARTS[role]}
    if isinstance(name, str) and name in classes:
        return classes[name]
    module, _, attribute = str(name).rpartition(".")
    if not module:
        for each in trust:  # it may register the name
            import_trusted(each)
            if name in REGISTRY:
                return REGISTRY[name]
        known = " or ".join(sorted([*own, *(part.__name__ for part in PARTS[role])]))
        raise UserError(
            f"{role}_name={reprlib.repr(name)}: give {known}, or a class of yours with its module"
        )
    if not is_inside(name, trust):
        raise UserError(
            f"{role}_name={name}: code that is not of this package; if you have read it and trust"
            f" it, give --trust {module}, or trust=[{module!r}] in Python"
        )
    found = getattr(import_trusted(module), attribute, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise UserError(f"{role}_name={name}: no nn.Module of this name in {module}; correct it")
    return found


def build_part(
    role: str, name: str, kwargs: dict[str, Any], trust: Collection[str] = ()
) -> nn.Module:
    """Make the part `name`: of `PARTS[role]`, registered, or of a module in `trust`.

    Weights are random. Raises a `UserError` if there is no such class, its code is not trusted, or
    it does not take these arguments.
    """
    part = _find_class(role, name, trust)
    if part in _SHIPPED:
        check_arguments(f"{role}_config: ", kwargs, get_type_hints(part.__init__))
    try:
        return part(**kwargs)
    # errors of a constructor for an unknown key, or a value of the wrong type or size
    except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError) as error:
        reason = one_line(error)
        raise UserError(f"{role}_config: not one of {name} ({reason}); correct it") from error


def check_parts(parts: Mapping[str, Any]) -> None:
    """Check the contracts of parts, by role, and that they fit; other modules are not looked at.

    A class in `REGISTRY` may have the official call. Raises a `UserError` as `check_part` and
    `check_fit`.
    """
    known = {role: parts[role] for role in ROLES if role in parts}
    for role, part in known.items():
        is_official = type(part) in REGISTRY.values() and not takes_lengths(part)
        check_part(role, part, is_official)
    check_fit(known)


# -- writing ---------------------------------------------------------------------------------------


def check_stored(parts: Mapping[str, Any]) -> None:
    """Check that parts can be loaded from what `config.json` says about them, before it is written.

    Raises a `UserError` for a class that no other program can import, or that its `config` makes
    otherwise.
    """
    for role, part in parts.items():
        kind = type(part)
        if kind in _SHIPPED:
            continue
        if stored_name(part) == path_of(kind) and (
            kind.__module__ == "__main__" or "<locals>" in kind.__qualname__
        ):
            raise UserError(
                f"{role}: {kind.__name__} could not be loaded again, because it is not in a module;"
                " move it to a file such as my_parts.py, or call register_part"
            )
        try:
            with torch.random.fork_rng(devices=[]):  # saving changes no random numbers
                again = kind(**json.loads(json.dumps(dict(part.config))))
            shapes = [{k: v.shape for k, v in p.state_dict().items()} for p in (part, again)]
        except (TypeError, ValueError, RuntimeError, ArithmeticError, AttributeError) as error:
            raise UserError(
                f"{role}: {kind.__name__} can't be made again from its config"
                f" ({one_line(error)}); give it the arguments of the class"
            ) from error
        if shapes[0] != shapes[1]:
            name = next(k for k in (*shapes[0], *shapes[1]) if shapes[0].get(k) != shapes[1].get(k))
            raise UserError(
                f"{role}: {kind.__name__} made from its config has another {name}; give config all"
                " arguments of the class"
            )


def copy_modules(parts: Collection[Any], folder: str | os.PathLike[str]) -> None:
    """Copy the modules of one's own parts to a model's folder, where `trust` finds them."""
    for source in own_modules(parts):
        target = Path(folder) / source.name
        if target.resolve() != source.resolve():
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)


def own_modules(parts: Collection[Any]) -> list[Path]:
    """Files of the modules of one's own parts, and those beside them that they import.

    Modules of packages do not count.
    """
    found: dict[Path, None] = {}
    own = (type(part) for part in parts if type(part) not in _SHIPPED)
    waiting = [_file_of(kind) for kind in own if "." not in kind.__module__]
    while waiting:
        path = waiting.pop()
        if path is None or path in found or "site-packages" in path.parts:
            continue
        found[path] = None
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            beside = (path.parent / f"{name.partition('.')[0]}.py" for name in names)
            waiting += [each for each in beside if each.is_file()]
    return list(found)


def _file_of(kind: type) -> Path | None:
    """File of a class with a method; its module may not be in `sys.modules` any more."""
    methods: list[Callable[..., Any]] = [each for each in vars(kind).values() if callable(each)]
    files = [each.__code__.co_filename for each in methods if hasattr(each, "__code__")]
    path = Path(files[0]) if files else None
    return path if path is not None and path.is_file() else None
