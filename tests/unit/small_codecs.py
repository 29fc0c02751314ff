"""Small codecs that several tests share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.logmel import LogMel
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.vocos import Vocos

DATA = Path(__file__).parents[1] / "data"
GOLDEN = {folder.name: folder for folder in sorted((DATA / "golden").iterdir())}
OFFLINE = [name for name in GOLDEN if "causal" not in name]


@cache
def golden_codec(name: str) -> FocalCodec:
    """Codec of a golden case, in eval mode: not to be changed."""
    return FocalCodec.from_pretrained(GOLDEN[name])


@cache
def golden_tensors(name: str) -> dict[str, Tensor]:
    """Outputs of the released code for a golden case."""
    return load_file(GOLDEN[name] / "expected.safetensors")


@cache
def logmel_codec(down: tuple[int, ...] = (1, 1, 1)) -> FocalCodec:
    """Codec with the encoder without weights, in eval mode: not to be changed."""
    torch.manual_seed(0)
    codec = FocalCodec(
        LogMel(),
        FocalEncoder(80, 13, [24, 16, 16], down, focal_window=7, focal_factor=2),
        BinarySphericalQuantizer(8192),
        FocalDecoder(13, 80, [16, 16, 24], down[::-1], focal_window=7, focal_factor=2),
        Vocos(80, num_layers=1, dim=16, ffn_dim=24),
    )
    for parameter in codec.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.5, std=0.2)
    return codec.eval()
