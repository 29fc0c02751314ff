"""Small models of the shapes of the six published configurations, their weights and inputs.

A frame is 20 samples in and 20 or 30 out, and a causal model attends to 12 frames, so that a
stream passes its window after three chunks of four frames.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from .packages import Package

_WAVLM = {
    "hidden_dims": [8] * 7,
    "kernel_sizes": [10, 3, 3, 3, 3, 2, 2],
    "strides": [5, 2, 2, 1, 1, 1, 1],
    "num_layers": 2,
    "dim": 8,
    "ffn_dim": 12,
    "num_heads": 2,
    "num_buckets": 32,
    "max_distance": 80,
    "max_cached_steps": 512,
    "dropout": 0.0,
    "conv_pos": 8,
    "conv_pos_groups": 2,
    "causal": False,
    "window_size": 12,
    "lookahead_size": 3,
    "use_flex_attention": False,
}
_FOCAL = {
    "focal_window": 7,
    "focal_level": 2,
    "focal_factor": 2,
    "dropout": 0.0,
    "use_post_norm": False,
    "use_layerscale": False,
    "layerscale_init": 1e-4,
    "tanhscale_init": 0.5,
    "normalize_modulator": False,
    "causal": False,
    "window_size": 12,
}
_CAUSAL_FOCAL = {"focal_window": 14, "focal_factor": 4, "causal": True}
_CONVNEXT = {"input_dim": 8, "num_layers": 2, "dim": 6, "ffn_dim": 10, "kernel_size": 7}
_NAMES = {
    "encoder_name": "WavLM",
    "compressor_name": "FocalEncoder",
    "quantizer_name": "BinarySphericalQuantizer",
    "decompressor_name": "FocalDecoder",
}


def _offline(down: list[int], bits: int = 13) -> dict[str, Any]:
    return {
        **_NAMES,
        "encoder_config": dict(_WAVLM),
        "compressor_config": {
            "input_dim": 8,
            "output_dim": bits,
            "hidden_dims": [8, 6, 4],
            "downscale_factors": down,
            **_FOCAL,
        },
        "quantizer_config": {"codebook_size": 2**bits},
        "decompressor_config": {
            "input_dim": bits,
            "output_dim": 8,
            "hidden_dims": [4, 6, 8],
            "upscale_factors": down[::-1],
            **_FOCAL,
            "last_window_size": 8,
            "lookahead_size": 3,
        },
        "decoder_name": "Vocos",
        "decoder_config": {
            **_CONVNEXT,
            "layerscale_init": None,
            "n_fft": 64,
            "hop_length": 20,
            "causal": False,
        },
    }


def _causal(bits: int) -> dict[str, Any]:
    config = _offline([1, 1, 1], bits)
    config["encoder_config"] |= {"causal": True}
    config["compressor_config"] |= {"hidden_dims": [8, 8, 8], **_CAUSAL_FOCAL}
    config["decompressor_config"] |= {"hidden_dims": [8, 8, 8], **_CAUSAL_FOCAL}
    decoder = {**_CONVNEXT, "layerscale_init": None, "hop_length": 30, "causal": True}
    return config | {"decoder_name": "WaveNeXt", "decoder_config": decoder}


CONFIGS = {
    "50hz": _offline([1, 1, 1]),
    "25hz": _offline([2, 1, 1]),
    "12_5hz": _offline([2, 2, 1]),
    "50hz_65k_causal": _causal(16),
    "50hz_4k_causal": _causal(12),
    "50hz_2k_causal": _causal(11),
}
CAUSAL = tuple(name for name in CONFIGS if name.endswith("causal"))
PARTS = ("encoder", "compressor", "quantizer", "decompressor", "decoder")
CHUNK = 4  # frames; 80 samples


def uniform(seed: str, shape: tuple[int, ...]) -> Tensor:
    """Values in [-1, 1), the same on every processor."""
    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    return torch.randint(-(2**15), 2**15, shape, generator=generator).float() / 2**15


def fill(module: nn.Module) -> nn.Module:
    """Give each tensor values that depend on its name and shape only; in eval mode."""
    with torch.no_grad():
        state = module.state_dict()
        for name, tensor in state.items():
            fan_in = max(1, tensor[0].numel()) if tensor.dim() > 1 else 1
            values = uniform(name, tuple(tensor.shape)) * (2.0 / fan_in) ** 0.5
            state[name] = values if tensor.dim() > 1 else 0.5 + 0.3 * values
        module.load_state_dict(state)
    return module.eval()


def part_class(package: Package, config: dict[str, Any], part: str) -> type[nn.Module]:
    """Class of a part in a package."""
    module = {
        "WavLM": "wavlm",
        "FocalEncoder": "focalnet",
        "FocalDecoder": "focalnet",
        "BinarySphericalQuantizer": "bsq",
        "Vocos": "vocos",
        "WaveNeXt": "wavenext",
    }[config[f"{part}_name"]]
    return getattr(getattr(package, module), config[f"{part}_name"])


def make_codec(package: Package, config: dict[str, Any]) -> Any:
    """Codec of a configuration with the weights of `fill`, by the official constructor."""
    return fill(package.codec.FocalCodec(**config))


@cache
def shared_codec(package: Package, name: str) -> Any:
    """Codec of one of CONFIGS, in eval mode: not to be changed.

    Where the package has no official constructor, it is made of its parts, so that the other
    cases still say something.
    """
    try:
        return make_codec(package, CONFIGS[name])
    except (TypeError, ValueError):
        return fill(package.codec.FocalCodec.from_config(known_keys(package, CONFIGS[name])))


def known_keys(package: Package, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without keys that the package does not have."""
    known = dict(config)
    for part in PARTS:
        code = part_class(package, config, part).__init__.__code__
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = config[f"{part}_config"].items()
        known[f"{part}_config"] = {key: value for key, value in values if key in arguments}
    return known


def inputs(name: str) -> dict[str, Tensor]:
    """Inputs of the steps of a model, two rows each, by their names in the glossary."""
    config = CONFIGS[name]
    bits = config["compressor_config"]["output_dim"]
    frames = 5 * CHUNK if name in CAUSAL else 21
    tokens = frames if name in CAUSAL else 6
    signs = torch.where(uniform("codes", (2, tokens, bits)) > 0, 1.0, -1.0)
    bit_values = 2 ** torch.arange(bits - 1, -1, -1)
    return {
        "sig": uniform("sig", (2, 20 * frames + (0 if name in CAUSAL else 29))),
        "feats": uniform("feats", (2, frames, 8)),
        "lats": uniform("lats", (2, tokens, bits)),
        "codes": signs / bits**0.5,
        "toks": ((signs > 0) * bit_values).sum(dim=-1),
    }


def chunks(kind: str, x: Tensor) -> list[Tensor]:
    """An input in the chunks of a stream."""
    return list(x.split(CHUNK * (20 if kind == "sig" else 1), dim=1))
