"""Fine-tuning: a run that begins with the weights of a codec or of another run.

source = load_source("lucadellalib/focalcodec_50hz")   # or a codec folder, or a run's folder
initialise(modules, source, list(modules))
freeze(modules, ["compressor"])
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process
from torch import nn

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.hub.checkpoints import CONFIG_NAME, PART_NAMES
from focalcodec.hub.fingerprint import describe_encoder, is_described
from focalcodec.hub.locations import named_folder
from focalcodec.training import trained_run

logger = logging.getLogger(__name__)


class Source:
    """What a codec or a run gives to another run.

    Parameters
    ----------
    name : str
        Folder or hub repository, for messages.
    parts : mapping of str to Module
        Those that it has of compressor, quantizer, decompressor, decoder and discriminator.
    make_encoder : callable
        Gives the encoder; only called where it is needed.
    trained_on : dict, optional
        Description of the encoder, where a run's folder has it.

    Raises
    ------
    UserError
        A weight is not finite.
    """

    def __init__(
        self,
        name: str,
        parts: Mapping[str, nn.Module],
        make_encoder: Callable[[], Any],
        trained_on: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.parts, self.trained_on = name, dict(parts), trained_on
        self._make_encoder = make_encoder
        for part, module in self.parts.items():
            _refuse_nonfinite(name, part, module)

    @cached_property
    def encoder(self) -> Any:
        """The encoder that the parts were trained on."""
        encoder = self._make_encoder()
        _refuse_nonfinite(self.name, "encoder", encoder)
        if self.trained_on is not None and not is_described(encoder, self.trained_on):
            refuse_other_encoder(self.name, self.trained_on, describe_encoder(encoder))
        return encoder

    @property
    def is_whole(self) -> bool:
        """Whether it has all parts of a codec."""
        return set(PART_NAMES) - {"encoder"} <= self.parts.keys()

    def part(self, name: str) -> Any:
        """One of the parts.

        Raises
        ------
        UserError
            It has none of this name.
        """
        if name not in self.parts:
            raise UserError(
                f"{self.name}: trained no {name}; is it the other stage's? It has"
                f" {', '.join(self.parts)}"
            )
        return self.parts[name]


def load_source(source: str | Path) -> Source:
    """Parts of an exported codec, of the shipped one, of a hub repository or of a run.

    A run that was fine-tuned has all that its own source has, its trained parts in their place.

    Parameters
    ----------
    source : str or Path
        Folder with `config.json`, folder of a run, hub repository, or `demo`.

    Returns
    -------
    Source
        In eval mode, on the CPU.

    Raises
    ------
    UserError
        None of these, a run without a whole checkpoint, or weights that are not finite.
    """
    folder = named_folder(source)
    if (folder / trained_run.CONFIG_NAME).is_file():
        return _load_run(folder)
    if folder.is_dir() and not (folder / CONFIG_NAME).is_file():
        raise UserError(
            f"{source}: neither an exported codec (no {CONFIG_NAME}) nor a run's folder"
            f" (no {trained_run.CONFIG_NAME}); name one of these, or a hub repository"
        )
    codec: Any = FocalCodec.from_pretrained(source)
    parts = {name: getattr(codec, name) for name in PART_NAMES if name != "encoder"}
    return Source(str(source), parts, lambda: codec.encoder)


def _load_run(folder: Path) -> Source:
    run = trained_run.load_run(folder)
    trained_on = trained_run.read_encoder(folder)
    parts = {name: module.eval() for name, module in run["modules"].items()}
    if run["init_from"] is None:
        return Source(str(folder), parts, run["encoder"], trained_on)
    try:
        before = load_source(run["init_from"])
    except UserError as error:
        raise UserError(f"{folder / trained_run.CONFIG_NAME}: init_from: {error}") from error
    make_encoder = run["encoder"] if run.get("replace_encoder") else lambda: before.encoder
    return Source(str(folder), before.parts | parts, make_encoder, trained_on)


def check_replacement(source: Source, encoder: Any) -> None:
    """Refuse an encoder that can't take the place of the one that a source's weights heard.

    Parameters
    ----------
    source : Source
        From `load_source`.
    encoder : Module
        One that was distilled from the source's (it has its description as `teacher`), or that
        gives its quantised feats (it has it, or one distilled from it, as `clean`).

    Raises
    ------
    UserError
        Neither.
    """
    while encoder is not None:
        if gives_feats_of(encoder, source):
            return
        known = trained_run.describe_with_teacher(encoder)
        encoder = getattr(encoder, "clean", None)
    trained_on = source.trained_on or describe_encoder(source.encoder)
    refuse_other_encoder(f"replace_encoder: init_from={source.name}", trained_on, known[-1])


def gives_feats_of(encoder: Any, source: Source) -> bool:
    """Whether a source's weights were trained on the feats of an encoder or of its teacher."""
    trained_on = source.trained_on or describe_encoder(source.encoder)
    teacher = trained_run.describe_with_teacher(encoder)[1]
    if trained_on == teacher or is_described(encoder, trained_on):
        return True
    # Runs of two versions may have described one encoder by two hashes: compare the encoder itself.
    alike = all(trained_on[key] == teacher[key] for key in ("name", "config"))
    distilled = getattr(encoder, "teacher", None) is not None
    return distilled and alike and is_described(source.encoder, teacher)


