"""Load the trained parts of a run or a codec, and the encoder that they were trained on.

trained = load_trained("lucadellalib/focalcodec_50hz")   # or a codec folder, or a run's folder
decompressor = trained.part("decompressor")
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from focalcodec.codec import FocalCodec
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.files import read_json
from focalcodec.hub import named_folder
from focalcodec.hub.checkpoints import CONFIG_NAME as CODEC_CONFIG
from focalcodec.hub.checkpoints import PART_NAMES
from focalcodec.hub.fingerprint import describe_encoder, is_described
from focalcodec.hub.weights import check_values
from focalcodec.parts import trusted_code
from focalcodec.training.run.checkpointing import SAVE_NAME, RunCheckpointer
from focalcodec.training.run.stored import built, read_stored

CONFIG_NAME = "hyperparams.yaml"
ENCODER_NAME = "encoder.json"
KNOBS_NAME = "knobs.json"

# Only these are needed; the other keys may name modules that the run's folder lacks.
_KEYS = ("encoder", "modules", "init_from", "best_checkpoint")


def describe_with_teacher(encoder: Encoder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Descriptions of an encoder and of its teacher, which it was distilled from.

    If an encoder was not distilled, both descriptions are the same.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> own, teacher = describe_with_teacher(LogMel(n_mels=80))
    >>> own == teacher
    True
    """
    own = describe_encoder(encoder)
    return own, encoder.teacher or own


def with_clean(encoder: Encoder) -> list[Encoder]:
    """An encoder, then its `clean` (the encoder that it changes the feats of), and so on.

    A decoder that is trained on changed feats, such as quantised ones, belongs to the last encoder.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> len(with_clean(LogMel()))
    1
    """
    inner = getattr(encoder, "clean", None)
    return [encoder] if inner is None else [encoder, *with_clean(inner)]


def refuse_other_encoder(name: str, trained_on: dict[str, Any], present: dict[str, Any]) -> None:
    """Compare two descriptions of an encoder, from `describe_encoder`.

    Raises
    ------
    UserError
        They differ; `name` in the message is the thing that was trained on the first encoder.
    """
    for key in ("name", "config", "sha256"):
        if trained_on[key] != present[key]:
            raise UserError(
                f"{name}: trained on another encoder ({key} {trained_on[key]}, now {present[key]});"
                " both stages need the same one"
            )


def gives_feats_of(encoder: Encoder, trained: TrainedParts) -> bool:
    """Whether weights were trained on the feats of an encoder, of its teacher or its siblings.

    Siblings are encoders that were distilled from the same teacher: all of them predict its feats.
    """
    trained_on = trained.trained_on or describe_encoder(trained.encoder)
    teacher = describe_with_teacher(encoder)[1]
    if trained_on == teacher or is_described(encoder, trained_on):
        return True
    if encoder.teacher is None:
        return False
    # Two versions may give one encoder two hashes, so also compare with the encoder itself.
    if all(trained_on[key] == teacher[key] for key in ("name", "config")):
        return is_described(trained.encoder, teacher)
    return trained.encoder.teacher == teacher


