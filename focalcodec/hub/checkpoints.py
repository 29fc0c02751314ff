"""Published checkpoints: `config.json` + `model.safetensors`, both tensor layouts, hub or folder.

The three offline models are published in generation 1 of the tensor names, the causal ones in
generation 2, which is also the layout of this package's modules. Loading turns the first into the
second; saving always writes the second.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.hub.locations import hub_folder, is_shipped, named_folder, shipped_folder

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
PART_NAMES = ("encoder", "compressor", "quantizer", "decompressor", "decoder")
STORED_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_STORED_ERROR = 2.0**-10  # float16 rounds by 2^-11 at most what is within its range

_GENERATION_1_RENAMES = (
    (r"^compressor\.layers\.(\d+)\.0\.", r"compressor.layers.\1.downscale."),
    (r"^compressor\.layers\.(\d+)\.1\.", r"compressor.layers.\1.focal_block."),
    (r"^decompressor\.layers\.(\d+)\.0\.", r"decompressor.layers.\1.focal_block."),
    (r"^decompressor\.layers\.(\d+)\.1\.", r"decompressor.layers.\1.upscale."),
)
# Published with generation 1, read by no forward pass.
_GENERATION_1_UNUSED = (
    "encoder.encoder.norm.weight",
    "encoder.encoder.norm.bias",
    "quantizer.mask",
)
# of our own WavLM: in the models of `transformers`, which are `encoder.model`, they stay apart
_PROJECTION_NAME = re.compile(r"^(?!encoder\.model\.)(.*\.attention)\.([qkv])_proj\.(weight|bias)$")


def upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """Turn a published `config.json` of either generation into ours.

    Parameters
    ----------
    config : dict
        Parsed `config.json`: `<part>_name` and `<part>_config` for the five parts.

    Returns
    -------
    dict
        The same with generation 2's keyword names.

    Raises
    ------
    UserError
        A part's name or configuration is missing.

    Example
    -------
    >>> parts = {f"{p}_name": "X" for p in PART_NAMES} | {f"{p}_config": {} for p in PART_NAMES}
    >>> parts["decoder_config"] = {"input_channels": 64, "padding": 3}
    >>> upgrade_config(parts)["decoder_config"]
    {'input_dim': 64}
    """
    if not isinstance(config, dict):
        raise UserError(f"holds {type(config).__name__}, not names; is it a FocalCodec checkpoint?")
    for part in PART_NAMES:
        for key, kind in ((f"{part}_name", str), (f"{part}_config", dict)):
            if not isinstance(config.get(key), kind):
                raise UserError(f"{key}={config.get(key)!r}; is it a FocalCodec checkpoint?")
    decoder = dict(config["decoder_config"])
    if "input_channels" in decoder:
        decoder["input_dim"] = decoder.pop("input_channels")
        decoder.pop("padding", None)
    return {**config, "decoder_config": decoder}


def upgrade_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename generation 1's tensors to generation 2's and join query, key and value.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Tensors of either generation.

    Returns
    -------
    dict of str to Tensor
        Tensors in generation 2's layout; generation 2 comes back as it is.

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
            # with one of the three missing, the others keep their names and are refused by them
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
    """Folder that holds a checkpoint: the shipped one, else a local folder, else of the hub.

    Without a network, or with `HF_HUB_OFFLINE=1`, the hub's cache is used.

    Parameters
    ----------
    source : str or path
        `demo` for the codec that comes with the package, a local folder, or a hub repository such
        as `lucadellalib/focalcodec_50hz`.
    revision, token : str, optional
        Branch, tag or commit, and access token, of a hub repository.
    cache_dir : str or path, optional
        Hub cache, default the one of `huggingface_hub`.

    Returns
    -------
    Path
        Folder with `config.json` and `model.safetensors`.

    Raises
    ------
    UserError
        Neither a checkpoint folder nor a repository that can be reached or is cached.
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
    """Read configuration and tensors of a checkpoint folder.

    Parameters
    ----------
    folder : Path
        Folder with `config.json` and `model.safetensors`.

    Returns
    -------
    dict, dict of str to Tensor
        Configuration as it is there, and tensors in generation 2's layout, on the CPU.

    Raises
    ------
    UserError
        A file is not JSON, not safetensors, or truncated.
    """
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{folder / CONFIG_NAME}: not JSON ({error}); copy it again") from error
    try:
        tensors = load_file(folder / WEIGHTS_NAME)
    except SafetensorError as error:
        raise UserError(
            f"{folder / WEIGHTS_NAME}: truncated or not safetensors ({error}); copy it again"
        ) from error
    return config, upgrade_tensors(tensors)


