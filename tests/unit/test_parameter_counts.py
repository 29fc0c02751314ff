"""The paper's models, on the meta device: tensors, shapes and sizes of the published ones."""

from __future__ import annotations

import json

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.hub.checkpoints import upgrade_tensors
from tests.unit.small_codecs import DATA

ENCODER = {
    "hidden_dims": [512] * 7,
    "kernel_sizes": [10, 3, 3, 3, 3, 2, 2],
    "strides": [5, 2, 2, 2, 2, 2, 2],
    "num_layers": 6,
    "dim": 1024,
    "ffn_dim": 4096,
    "num_heads": 16,
    "num_buckets": 320,
    "max_distance": 800,
    "conv_pos": 128,
    "conv_pos_groups": 16,
}
FOCAL = {"focal_window": 7, "focal_level": 2, "focal_factor": 2}
DECODER = {
    "input_dim": 1024,
    "num_layers": 8,
    "dim": 512,
    "ffn_dim": 1536,
    "kernel_size": 7,
    "n_fft": 1024,
    "hop_length": 320,
}


def published_config(down: list[int], up: list[int]) -> dict:
    return {
        "encoder_name": "WavLM",
        "encoder_config": ENCODER,
        "compressor_name": "FocalEncoder",
        "compressor_config": {
            "input_dim": 1024,
            "output_dim": 13,
            "hidden_dims": [1024, 512, 256],
            "downscale_factors": down,
            **FOCAL,
        },
        "quantizer_name": "BinarySphericalQuantizer",
        "quantizer_config": {"codebook_size": 8192},
        "decompressor_name": "FocalDecoder",
        "decompressor_config": {
            "input_dim": 13,
            "output_dim": 1024,
            "hidden_dims": [256, 512, 1024],
            "upscale_factors": up,
            **FOCAL,
        },
        "decoder_name": "Vocos",
        "decoder_config": DECODER,
    }


def published_codec(down: list[int], up: list[int]) -> FocalCodec:
    with torch.device("meta"):
        return FocalCodec.from_config(published_config(down, up))


def published_shapes(generation: int) -> dict[str, list[int]]:
    return json.loads((DATA / f"tensors_v{generation}.json").read_text(encoding="utf-8"))


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def meta_tensors(generation: int) -> dict[str, torch.Tensor]:
    table = published_shapes(generation)
    return {name: torch.empty(shape, device="meta") for name, shape in table.items()}


def test_tensors_are_those_of_generation_2():
    assert shapes(published_codec([1, 1, 1], [1, 1, 1]).state_dict()) == published_shapes(2)


def test_generation_1_becomes_generation_2():
    assert len(published_shapes(1)) == 354
    assert shapes(upgrade_tensors(meta_tensors(1))) == published_shapes(2)


def test_generation_2_stays():
    tensors = meta_tensors(2)
    upgraded = upgrade_tensors(tensors)
    assert list(upgraded) == list(tensors)
    assert all(upgraded[name] is tensor for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("down", "up", "parameters", "token_rate", "bitrate"),
    [
        ([1, 1, 1], [1, 1, 1], 142_126_257, 50.0, 650.0),
        ([2, 1, 1], [1, 1, 2], 144_223_409, 25.0, 325.0),
        ([2, 2, 1], [1, 2, 2], 145_271_985, 12.5, 162.5),
    ],
)
def test_published_sizes(down, up, parameters, token_rate, bitrate):
    """The published counts are generation 2's.

    Generation 1's 354 tensors have 2,048 more: `encoder.encoder.norm`, which is not used.
    """
    codec = published_codec(down, up)
    assert sum(parameter.numel() for parameter in codec.parameters()) == parameters
    assert (codec.token_rate, codec.bitrate) == (token_rate, bitrate)
    assert (codec.sample_rate_input, codec.sample_rate_output) == (16000, 16000)


def test_generation_1_holds_an_unused_norm():
    first, second = meta_tensors(1), meta_tensors(2)
    extra = sum(t.numel() for t in first.values()) - sum(t.numel() for t in second.values())
    unused = [t.numel() for name, t in first.items() if name.startswith("encoder.encoder.norm.")]
    assert extra == sum(unused) == 2048
    assert sum(t.numel() for t in second.values()) == 142_126_257


@pytest.mark.parametrize(("bits", "bitrate"), [(11, 550.0), (12, 600.0), (16, 800.0)])
def test_causal_rates(bits, bitrate):
    """The three streaming models' rates: 16 kHz in, 24 kHz out, 50 tokens a second."""
    config = published_config([1, 1, 1], [1, 1, 1])
    config["encoder_config"] = ENCODER | {"causal": True}
    config["compressor_config"] |= {"output_dim": bits, "causal": True}
    config["compressor_config"] |= {"hidden_dims": [1024] * 3, "focal_window": 14}
    config["quantizer_config"] = {"codebook_size": 2**bits}
    config["decompressor_config"] |= {"input_dim": bits, "causal": True}
    config["decompressor_config"] |= {"hidden_dims": [1024] * 3, "focal_window": 14}
    config |= {"decoder_name": "WaveNeXt", "decoder_config": {"input_dim": 1024}}
    with torch.device("meta"):
        codec = FocalCodec.from_config(config)
    assert (codec.token_rate, codec.bitrate) == (50.0, bitrate)
    assert (codec.sample_rate_input, codec.sample_rate_output) == (16000, 24000)
