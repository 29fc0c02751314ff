"""Files of others: values and types of weights, sizes of configurations, JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from focalcodec import FocalCodec, UserError
from focalcodec.files import read_json
from focalcodec.hub.weights import AtMost, check_values
from tests.unit.small_codecs import GOLDEN, golden_codec

NAME = "compressor.out_proj.bias"


@pytest.fixture
def folder(tmp_path):
    """A copy of a checkpoint, to be damaged."""
    return Path(shutil.copytree(GOLDEN["tiny_50hz"], tmp_path / "codec"))


def refused(match, folder):
    with pytest.raises(UserError, match=match) as error:
        FocalCodec.from_pretrained(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def change_tensor(folder, change):
    tensors = load_file(folder / "model.safetensors")
    tensors[NAME] = change(tensors[NAME])
    save_file(tensors, folder / "model.safetensors")


# -- values and types -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype", "match"),
    [
        (torch.nan, "float32", "has NaN or infinite values"),
        (torch.inf, "float16", "has NaN or infinite values"),
        (-torch.inf, "bfloat16", "has NaN or infinite values"),
        (1e38, "float32", r"has a value of 1.0e\+38, which overflows"),
        (-1e38, "bfloat16", r"has a value of 1.0e\+38, which overflows"),
        (1e300, "float64", r"has a value of 1.0e\+300, which overflows"),
        (1, "int8", "is int8, where floats belong"),
        (1, "uint8", "is uint8, where floats belong"),
        (1, "int64", "is int64, where floats belong"),
        (1, "bool", "is bool, where floats belong"),
        (0, "float8_e4m3fn", "is float8_e4m3fn, where floats belong"),
    ],
)
def test_values_that_are_no_weights(folder, value, dtype, match):
    def change(tensor):
        tensor = tensor.clone()
        tensor[-1] = value if dtype == "float64" else min(value, 3e38)
        return (tensor.double() if dtype == "float64" else tensor).to(getattr(torch, dtype))

    def set_float64(tensor):
        wide = tensor.double()
        wide[-1] = value
        return wide

    change_tensor(folder, set_float64 if dtype == "float64" else change)
    refused(f"model.safetensors: {NAME} {match}", folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floats_are_read(folder, dtype):
    stored = {}

    def change(tensor):
        tensor = tensor.clone()
        tensor[0] = 60000.0
        stored[NAME] = tensor.to(dtype)
        return stored[NAME]

    change_tensor(folder, change)
    weight = FocalCodec.from_pretrained(folder).state_dict()[NAME]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, stored[NAME].float())


def test_counters_and_empty_tensors_pass():
    check_values("a", {"batches": torch.tensor(3), "none": torch.empty(0), "low": torch.ones(2)})


def test_query_and_key_that_can_not_be_joined(tmp_path):
    """In the layout of generation 1 they are separate."""
    folder = Path(shutil.copytree(GOLDEN["tiny_50hz"], tmp_path / "codec"))
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("qkv_proj.weight"))
    for letter, size in zip("qkv", (2, 3, 2), strict=True):
        tensors[name.replace("qkv", letter)] = torch.ones(2, size)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    refused("model.safetensors: does not fit config.json .*; copy both again", folder)


def test_names_of_tensors_stay_one_line(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"a\nb" * 999: torch.ones(2)}, folder / "model.safetensors")
    refused("1 tensors are unknown, such as 'a", folder)
    save_file(tensors | {"a\nb" * 999: torch.ones(2) / 0}, folder / "model.safetensors")
    refused("'a.* has NaN or infinite", folder)


# -- configurations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("encoder", "num_layers", 10**7),
        ("encoder", "num_layers", -1),
        ("encoder", "num_layers", 2.0),
        ("encoder", "num_layers", True),
        ("encoder", "num_layers", "2"),
        ("encoder", "num_layers", [2]),
        ("encoder", "dim", 10**30),
        ("encoder", "strides", [5, 2, 2, 2, 2, 2, 0]),
        ("encoder", "strides", [1] * 10**6),
        ("encoder", "hidden_dims", 8),
        ("encoder", "hidden_dims", {"a": 1}),
        ("compressor", "focal_level", 10**7),
        ("compressor", "causal", 1),
        ("compressor", "dropout", 10**400),
        ("compressor", "dropout", float("nan")),
        ("compressor", "layerscale_init", "1e-4"),
        ("quantizer", "codebook_size", 2**62),
        ("quantizer", "codebook_size", 8192.0),
        ("decompressor", "lookahead_size", -1),
        ("decoder", "n_fft", 10**7),
        ("encoder", "max_cached_steps", -1),
        ("decoder", "layerscale_init", float("inf")),
    ],
)
def test_arguments_out_of_bounds(folder, part, key, value):
    config = json.loads((folder / "config.json").read_text())
    config[f"{part}_config"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    refused(rf"config.json: {part}_config: {key}=.*; give ", folder)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("LogMel", {"n_mels": 10**7}),
        ("LogMel", {"n_fft": 10**7}),
        ("MelEncoder", {"output_dim": 8, "n_mels": 10**7}),
        ("MelEncoder", {"output_dim": 8, "num_layers": 10**7}),
        ("WavLM", {"dim": 2**20, "num_heads": 1, "conv_pos_groups": 1}),
        ("WavLM", {"num_layers": 1000}),
        ("WavLM", {"num_buckets": 2**24}),
    ],
)
def test_models_that_are_larger_than_their_weights(folder, name, config):
    """They are refused before memory is taken: the largest of these would need terabytes."""
    stored = json.loads((folder / "config.json").read_text())
    stored |= {"encoder_name": name, "encoder_config": config}
    (folder / "config.json").write_text(json.dumps(stored))
    refused("config.json: encoder_config: ", folder)


def test_memory_is_bounded_by_the_values_of_all_files(folder):
    """The bound is twice the values of the files, and a little more."""
    path = folder / "model.safetensors"
    values = sum(tensor.numel() for tensor in load_file(path).values())
    with AtMost([path, path]):
        torch.empty(4 * values)
        torch.zeros(2**15, 2)
        with pytest.raises(UserError, match=f"more than the {2 * values} values of .*{path.name}"):
            torch.ones(1)


def test_hop_of_an_encoder_that_leaves_no_output(folder):
    config = json.loads((folder / "config.json").read_text())
    config["encoder_config"]["strides"] = [10**6] * 7
    (folder / "config.json").write_text(json.dumps(config))
    refused("config.json: encoder and decoder have 10{42} and 320 samples a frame", folder)


@pytest.mark.parametrize(("buckets", "distance"), [(3, 800), (320, 80), (320, 1)])
def test_position_buckets_that_give_no_logarithm(folder, buckets, distance):
    config = json.loads((folder / "config.json").read_text())
    config["encoder_config"] |= {"num_buckets": buckets, "max_distance": distance}
    (folder / "config.json").write_text(json.dumps(config))
    refused("encoder_config: not one of WavLM .num_buckets, max_distance: ", folder)


# -- JSON -----------------------------------------------------------------------------------------


def test_byte_order_mark(folder):
    path = folder / "config.json"
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert FocalCodec.from_pretrained(folder).config == golden_codec("tiny_50hz").config


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"[" * 10**5, "not JSON .too many levels"),
        (b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "not JSON .too many levels"),
        (b'{"a": 1' + b"0" * 10**5 + b"}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe{\0}\0", "not JSON"),
        (b"[" * 200 + b"]" * 200, "list, not names"),
        (b'{"encoder_name": ' + b"[" * 200 + b"]" * 200 + b"}", "encoder_name="),
    ],
)
def test_json_that_is_no_configuration(folder, content, match):
    (folder / "config.json").write_bytes(content)
    refused(f"config.json: .*{match}", folder)


def test_json_of_another_size(tmp_path, monkeypatch):
    path = tmp_path / "large.json"
    path.write_text("[1, 2]")
    assert read_json(path) == [1, 2]
    monkeypatch.setattr("focalcodec.files.MOST_JSON_BYTES", 5)
    with pytest.raises(UserError, match="large.json: not JSON .6 bytes, more than 5"):
        read_json(path)
    with pytest.raises(UserError, match="No such file or directory; train again"):
        read_json(tmp_path / "none.json", "train again")
