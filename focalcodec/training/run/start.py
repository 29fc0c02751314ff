"""The start of a run: its frozen encoder, and first weights from a codec or another run.

start = load_start(hparams)                       # the YAML's `encoder` and `init_from`
initialise(modules, start.trained, list(modules))
freeze(modules, ["compressor"])                   # the YAML's `freeze`
"""

from __future__ import annotations

import difflib
import inspect
import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.tag import Tag
from speechbrain.utils.distributed import if_main_process
from torch import nn

from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import describe_encoder
from focalcodec.parts import check_parts
from focalcodec.training.run.config import read_tree, resolve_config
from focalcodec.training.run.trained import (
    TrainedParts,
    describe_with_teacher,
    gives_feats_of,
    load_trained,
    refuse_other_encoder,
    with_clean,
)
from focalcodec.training.run.tree import tag_of, to_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The frozen encoder of a run, and the source of its first weights."""

    encoder: Any
    trained: TrainedParts | None = None


def load_start(hparams: Mapping[str, Any], device: torch.device | None = None) -> Start:
    """Encoder and first weights that a YAML names: `encoder`, `init_from`, `replace_encoder`.

    With `init_from`, the encoder is the one that those weights were trained on. With
    `replace_encoder` too, it is the YAML's, which must have been distilled from the former. The
    codec of a probe is moved to the device.

    Raises
    ------
    UserError
        The encoder or the weights can't be loaded, or do not fit together.
    """
    make_encoder = hparams["encoder"]
    trust = hparams.get("__trust__", ())
    for name, value in (("device", device), ("trust", trust)):
        if name in inspect.signature(make_encoder).parameters:
            make_encoder = partial(make_encoder, **{name: value})
    source, trained = hparams.get("init_from"), hparams.get("__trained__")
    if source is not None and trained is None:
        trained = load_trained(source, trust)
    if trained is not None and not hparams["replace_encoder"]:
        encoder = trained.encoder_for(hparams.get("modules", {}))
    else:
        encoder = make_encoder()
        if trained is not None:
            check_replacement(trained, encoder)
    if hasattr(encoder, "modules"):  # not the codec of a probe
        check_parts({**hparams.get("modules", {}), "encoder": encoder})
    return Start(encoder, trained)


def load_source(file: str | Path, overrides: str, trust: Collection[str]) -> TrainedParts | None:
    """Parts of the `init_from` of a YAML, or None; see `load_config` and `load_trained`."""
    if read_tree(file, overrides).get("init_from") is None:
        return None
    return load_trained(YAML().load(resolve_config(file, overrides))["init_from"], trust)


def with_architecture(file: str | Path, overrides: str, source: TrainedParts) -> str:
    """Command line of a run whose modules get the architecture of `init_from`.

    A value that the YAML names by a reference is changed where it is named: `hidden_dims`, not
    `modules: {compressor: {hidden_dims: ...}}`. A discriminator keeps the YAML's architecture.

    Parameters
    ----------
    file, overrides
        See `load_config`.
    source : TrainedParts
        Result of `load_trained`.

    Returns
    -------
    str
        YAML text; the values of the command line have priority.
    """
    tree = read_tree(file)
    changes: Any = CommentedMap()
    for name, node in tree["modules"].items():
        part = source.parts.get(name)
        if name != "discriminator" and hasattr(part, "config"):
            arguments = _taken_over(part, node, tree, changes)
            if arguments:
                changes.setdefault("modules", CommentedMap())[name] = arguments
    return to_text(_joined(changes, YAML().load(overrides) if overrides else {}))


def _taken_over(part: Any, node: Any, tree: Any, changes: Any) -> Any:
    """What a module of a YAML has to change; what it names by references goes into `changes`."""
    tag, arguments = f"!new:{type(part).__module__}.{type(part).__qualname__}", CommentedMap()
    if tag_of(node) != tag or not isinstance(node, Mapping):
        arguments.update(_arguments(part))
        arguments.yaml_set_ctag(Tag(suffix=tag))
        return arguments
    parameters = inspect.signature(type(part)).parameters
    for key, value in _arguments(part).items():
        default = getattr(parameters.get(key), "default", None)
        own = node[key] if key in node else _plain(default)
        named = re.fullmatch(r"<(\w+)>", own.value) if tag_of(own) == "!ref" else None
        if named and changes.get(named[1], tree[named[1]]) == value:
            continue
        if named and named[1] not in changes:
            changes[named[1]] = _flow(value)
        elif own != value:
            arguments[key] = _flow(value)
    return arguments


def _flow(value: Any) -> Any:
    """A list as [1, 2] in YAML."""
    if not isinstance(value, list):
        return value
    sequence = CommentedSeq(value)
    sequence.fa.set_flow_style()
    return sequence


def _joined(tree: Any, changes: Mapping[str, Any]) -> Any:
    """A tree with the values of another one, which have priority."""
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = _joined(tree[key], value) if both and not tag_of(value) else value
    return tree


def check_replacement(source: TrainedParts, encoder: Any) -> None:
    """Raise if an encoder can't replace the one that a source's weights were trained on.

    Parameters
    ----------
    source : TrainedParts
        Result of `load_trained`.
    encoder : Module
        An encoder that was distilled from the source's encoder (its `teacher` describes that), or
        an encoder that changes the feats of one of these two (its `clean`).

    Raises
    ------
    UserError
        The encoder is neither.
    """
    known = with_clean(encoder)
    if not any(gives_feats_of(each, source) for each in known):
        trained_on = source.trained_on or describe_encoder(source.encoder)
        teacher = describe_with_teacher(known[-1])[1]
        refuse_other_encoder(f"replace_encoder: init_from={source.name}", trained_on, teacher)


def initialise(
    modules: Mapping[str, nn.Module], source: TrainedParts, names: Sequence[str]
) -> None:
    """Copy weights of a source into a run's modules.

    Parameters
    ----------
    modules : mapping of str to Module
        Modules of the run.
    source : TrainedParts
        Result of `load_trained`.
    names : sequence of str
        Modules that get the weights. If the source has no discriminator (a codec never has one), or
        one with another architecture, a discriminator keeps its random weights, with a warning.

    Raises
    ------
    UserError
        The source is of the other stage, or its parts have another architecture, because the
        command line changes it; the message names the differences.

    Example
    -------
    >>> from focalcodec.focalnet import FocalEncoder
    >>> theirs, ours = (FocalEncoder(8, 4, [dim], [1]) for dim in (6, 5))
    >>> source = TrainedParts("old", {"compressor": theirs}, nn.Identity)
    >>> initialise({"compressor": ours}, source, ["compressor"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: init_from=old: compressor.hidden_dims is [6], here [5]; ...
    """
    present = [
        name
        for name in names
        if name != "discriminator" or _has_discriminator_like(source, modules[name])
    ]
    _refuse_other_shape(source, {name: (source.part(name), modules[name]) for name in present})
    for name in present:
        # without the vector of an utterance in the source, its weights keep their first values
        own = modules[name].state_dict().items()
        kept = {key: x for key, x in own if key.split(".")[0] in ("voice", "adaptive_norms")}
        modules[name].load_state_dict(kept | source.part(name).state_dict())


def _has_discriminator_like(source: TrainedParts, ours: nn.Module) -> bool:
    theirs = source.parts.get("discriminator")
    if theirs is not None and _shapes(theirs) == _shapes(ours):
        return True
    if if_main_process():
        logger.warning(
            "init_from=%s: %s; this run's begins with random weights",
            source.name,
            "it has no discriminator" if theirs is None else "its discriminator is built otherwise",
        )
    return False


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def freeze(modules: Mapping[str, nn.Module], names: Sequence[str]) -> None:
    """Do not train modules, or parts of them.

    Parameters
    ----------
    modules : mapping of str to Module
        Modules of the run.
    names : sequence of str
        For instance `compressor`, or `decompressor.layers.0`.

    Raises
    ------
    UserError
        There is no such module, or nothing is left to train.

    Example
    -------
    >>> freeze({"compressor": nn.Linear(1, 1)}, ["compresser"])
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: freeze: no module 'compresser'; did you mean 'compressor'?
    """
    if isinstance(names, str):
        raise UserError(f"freeze={names}: not a list; write [{names}]")
    known = {
        f"{part}.{inner}" if inner else part: module
        for part, whole in modules.items()
        for inner, module in whole.named_modules()
    }
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(modules)}"
            raise UserError(f"freeze: no module {name!r}; {hint}")
        known[name].requires_grad_(False)
    parameters = [p for module in modules.values() for p in module.parameters()]
    if names and not any(parameter.requires_grad for parameter in parameters):
        raise UserError(f"freeze=[{', '.join(names)}]: nothing is left to train; leave one out")


def _refuse_other_shape(source: TrainedParts, pairs: Mapping[str, tuple[Any, Any]]) -> None:
    differences: list[str] = []
    for name, (theirs, ours) in pairs.items():
        if type(theirs) is not type(ours):
            raise UserError(
                f"init_from={source.name}: its {name} is {type(theirs).__name__}, this YAML's is"
                f" {type(ours).__name__}; in a YAML of your own make it a !new: of the source's"
            )
        if not hasattr(ours, "config"):
            _refuse_other_tensors(source, name, theirs, ours)
            continue
        old, new = _arguments(theirs), _arguments(ours)
        differences += [
            f"{name}.{key} is {value}, here {new.get(key)}"
            for key, value in old.items()
            if value != new.get(key)
        ]
    if differences:
        raise UserError(
            f"init_from={source.name}: {'; '.join(differences)}; its architecture is taken over, so"
            " leave out the options that change it"
        )


def _refuse_other_tensors(
    source: TrainedParts, part: str, theirs: nn.Module, ours: nn.Module
) -> None:
    old, new = theirs.state_dict(), ours.state_dict()
    for name in sorted(old.keys() | new.keys()):
        shapes = [tuple(tensors[name].shape) if name in tensors else None for tensors in (old, new)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"init_from={source.name}: {part}.{name} is {shapes[0]}, here {shapes[1]}; give its"
                f" run's arguments of modules: {part}"
            )


def _arguments(module: Any) -> dict[str, Any]:
    return _plain(dict(module.config))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
