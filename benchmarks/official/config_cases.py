"""Cases of configurations without keys: their defaults must be those of the official package."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .models import CONFIGS, PARTS, fill, part_class, uniform
from .packages import Package

Run = Callable[[Package, str], Any]

MODELS = ("50hz", "50hz_4k_causal")
SMALL = 3_000_000  # parameters of a part that is run, not only built
SUBSETS = 50
# without these keys the parts would not fit
WIDTHS = (
    *("dim", "input_dim", "output_dim", "hidden_dims", "codebook_size", "hop_length"),
    *("num_heads", "num_buckets", "conv_pos_groups", "strides"),
)


def parameters(module: nn.Module) -> list[Any]:
    """Number of values of a module's state, and a hash of their names and shapes."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    text = json.dumps(sorted(shapes.items())).encode()
    number = sum(torch.Size(shape).numel() for shape in shapes.values())
    return [number, hashlib.sha256(text).hexdigest()[:16]]


def omitted(package: Package, model: str, part: str, keys: Sequence[str]) -> Any:
    """Parameters of a part without some of its keys; its output too where it is small."""
    cls = part_class(package, CONFIGS[model], part)
    config = CONFIGS[model][f"{part}_config"]
    kwargs = {key: value for key, value in config.items() if key not in keys}
    with torch.device("meta"):
        known = parameters(cls(**kwargs))
    if known[0] > SMALL:
        return known
    if part == "encoder":
        return known, fill(cls(**kwargs))(uniform("sig", (1, 1280)))[0]
    default = inspect.signature(cls).parameters.get("input_dim")
    width = kwargs.get("input_dim", 12 if default is None else default.default)
    return known, fill(cls(**kwargs))(uniform(part, (1, 12, width)))[0]


def subset(model: str, seed: int) -> dict[str, Any]:
    """A configuration without a random set of keys, names of parts included."""
    draw = random.Random(seed)
    config = copy.deepcopy(CONFIGS[model])
    for part in PARTS:
        entries = config[f"{part}_config"]
        for key in list(entries):
            if key not in WIDTHS and draw.random() < 0.5:
                del entries[key]
        if config[f"{part}_name"] != "Vocos" and draw.random() < 0.3:
            del config[f"{part}_name"]
    return config


def loaded(package: Package, model: str, seed: int) -> Any:
    """Parameters and outputs of the codec of a JSON file; every 31st sample."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.json"
        path.write_text(json.dumps(subset(model, seed)), encoding="utf-8")
        codec = package.codec.FocalCodec.from_config(str(path))
    toks, _, rec_sig = fill(codec)(uniform("sig", (1, 1280)))
    return parameters(codec), toks, rec_sig[:, ::31], rec_sig.shape


def table(model: str) -> dict[str, Run]:
    """Cases of a model by their items."""
    rows: dict[str, Run] = {}
    if model not in MODELS:
        return rows
    for part in PARTS:
        keys = tuple(CONFIGS[model][f"{part}_config"])
        for name, chosen in {"all": keys, **{key: (key,) for key in keys}}.items():
            rows[f"{part}_config without {name}"] = partial(omitted, part=part, keys=chosen)
    for seed in range(SUBSETS):
        rows[f"config without random keys {seed}"] = partial(loaded, seed=seed)
    return rows
