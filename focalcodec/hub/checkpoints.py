"""Published checkpoints: `config.json` and `model.safetensors`, in both tensor layouts.

The three offline models are published in generation 1 of the tensor names, the causal ones in
generation 2, which is also the layout of this package's modules. Loading converts the first to the
second; saving always writes the second.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from focalcodec.choices import FLOAT_DTYPES
from focalcodec.errors import UserError
from focalcodec.files import read_json
from focalcodec.hub import hub_folder, is_shipped, named_folder, shipped_folder
from focalcodec.hub.weights import read_tensors, shown

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
PART_NAMES = ("encoder", "compressor", "quantizer", "decompressor", "decoder")
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
    """Convert a parsed `config.json` of either generation to generation 2's keyword names.

    Raises a `UserError` if `<part>_name` or `<part>_config` of one of the five parts is missing.
    """
    if not isinstance(config, dict):
        raise UserError(f"holds {type(config).__name__}, not names; is it a FocalCodec checkpoint?")
    for part in PART_NAMES:
        for key, kind in ((f"{part}_name", str), (f"{part}_config", dict)):
            if not isinstance(config.get(key), kind):
                value = reprlib.repr(config.get(key))
                raise UserError(f"{key}={value}; is it a FocalCodec checkpoint?")
    decoder = dict(config["decoder_config"])
    if "input_channels" in decoder:
        decoder["input_dim"] = decoder.pop("input_channels")
        decoder.pop("padding", None)
    return {**config, "decoder_config": decoder}


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
    folder = shipped_folder(revision) if is_shipped(source) else named_folder(source)
    if not folder.is_dir():
        if folder.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(source)):
            raise UserError(
                f"{source}: not a folder, nor the name of a hub repository (owner/name);"
                " check the path"
            )
        folder = hub_folder(str(source), (CONFIG_NAME, WEIGHTS_NAME), revision, token, cache_dir)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name} there; give a folder with an exported codec")
    return folder


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration as in the file, and tensors in generation 2's layout, on the CPU.

    Raises a `UserError` if a file is not JSON, not safetensors, or truncated, or as `check_values`.
    """
    config, path = read_json(folder / CONFIG_NAME), folder / WEIGHTS_NAME
    tensors = read_tensors(path)
    try:
        return config, upgrade_tensors(tensors)
    except RuntimeError as error:  # query, key and value that can't be joined
        raise UserError(
            f"{path}: does not fit {CONFIG_NAME} beside it ({error}); copy both again"
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
            f"{weights}: does not fit {CONFIG_NAME} beside it ({problem}); copy both again"
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
    folder, stored = Path(folder), stored_tensors(tensors, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder}: a file has this name; choose another folder") from error
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        config_path, weights_path = Path(staging) / CONFIG_NAME, Path(staging) / WEIGHTS_NAME
        config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(stored, weights_path, metadata={"format": "pt"})
        # safetensors makes files that only the owner can read
        shutil.copymode(config_path, weights_path)
        os.replace(weights_path, folder / WEIGHTS_NAME)
        os.replace(config_path, folder / CONFIG_NAME)
    return folder
