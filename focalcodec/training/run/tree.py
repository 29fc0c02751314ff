"""The tree of a YAML, as ruamel reads it: tags, references, text, and the kinds of its values."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from focalcodec.errors import UserError

MOST_NODES = 100_000  # with those of each alias: a few lines can stand for 10^9 nodes
_REFERENCE = re.compile(r"<([^<>\s]+)>")

_COUNTS = """
    batch_size valid_batch_size number_of_epochs passes_per_epoch grad_accumulation_factor jobs
    feature_dim code_dim dim embedding_dim vocab_size crop_frames mel_crop_frames beam_size
    max_clips stop_patience_epochs discriminator_divisor max_speakers num_speakers rooms n_mels
    bootstrap_samples
""".split()
_NEVER_NULL = """
    batch_size valid_batch_size number_of_epochs passes_per_epoch grad_accumulation_factor jobs
    seed num_workers sample_clips sample_interval_epochs nonfinite_patience
    lr max_seconds min_seconds temperature
""".split()
_COUNTS_OR_ZERO = """
    seed split_seed num_workers sample_clips sample_interval_epochs nonfinite_patience speed_clips
    judge_clips adversarial_start_step warmup_steps
""".split()
_POSITIVE = """
    max_seconds batch_seconds window_seconds crop_seconds segment_seconds temperature
    inv_temperature
""".split()
_NOT_NEGATIVE = "lr min_seconds weight_decay gamma init_lr_factor margin".split()


def references(tree: Any) -> Iterator[str]:
    """Names that `!ref` and `!copy` of a tree refer to."""
    for node in nodes_of(tree):
        text = node if isinstance(node, str) else getattr(node, "value", None)
        if isinstance(text, str):
            yield from _REFERENCE.findall(text)


def named_objects(tree: Any) -> set[str]:
    """Names of `!new:` and `!name:` in a tree: code that the author of the YAML uses."""
    tags = (tag_of(node).partition(":") for node in nodes_of(tree))
    return {name for tag, _, name in tags if tag in ("!new", "!name")}


def nodes_of(tree: Any) -> Iterator[Any]:
    """Yield all nodes of a tree, from the root on."""
    yield tree
    children = list(tree.values()) if isinstance(tree, Mapping) else tree
    if isinstance(children, list):
        for child in children:
            yield from nodes_of(child)


def tag_of(node: Any) -> str:
    """Tag of a node of a tree, such as `!new:torch.nn.Linear`; empty if it has none."""
    tag = getattr(node, "tag", None)
    return str(getattr(tag, "value", None) or "")


def to_text(tree: Any) -> str:
    """YAML of a tree."""
    yaml, text = YAML(), io.StringIO()
    yaml.width = 4096
    yaml.indent(mapping=4, sequence=6, offset=4)
    yaml.representer.add_representer(type(None), _represent_none)
    yaml.dump(tree, text)
    return text.getvalue()


def _represent_none(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def check_numbers(tree: Mapping[str, Any], file: str) -> None:
    """Raise if a number of a tree makes no sense, such as a batch of 0 clips.

    Example
    -------
    >>> check_numbers({"batch_size": 0}, "my.yaml")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: my.yaml: batch_size=0; give a whole number from 1 on
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            check_numbers(value, file)
        elif not tag_of(value):
            _check_number(str(key), value, file)


def _check_number(key: str, value: Any, file: str) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is None and key not in _NEVER_NULL:
        return
    if key in _COUNTS:
        wanted, fits = "a whole number from 1 on", whole and value >= 1
    elif key in _COUNTS_OR_ZERO:
        wanted, fits = "a whole number from 0 on", whole and value >= 0
    elif key.endswith("_share") or key == "dropout":
        wanted, fits = "a share from 0 to 1", _is_number(value) and 0 <= value <= 1
    elif key in _POSITIVE:
        wanted, fits = "a number above 0", _is_number(value) and value > 0
    elif key in _NOT_NEGATIVE or key.endswith("_weight"):
        wanted, fits = "a number from 0 on", _is_number(value) and value >= 0
    elif key == "sample_rate":
        wanted, fits = "8000 to 192000 Hz", whole and 8000 <= value <= 192_000
    elif key == "lr_scheduler_interval":
        wanted, fits = "epoch or step", value in ("epoch", "step")
    else:
        wanted, fits = "a finite number", not isinstance(value, float) or math.isfinite(value)
    if not fits:
        raise UserError(f"{file}: {key}={value!r}; give {wanted}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def require_kind(key: str, old: Any, value: Any, path: Path) -> None:
    """Raise if the value of a key is of another kind than the base's, `old`."""
    if tag_of(value):
        return
    kind, fits = "", True
    if re.match("!(new|name):", tag_of(old)):
        fits = value is None or isinstance(value, Mapping)
        kind = f"!name: or !new:, such as {tag_of(old)}"
    elif isinstance(old, bool):
        kind, fits = f"True or False, such as {old}", isinstance(value, (bool, type(None)))
    elif isinstance(old, (int, float)):
        kind = f"a number, such as {old}"
        fits = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    elif isinstance(old, list):
        kind, fits = f"a list, such as [{value}]", isinstance(value, (list, Mapping, type(None)))
    elif isinstance(old, Mapping) and old and not tag_of(old):
        kind, fits = f"a mapping of {', '.join(map(str, old))}", isinstance(value, Mapping)
    if not fits:
        raise UserError(f"{path.name}: {key}={value!r}; give {kind}")
