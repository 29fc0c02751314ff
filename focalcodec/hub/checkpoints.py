"""Published checkpoints: `config.json` and `model.safetensors`, in both tensor layouts.

The three offline models are published in generation 1 of the tensor names, the causal ones in
generation 2, which is also the layout of this package's modules. Loading converts the first to the
second; saving always writes the second.
"""

from __future__ import annotations

import copy
import json
import os
import re
import reprlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from focalcodec.choices import FLOAT_DTYPES
from focalcodec.errors import UserError
from focalcodec.hub import hub_folder, is_shipped, named_folder, shipped_folder, shipped_text
from focalcodec.hub.weights import read_tensors, shown

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
# patterns of what a repository has beside them: `publish`, and modules of own parts
PUBLISHED = ("model.json", "preprocessor_config.json", "README.md", "*.py")
PART_NAMES = ("encoder", "compressor", "quantizer", "decompressor", "decoder")
_KEYS: dict[str, Any] = {f"{part}_name": str for part in PART_NAMES}
_KEYS |= {f"{part}_config": (dict, type(None)) for part in PART_NAMES}
STORED_DTYPES = {name: getattr(torch, name) for name in FLOAT_DTYPES}
_STORED_ERROR = 2.0**-10  # in its range, float16 rounds by 2^-11 at most

_GENERATION_1_RENAMES = (
    (r"^compressor\.layers\.(\d+)\.0\.", r"compressor.layers.\1.downscale."),
    (r"^compressor\.layers\.(\d+)\.1\.", r"compressor.layers.\1.focal_block."),
    (r"^decompressor\.layers\.(\d+)\.0\.", r"decompressor.layers.\1.focal_block."),
    (r"^decompressor\.layers\.(\d+)\.1\.", r"decompressor.layers.\1.upscale."),
)
# Published with generation 1, unused in every forward pass.
_GENERATION_1_UNUSED = (
    "encoder.encoder.norm.weight",
    "encoder.encoder.norm.bias",
    "quantizer.mask",
)
# of our own WavLM only: in the models of `transformers`, `encoder.model`, they stay separate
_PROJECTION_NAME = re.compile(r"^(?!encoder\.model\.)(.*\.attention)\.([qkv])_proj\.(weight|bias)$")


def upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """Convert a parsed `config.json` of either generation to the codec's keyword arguments.

    Keys may be missing, as in the official package; if one is, all others must be known. Raises a
    `UserError` for anything else than names and configurations of parts.
    """
    if not isinstance(config, dict):
        raise UserError(f"holds {type(config).__name__}, not names; is it a FocalCodec checkpoint?")
    for key, value in config.items():
        if key in _KEYS and not isinstance(value, _KEYS[key]):
            raise UserError(f"{key}={reprlib.repr(value)}; is it a FocalCodec checkpoint?")
        if key not in _KEYS and not config.keys() >= _KEYS.keys():
            known = ", ".join(_KEYS)
            raise UserError(
                f"{reprlib.repr(key)}: not one of {known}; is it a FocalCodec checkpoint?"
            )
    known_config = {key: config[key] for key in _KEYS if key in config}
    decoder = dict(config.get("decoder_config") or {})
    if "input_channels" in decoder:
        decoder["input_dim"] = decoder.pop("input_channels")
        decoder.pop("padding", None)
        known_config["decoder_config"] = decoder
    if config.get("decoder_name") == "WaveNeXt" and decoder.get("sample_rate") == 24000:
        # early files had it, and the official package does not load them
        del decoder["sample_rate"]
        known_config["decoder_config"] = decoder
    return known_config