def check_tensors(
    weights: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    """Refuse tensors of another model than the configuration's.

    Parameters
    ----------
    weights : Path
        Their file, to be named.
    tensors, expected : mapping of str to Tensor
        What is in the file, and what the model has.

    Raises
    ------
    UserError
        A tensor is missing, too many, or of another shape.
    """
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    problem = ""
    if missing:
        problem = f"{len(missing)} tensors are missing, such as {missing[0]}"
    elif surplus:
        problem = f"{len(surplus)} tensors are unknown, such as {surplus[0]}"
    else:
        for name, tensor in tensors.items():
            if tensor.shape != expected[name].shape:
                shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
                problem = f"{name} is {shapes}"
                break
    if problem:
        raise UserError(
            f"{weights}: not the model of {CONFIG_NAME} beside it ({problem}); fetch both again"
        )


def stored_tensors(tensors: Mapping[str, Tensor], dtype: str | None = None) -> dict[str, Tensor]:
    """Tensors as a checkpoint has them.

    What float16 can't hold stays as it is: a tensor with a value beyond 65504, or so small, below
    6e-5 where float16's steps are coarse, that rounding changes it by more than 2^-10 of its norm.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Those in memory.
    dtype : {"float32", "float16"}, optional
        Number format of floating-point tensors; default that in memory.

    Returns
    -------
    dict of str to Tensor
        On the CPU, contiguous.

    Raises
    ------
    UserError
        Not one of these formats.

    Example
    -------
    >>> tensors = {"scale": torch.ones(2), "tiny": torch.full((2,), 1e-8), "steps": torch.arange(2)}
    >>> [str(tensor.dtype) for tensor in stored_tensors(tensors, "float16").values()]
    ['torch.float16', 'torch.float32', 'torch.int64']
    """
    if dtype is not None and dtype not in STORED_DTYPES:
        raise UserError(f"dtype={dtype!r}: not one of {', '.join(STORED_DTYPES)}")
    stored = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if dtype is not None and tensor.is_floating_point():
            rounded = tensor.to(STORED_DTYPES[dtype])
            error = torch.linalg.vector_norm(rounded.double() - tensor.double())
            # written so that what is not a number, of infinities, keeps the tensor too
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
    """Write a checkpoint folder, each file whole or not at all.

    Parameters
    ----------
    folder : str or path
        Made where it is missing; existing files of the two names are replaced.
    config : dict
        See `upgrade_config`.
    tensors : mapping of str to Tensor
        Generation 2's layout.
    dtype : {"float32", "float16"}, optional
        Number format in the file, see `stored_tensors`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        A file is where the folder should be, or `dtype` is none of these.
    """
    folder, stored = Path(folder), stored_tensors(tensors, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder}: a file is in the way; choose another folder") from error
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        config_path, weights_path = Path(staging) / CONFIG_NAME, Path(staging) / WEIGHTS_NAME
        config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(stored, weights_path, metadata={"format": "pt"})
        # safetensors writes for the owner's eyes only
        shutil.copymode(config_path, weights_path)
        os.replace(weights_path, folder / WEIGHTS_NAME)
        os.replace(config_path, folder / CONFIG_NAME)
    return folder
