"""Codecs and signals of the tests of streams."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from focalcodec import FocalCodec
from tests.unit.small_codecs import golden_codec, logmel_codec

CHUNK = 1280  # samples


@cache
def causal_codec(rate: str = "50hz") -> FocalCodec:
    """Causal codec with a window of 32 frames: 8 chunks. Not to be changed."""
    torch.manual_seed(0)
    factors = {"50hz": [1, 1], "25hz": [2, 1]}[rate]
    window = {"causal": True, "window_size": 32}
    focal = {"focal_window": 5, "focal_level": 2, "focal_factor": 2, **window}
    codec = FocalCodec(
        "WavLM",
        {"hidden_dims": [12] * 7, "num_layers": 2, "dim": 24, "ffn_dim": 40, "num_heads": 3}
        | {"conv_pos": 9, "conv_pos_groups": 3, **window},
        "FocalEncoder",
        {"input_dim": 24, "output_dim": 9, "hidden_dims": [20, 16], "downscale_factors": factors}
        | focal,
        "BinarySphericalQuantizer",
        {"codebook_size": 512},
        "FocalDecoder",
        {"input_dim": 9, "output_dim": 24, "hidden_dims": [16, 20]}
        | {"upscale_factors": factors[::-1], "last_window_size": 32, **focal},
        "WaveNeXt",
        {"input_dim": 24, "num_layers": 2, "dim": 20, "ffn_dim": 32, "causal": True},
    )
    for parameter in codec.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.4, std=0.3)
    return codec.eval()


CAUSAL = {
    "50hz": causal_codec,
    "25hz": lambda: causal_codec("25hz"),
    "golden": lambda: golden_codec("tiny_50hz_causal"),
}
OFFLINE = {"logmel": logmel_codec, "wavlm": lambda: golden_codec("tiny_50hz")}


def speech(batch: int, samples: int, seed: int = 0) -> Tensor:
    """Noise with a changing level, (batch, samples)."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.linspace(0.0, 12.0, samples).sin().square() + 0.05
    return 0.2 * torch.randn(batch, samples, generator=generator) * level