def load_run(
    folder: str | Path, trust: Collection[str] = (), parts: Collection[str] | None = None
) -> dict[str, Any]:
    """Parts of a codec from a run, with the weights of the best checkpoint.

    No code of the folder runs, except that of modules in `trust`: `focalcodec.training.run.stored`.

    Parameters
    ----------
    folder : str or Path
        A run's folder, with `hyperparams.yaml` and `save/`.
    trust : collection of str
        Modules, in the folder or elsewhere, whose classes may be built.
    parts : collection of str, optional
        Build only these modules of the YAML.

    Returns
    -------
    dict
        `modules`: trained modules; `encoder`: makes the YAML's encoder; `init_from`: source
        of the first weights, or None; `best_checkpoint`; and `replace_encoder`, if it exists.

    Raises
    ------
    UserError
        The folder is not a run's, has no complete checkpoint, or names code that is not trusted.
    """
    folder = Path(folder)
    config = folder / CONFIG_NAME
    if not config.is_file():
        raise UserError(f"{folder}: no {CONFIG_NAME}; name the folder of a training run")
    stored = read_stored(config, trust)
    for key in _KEYS:
        if key not in stored:  # a run of another kind or of an early version
            raise UserError(f"{config}: no {key!r}; not a run that trains a codec")
    wrong = [key for key in ("modules", "best_checkpoint") if not isinstance(stored[key], dict)]
    if wrong or not stored["best_checkpoint"].keys() <= {"min_key", "max_key"}:
        key = (wrong or ["best_checkpoint"])[0]
        raise UserError(f"{config}: {key}={stored[key]!r} is not a run's; was the file changed?")
    with trusted_code(folder, trust):
        names = [name for name in stored["modules"] if parts is None or name in parts]
        modules = {name: _network(config, stored["modules"][name], trust) for name in names}
    _load_weights(folder, modules, stored["best_checkpoint"])
    kept = {key: stored.get(key) for key in ("init_from", "best_checkpoint", "replace_encoder")}
    encoder = partial(_make_encoder, folder, stored["encoder"], trust)
    return {**kept, "modules": modules, "encoder": encoder}


def _make_encoder(folder: Path, stored: Any, trust: Collection[str]) -> Any:
    with trusted_code(folder, trust):
        make = built(stored, trust)
        return _network(folder / CONFIG_NAME, make() if callable(make) else make, trust)


def _network(config: Path, stored: Any, trust: Collection[str]) -> Any:
    network = built(stored, trust)
    if not isinstance(network, nn.Module):
        raise UserError(f"{config}: {network!r} is no network; was the file changed?")
    return network


def _load_weights(
    folder: Path, modules: Mapping[str, nn.Module], best_checkpoint: Mapping[str, str]
) -> None:
    """Load the best checkpoint of a run into its modules; a `UserError` if there is none."""
    unfinished = UserError(f"{folder}: no finished epoch in {SAVE_NAME}/; train it first")
    if not (folder / SAVE_NAME).is_dir():
        raise unfinished
    trained = {name: m for name, m in modules.items() if m.state_dict()}
    checkpointer = RunCheckpointer(folder / SAVE_NAME, trained)
    checkpointer.refuse_if_all_damaged()
    if checkpointer.recover_if_possible(**best_checkpoint) is None:
        raise unfinished


def read_encoder(folder: str | Path) -> dict[str, Any]:
    """Read the description of the encoder that a run was trained on; UserError without one."""
    path = Path(folder) / ENCODER_NAME
    if not path.is_file():
        raise UserError(f"{folder}: no {ENCODER_NAME}; was this run's folder copied in full?")
    about = read_json(path)
    if not isinstance(about, dict) or not {"name", "config", "sha256"} <= about.keys():
        raise UserError(f"{path}: not the description of an encoder; copy it again")
    return about


def load_student(source: str | Path, trust: Collection[str] = ()) -> Encoder:
    """Encoder of a codec, or the small encoder that a run of distillation trained.

    Parameters
    ----------
    source : str or path
        Folder of a run whose modules hold a `student` (recipes/Demo), codec folder, hub repository,
        or `demo`.
    trust : collection of str
        See `load_run`.

    Returns
    -------
    nn.Module
        In eval mode; with the description of its `teacher`.

    Raises
    ------
    UserError
        The source is none of these, or a run without a student.
    """
    folder = named_folder(source)
    if not (folder / CONFIG_NAME).is_file():
        return FocalCodec.from_pretrained(source, trust=trust).encoder
    modules = load_run(folder, trust, ["student"])["modules"]
    if "student" not in modules:
        raise UserError(
            f"{source}: a run that trained no student; give one of distill_encoder.yaml"
        )
    student = modules["student"].eval()
    student.teacher = read_encoder(folder)
    return student