def initialise(modules: Mapping[str, nn.Module], source: Source, names: Sequence[str]) -> None:
    """Copy weights of a source into a run's modules.

    Parameters
    ----------
    modules : mapping of str to Module
        The run's.
    source : Source
        From `load_source`.
    names : sequence of str
        Modules to fill. A discriminator keeps its random weights, and that is said, where the
        source has none, as no codec does, or one that is built otherwise.

    Raises
    ------
    UserError
        The source is of the other stage, or its parts are built otherwise; what differs, and the
        option that makes it alike, is in the message.

    Example
    -------
    >>> from focalcodec.focalnet import FocalEncoder
    >>> theirs, ours = (FocalEncoder(8, 4, [dim], [1]) for dim in (6, 5))
    >>> source = Source("old", {"compressor": theirs}, nn.Identity)
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


def _has_discriminator_like(source: Source, ours: nn.Module) -> bool:
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
    """Keep the weights of modules, or of parts of them, as they are.

    Parameters
    ----------
    modules : mapping of str to Module
        The run's.
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


def refuse_other_encoder(name: str, trained_on: dict[str, Any], present: dict[str, Any]) -> None:
    """Compare two descriptions of an encoder, from `describe_encoder`.

    Raises
    ------
    UserError
        They differ; `name` is what was trained on the first.
    """
    for key in ("name", "config", "sha256"):
        if trained_on[key] != present[key]:
            raise UserError(
                f"{name}: trained on another encoder ({key} {trained_on[key]}, now {present[key]});"
                " both stages need the same one"
            )


def _refuse_other_shape(source: Source, pairs: Mapping[str, tuple[Any, Any]]) -> None:
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
        changed = {key: old[key] for key in old if old[key] != new[key]}
        differences += [f"{name}.{key} {value}, here {new[key]}" for key, value in changed.items()]
        if changed:
            values = ", ".join(f"{key}: {json.dumps(value)}" for key, value in changed.items())
            options.append(f"{name}: {{{values}}}")
    if differences:
        raise UserError(
            f"init_from={source.name}: built otherwise ({'; '.join(differences)}); for its"
            f' architecture give --modules "{{{", ".join(options)}}}"'
        )


def _refuse_other_tensors(source: Source, part: str, theirs: nn.Module, ours: nn.Module) -> None:
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


def _refuse_nonfinite(source: str, part: str, module: nn.Module) -> None:
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"{source}: {part}.{name} holds NaN or infinity; its training went wrong: take an"
                " earlier checkpoint or another codec"
            )
