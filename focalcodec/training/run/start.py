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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process
from torch import nn

from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import describe_encoder
from focalcodec.parts import check_parts
from focalcodec.training.run.trained import (
    TrainedParts,
    describe_with_teacher,
    gives_feats_of,
    load_trained,
    refuse_other_encoder,
    with_clean,
)

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
    source, trained = hparams.get("init_from"), None
    if source is not None:
        trained = load_trained(source, trust)
    if trained is not None and not hparams["replace_encoder"]:
        encoder = trained.encoder
    else:
        encoder = make_encoder()
        if trained is not None:
            check_replacement(trained, encoder)
    if hasattr(encoder, "modules"):  # not the codec of a probe
        check_parts({**hparams.get("modules", {}), "encoder": encoder})
    return Start(encoder, trained)


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
        The source is of the other stage, or its parts have another architecture. The message names
        the differences and the option that removes them.

    Example
    -------
    >>> from focalcodec.focalnet import FocalEncoder
    >>> theirs, ours = (FocalEncoder(8, 4, [dim], [1]) for dim in (6, 5))
    >>> source = TrainedParts("old", {"compressor": theirs}, nn.Identity)
    >>> initialise({"compressor": ours}, source, ["compressor"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: init_from=old: ... --modules "{compressor: {hidden_dims: [6]}}"
    """
    present = [
        name
        for name in names
        if name != "discriminator" or _has_discriminator_like(source, modules[name])
    ]
    _refuse_other_shape(source, {name: (source.part(name), modules[name]) for name in present})
    for name in present:
        modules[name].load_state_dict(source.part(name).state_dict())


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
    options: list[str] = []
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
        changed = {key: old[key] for key in old if old[key] != new.get(key)}
        differences += [
            f"{name}.{key} {value}, here {new.get(key)}" for key, value in changed.items()
        ]
        if changed:
            values = ", ".join(f"{key}: {json.dumps(value)}" for key, value in changed.items())
            options.append(f"{name}: {{{values}}}")
    if differences:
        raise UserError(
            f"init_from={source.name}: built otherwise ({'; '.join(differences)}); for its"
            f' architecture give --modules "{{{", ".join(options)}}}"'
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
    return json.loads(json.dumps(dict(module.config)))