class TrainedParts:
    """Trained parts of a codec or of a run, as first weights of another run.

    Parameters
    ----------
    name : str
        Folder or hub repository, for messages.
    parts : mapping of str to Module
        Some of student, compressor, quantizer, decompressor, decoder and discriminator.
    make_encoder : callable
        Returns the encoder; only called if it is needed.
    trained_on : dict, optional
        Description of the encoder, if a run's folder has it.

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
            _check_weights(name, part, module)

    @cached_property
    def encoder(self) -> Any:
        """The encoder that the parts were trained on."""
        encoder = self._make_encoder()
        _check_weights(self.name, "encoder", encoder)
        if self.trained_on is not None and not is_described(encoder, self.trained_on):
            refuse_other_encoder(self.name, self.trained_on, describe_encoder(encoder))
        return encoder

    def encoder_for(self, modules: Collection[str] = ()) -> Any:
        """Encoder of a codec with these parts, or of a training of `modules`.

        It is the student, if one was trained with the parts. But a training of a student gets the
        feats of its teacher.
        """
        return self.encoder if "student" in modules else self.parts.get("student") or self.encoder

    @property
    def is_whole(self) -> bool:
        """Whether it has all parts of a codec."""
        return set(PART_NAMES) - {"encoder"} <= self.parts.keys()

    def part(self, name: str) -> Any:
        """One of the parts; UserError if there is none with this name."""
        if name not in self.parts:
            raise UserError(
                f"{self.name}: trained no {name}; is it from the other stage? It has"
                f" {', '.join(self.parts)}"
            )
        return self.parts[name]


def load_trained(
    source: str | Path, trust: Collection[str] = (), parts: Collection[str] | None = None
) -> TrainedParts:
    """Parts of an exported codec, of the codec in the package, of a hub repository or of a run.

    A fine-tuned run has all parts of its source, with the newly trained parts instead of the old.

    Parameters
    ----------
    source : str or Path
        Folder with `config.json`, folder of a run, hub repository, or `demo`.
    trust, parts
        Modules whose classes may be parts; of a run see `load_run`.

    Returns
    -------
    TrainedParts
        In eval mode, on the CPU.

    Raises
    ------
    UserError
        The source is none of these, a run has no complete checkpoint, or weights are not finite.
    """
    folder = named_folder(source)
    if (folder / CONFIG_NAME).is_file():
        return _load_trained_run(folder, trust, parts, ())
    if folder.is_dir() and not (folder / CODEC_CONFIG).is_file():
        raise UserError(
            f"{source}: neither an exported codec (no {CODEC_CONFIG}) nor a run's folder"
            f" (no {CONFIG_NAME}); name one of these, or a hub repository"
        )
    codec: Any = FocalCodec.from_pretrained(source, trust=trust)
    parts = {name: getattr(codec, name) for name in PART_NAMES if name != "encoder"}
    return TrainedParts(str(source), parts, lambda: codec.encoder)


def _load_trained_run(
    folder: Path, trust: Collection[str], parts: Collection[str] | None, after: tuple[Path, ...]
) -> TrainedParts:
    run, trained_on = load_run(folder, trust, parts), read_encoder(folder)
    modules = {name: module.eval() for name, module in run["modules"].items()}
    if "student" in modules:
        modules["student"].teacher = trained_on
    source = run["init_from"]
    if source is None:
        return TrainedParts(str(folder), modules, run["encoder"], trained_on)
    after = (*after, folder.resolve())
    if not isinstance(source, str) or named_folder(source).resolve() in after:
        raise UserError(f"{folder / CONFIG_NAME}: init_from={source}: not the source of this run")
    try:
        if (named_folder(source) / CONFIG_NAME).is_file():
            before = _load_trained_run(named_folder(source), trust, parts, after)
        else:
            before = load_trained(source, trust)
    except UserError as error:
        raise UserError(f"{folder / CONFIG_NAME}: init_from: {error}") from error
    own = run["encoder"] if run.get("replace_encoder") else None
    make_encoder = own or (lambda: before.encoder_for(modules))
    return TrainedParts(str(folder), before.parts | modules, make_encoder, trained_on)


def _check_weights(source: str, part: str, module: nn.Module) -> None:
    check_values(source, {f"{part}.{name}": value for name, value in module.state_dict().items()})