def override(config: dict[str, Any], overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy of a configuration with other values, by their paths, such as `encoder_config.dim`.

    Raises a `UserError` for a path that does not begin with a key of `config.json`.

    Example
    -------
    >>> override({"encoder_config": {"dim": 8}}, {"encoder_config.dim": 4})
    {'encoder_config': {'dim': 4}}
    """
    config = copy.deepcopy(config)
    for path, value in (overrides or {}).items():
        *parents, last = str(path).split(".")
        entry: Any = config
        for key in parents:
            entry[key] = {} if entry.get(key) is None else entry[key]
            entry = entry[key]
            if not isinstance(entry, dict):
                break
        if str(path).split(".")[0] not in _KEYS or not isinstance(entry, dict):
            raise UserError(
                f"overrides: no {reprlib.repr(path)} in a configuration; give a path such as"
                " encoder_config.max_cached_steps"
            )
        entry[last] = value
    return config


def upgrade_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename generation 1's tensors to generation 2's, and join query, key and value.

    Tensors of generation 2 do not change.

    Example
    -------
    >>> upgrade_tensors({"compressor.layers.0.1.feed_forward.in_proj.bias": torch.zeros(1)}).keys()
    dict_keys(['compressor.layers.0.focal_block.feed_forward.in_proj.bias'])
    """
    upgraded: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in _GENERATION_1_UNUSED:
            continue
        match = _PROJECTION_NAME.match(name)
        if match:
            stem, _, kind = match.groups()
            joined = [tensors.get(f"{stem}.{part}_proj.{kind}") for part in "qkv"]
            # if one of the three is missing, the others keep their names, and check_tensors fails
            if all(part is not None for part in joined):
                name = f"{stem}.qkv_proj.{kind}"
                if name not in upgraded:
                    upgraded[name] = torch.cat([part for part in joined if part is not None])
                continue
        for pattern, replacement in _GENERATION_1_RENAMES:
            name = re.sub(pattern, replacement, name)
        upgraded[name] = tensor
    return upgraded


def find_checkpoint(
    source: str | os.PathLike[str],
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Folder of a checkpoint: of the package, else a local folder, else of the hub or its cache.

    Parameters are those of `FocalCodec.from_pretrained`. Without a network, or with
    `HF_HUB_OFFLINE=1`, the hub's cache is used. Raises a `UserError` if it is neither a folder with
    both files nor a repository that can be reached or is cached.
    """
    folder = shipped_folder(str(source), revision) if is_shipped(source) else named_folder(source)
    if not folder.is_dir():
        if folder.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(source)):
            raise UserError(
                f"{source}: not a folder, nor the name of a hub repository (owner/name), nor a"
                f" codec of the package ({shipped_text()}); check the path"
            )
        names = (CONFIG_NAME, WEIGHTS_NAME, *PUBLISHED)
        folder = hub_folder(str(source), names, revision, token, cache_dir)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name} there; give a folder with an exported codec")
    return folder


class CheckpointFiles(NamedTuple):
    """A configuration, and the weights beside it if they were wanted."""

    config: Path
    weights: Path | None


def find_files(
    source: str | os.PathLike[str], weights: bool = True, **options: Any
) -> CheckpointFiles:
    """Files by a name that `find_checkpoint` takes, or by that of a JSON file.

    `x.json`, or `x` where there is such a file, has its weights in `x.safetensors` or `x.pt`;
    `owner/repo/x.json` is a file of a repository on the hub. `options` are those of `hub_folder`.
    Raises a `UserError` as `find_checkpoint`.
    """
    path = named_folder(source)
    beside = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
    if beside.is_file() and not is_shipped(source) and not (path / CONFIG_NAME).is_file():
        return CheckpointFiles(beside, _weights(beside.parent, beside.stem) if weights else None)
    in_hub = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:/([^/]+)\.json)?", str(source))
    if path.suffix == ".json" and not path.exists() and not (in_hub and in_hub[2]):
        raise UserError(f"{source}: no such file; check the path")
    if is_shipped(source) or path.exists() or not in_hub:
        pinned = {key: options.get(key) for key in ("revision", "token", "cache_dir")}
        folder = find_checkpoint(source, **pinned)
        return CheckpointFiles(folder / CONFIG_NAME, folder / WEIGHTS_NAME if weights else None)
    repository, stem = in_hub[1], in_hub[2]
    name = CONFIG_NAME if stem is None else f"{stem}.json"
    stem = Path(WEIGHTS_NAME).stem if stem is None else stem
    files = [name, f"{stem}.safetensors"] if weights else [name]
    folder = hub_folder(repository, files, **options)
    if not (folder / name).is_file():
        raise UserError(f"{folder}: no {name} there; give a folder with an exported codec")
    if weights and not (folder / f"{stem}.safetensors").is_file():
        folder = hub_folder(repository, [name, f"{stem}.pt"], **options)
    return CheckpointFiles(folder / name, _weights(folder, stem) if weights else None)


def _weights(folder: Path, stem: str) -> Path:
    """File of the weights, `stem` with one of the two suffixes."""
    for suffix in (".safetensors", ".pt"):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise UserError(f"{folder}: no {stem}.safetensors or {stem}.pt there; copy it there")


def _config_of(weights: Path) -> str:
    """Name of the configuration beside a file of weights."""
    return CONFIG_NAME if weights.name == WEIGHTS_NAME else f"{weights.stem}.json"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint in generation 2's layout, on the CPU.

    Raises a `UserError` as `read_tensors`.
    """
    tensors = read_tensors(path)
    try:
        return upgrade_tensors(tensors)
    except RuntimeError as error:  # query, key and value that can't be joined
        raise UserError(
            f"{path}: does not fit {_config_of(path)} beside it ({error}); copy both again"
        ) from error


def check_tensors(
    weights: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    """Check that the tensors of the file `weights` are those of the model, by name and shape.

    Raises a `UserError` if a tensor is missing, unknown, or of another shape.
    """
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    problem = ""
    if missing:
        problem = f"{len(missing)} tensors are missing, such as {shown(missing[0])}"
    elif surplus:
        problem = f"{len(surplus)} tensors are unknown, such as {shown(surplus[0])}"
    else:
        for name, tensor in tensors.items():
            if tensor.shape != expected[name].shape:
                shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
                problem = f"{shown(name)} is {shapes}"
                break
    if problem:
        raise UserError(
            f"{weights}: does not fit {_config_of(weights)} beside it ({problem}); copy both again"
        )


def stored_tensors(tensors: Mapping[str, Tensor], dtype: str | None = None) -> dict[str, Tensor]:
    """Tensors as a checkpoint stores them: on the CPU, contiguous, floats as `dtype` if given.

    `dtype` is "float32" or "float16", else a `UserError`. A tensor is not cast to float16 if a
    value is beyond 65504, or if rounding changes the tensor by more than 2^-10 of its norm. The
    latter happens with values below 6e-5, where the steps of float16 are coarse.
    """
    if dtype is not None and dtype not in STORED_DTYPES:
        raise UserError(f"dtype={dtype!r}: not one of {', '.join(STORED_DTYPES)}")
    stored = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if dtype is not None and tensor.is_floating_point():
            rounded = tensor.to(STORED_DTYPES[dtype])
            error = torch.linalg.vector_norm(rounded.double() - tensor.double())
            # a comparison with NaN, from infinite values, is false and keeps the tensor too
            if bool(error <= _STORED_ERROR * torch.linalg.vector_norm(tensor.double())):
                tensor = rounded
        stored[name] = tensor.contiguous()
    return stored


def write_checkpoint(
    folder: str | os.PathLike[str],
    config: dict[str, Any],
    tensors: Mapping[str, Tensor],
    dtype: str | None = None,
) -> Path:
    """Write a checkpoint, each file atomically, and return its folder.

    The folder is made if it is missing; existing files of the two names are replaced. `tensors` are
    in generation 2's layout; `dtype` is that of `stored_tensors`. Raises a `UserError` for another
    `dtype`, or if `folder` is a file.
    """
    write_files(Path(folder) / CONFIG_NAME, config, Path(folder) / WEIGHTS_NAME, tensors, dtype)
    return Path(folder)


def write_files(
    config_path: Path,
    config: dict[str, Any],
    weights_path: Path | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    dtype: str | None = None,
) -> None:
    """Write a configuration, and the weights beside it, as `write_checkpoint` does."""
    folder, stored = config_path.parent, stored_tensors(tensors or {}, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder}: a file has this name; choose another folder") from error
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        new_config, new_weights = Path(staging) / CONFIG_NAME, Path(staging) / WEIGHTS_NAME
        new_config.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if weights_path is not None:
            save_file(stored, new_weights, metadata={"format": "pt"})
            # safetensors makes files that only the owner can read
            shutil.copymode(new_config, new_weights)
            os.replace(new_weights, weights_path)
        os.replace(new_config, config_path)
