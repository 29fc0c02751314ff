"""Configurations and weights of `transformers` models of others: one line, and no foreign code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from focalcodec import FocalCodec, UserError
from focalcodec.encoders.model_config import check_code, checked_config
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.encoders.wavlm_convert import wavlm_from_transformers
from tests.unit.small_encoders import SMALL, WHISPER, codec_of, model_of, transformers

BAD = [
    ("hidden_act", "os.system", "hidden_act='os.system'; give gelu or"),
    ("hidden_act", 3, "hidden_act=3; give gelu or"),
    ("feat_extract_activation", "prelu", "feat_extract_activation='prelu'; give gelu or"),
    ("feat_extract_norm", "batch", "feat_extract_norm='batch'; give group or layer"),
    ("hidden_size", "16", "hidden_size='16'; give an integer from 1"),
    ("hidden_size", 16.0, "hidden_size=16.0; give an integer from 1"),
    ("hidden_size", True, "hidden_size=True; give an integer from 1"),
    ("hidden_size", 10**9, "hidden_size=1000000000; give an integer from 1 to"),
    ("num_hidden_layers", 10**7, "num_hidden_layers=10000000; give an integer from 1 to 1000"),
    ("num_hidden_layers", -1, "num_hidden_layers=-1; give an integer"),
    ("num_attention_heads", 0, "num_attention_heads=0; give an integer"),
    ("num_attention_heads", 3, "divisible"),
    ("conv_dim", 8, "conv_dim=8; give a list"),
    ("conv_dim", [8] * 6, "not equally long"),
    ("num_buckets", 3, "num_buckets, max_bucket_distance: "),
    ("max_bucket_distance", 80, "num_buckets, max_bucket_distance: "),
    ("conv_stride", [5, 2, 2, 2, 2, 2, "2"], "conv_stride=.*; give a list"),
    ("conv_bias", "no", "conv_bias='no'; give true or false"),
    ("layer_norm_eps", float("nan"), "layer_norm_eps=nan; give a number"),
    ("attn_implementation", "someone/kernel", "attn_implementation='someone/kernel'; give null"),
    ("_attn_implementation", "flash_attention_2", "_attn_implementation='flash_attention_2'; give"),
    ("attn_implementation", {"": "someone/kernel"}, "attn_implementation=.*; give null"),
    ("dtype", "os.system", "dtype='os.system'; give null or float32"),
    ("torch_dtype", "load", "torch_dtype='load'; give null or float32"),
    ("trust_remote_code", True, "trust_remote_code=True; give null or False"),
    ("auto_map", {"AutoModel": "evil.Model"}, "auto_map=.*; give null"),
    ("quantization_config", {"quant_method": "awq"}, "quantization_config=.*; give null"),
    ("model_type", "bert", "model_type='bert': not one of"),
    ("model_type", ["wavlm"], "model_type=.*: not one of"),
    ("audio_config", {"a": {"auto_map": {"b": "c"}}}, "auto_map=.*; give null"),
]


def one_line(match, function, *arguments):
    with pytest.raises(UserError, match=match) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model_of("wavlm", "base").save_pretrained(folder / "wavlm")
    encoder = SpeechEncoder.from_pretrained(folder / "wavlm", 1)
    codec_of(encoder).save_pretrained(folder / "codec")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved / "wavlm", tmp_path / "wavlm"))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(("key", "value", "match"), BAD)
def test_values_in_a_configuration(saved, folder, key, value, match, tmp_path):
    """In a model's folder, in a codec's, and for our own WavLM."""
    change_config(folder, **{key: value})
    one_line(match, SpeechEncoder.from_pretrained, folder, 1)
    one_line(match if key != "model_type" else "model_type is", wavlm_from_transformers, folder, 1)
    codec = Path(shutil.copytree(saved / "codec", tmp_path / "codec"))
    config = json.loads((codec / "config.json").read_text())
    config["encoder_config"]["model"][key] = value
    (codec / "config.json").write_text(json.dumps(config))
    one_line(f"config.json: encoder_config: .*{match}", FocalCodec.from_pretrained, codec)


@pytest.mark.parametrize(
    "key", ["d_model", "encoder_layers", "num_mel_bins", "max_source_positions"]
)
def test_sizes_of_whisper(tmp_path, key):
    codec_of(SpeechEncoder({"model_type": "whisper", **WHISPER}, 1)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for value in (10**7, 0, 2.0, "8", None):
        config["encoder_config"]["model"][key] = value
        (tmp_path / "config.json").write_text(json.dumps(config))
        one_line(f"encoder_config: .*({key}=|more than)", FocalCodec.from_pretrained, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("layer", 1.0), ("layer", "1"), ("layer", [True]), ("components", 0), ("normalize", 1)]
    + [("model", ["wavlm"]), ("model", None)],
)
def test_arguments_of_the_encoder_in_a_codec(saved, tmp_path, key, value):
    codec = Path(shutil.copytree(saved / "codec", tmp_path / "codec"))
    config = json.loads((codec / "config.json").read_text())
    config["encoder_config"][key] = value
    (codec / "config.json").write_text(json.dumps(config))
    one_line(f"encoder_config: {key}=.*; give", FocalCodec.from_pretrained, codec)


def test_keys_of_code_in_the_middle_of_a_configuration():
    """Also in a configuration as deep as the JSON reader allows."""
    deep: dict = {"auto_map": {"AutoModel": "evil.Model"}}
    for _ in range(900):
        deep = {"config": deep}
    one_line("a: auto_map=", check_code, "a: ", deep)
    check_code("a: ", {"attn_implementation": "sdpa", "dtype": "bfloat16", "auto_map": None})


def test_values_without_use_are_ignored():
    """A model gets only the keys of its layers, so others can't do anything."""
    config = checked_config(
        transformers().AutoConfig,
        {"model_type": "hubert", **SMALL, "hidden_dropout": "x", "transformers_weights": None}
        | {"fusion_config": {"a": 1}, "vocab_size": "many", "return_dict": 7},
    )
    assert (config.hidden_dropout, config.vocab_size, config.return_dict) == (0.1, 32, True)
    assert not hasattr(config, "fusion_config")


# -- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype", "match"),
    [
        (torch.nan, torch.float32, "bias has NaN or infinite values"),
        (torch.inf, torch.float16, "bias has NaN or infinite values"),
        (1e38, torch.float32, r"bias has a value of 1.0e\+38, which overflows"),
        (1, torch.int8, "bias is I8, where floats belong"),
        (1, torch.bool, "bias is BOOL, where floats belong"),
    ],
)
@pytest.mark.parametrize("load", [SpeechEncoder.from_pretrained, wavlm_from_transformers])
def test_values_that_are_no_weights(folder, value, dtype, match, load):
    path, name = folder / "model.safetensors", "encoder.layers.0.final_layer_norm.bias"
    tensors = load_file(path)
    tensors[name] = torch.full_like(tensors[name], value).to(dtype)
    save_file(tensors, path, {"format": "pt"})
    one_line(f"encoder.layers.0.final_layer_norm.{match}", load, folder, 1)


@pytest.mark.parametrize("load", [SpeechEncoder.from_pretrained, wavlm_from_transformers])
def test_models_that_are_larger_than_their_weights(folder, load):
    """Refused before memory is taken: it would need terabytes."""
    change_config(folder, hidden_size=2**20, intermediate_size=2**20)
    one_line("more than the .* values of .*model.safetensors", load, folder, 1)


@pytest.mark.parametrize(
    "content",
    ["[" * 10**5, "{}", "[]", '{"weight_map": {"a": "../other.safetensors"}}', '{"weight_map": 1}'],
)
@pytest.mark.parametrize("load", [SpeechEncoder.from_pretrained, wavlm_from_transformers])
def test_index_of_weights_in_several_files(folder, content, load):
    index = folder / "model.safetensors.index.json"
    index.write_text(content)
    one_line("model.safetensors.index.json: ", load, folder, 1)


def test_preprocessor_of_others(folder):
    """It is only read for `do_normalize`: a class that it names is not looked for."""
    path = folder / "preprocessor_config.json"
    path.write_text(
        '{"feature_extractor_type": "Evil", "auto_map": {"AutoFeatureExtractor": "a.B"}}'
    )
    assert SpeechEncoder.from_pretrained(folder, 1).normalize
    path.write_text('{"do_normalize": false}')
    assert not SpeechEncoder.from_pretrained(folder, 1).normalize
    path.write_text("[" * 10**5)
    one_line(
        "preprocessor_config.json: not JSON .too many", SpeechEncoder.from_pretrained, folder, 1
    )
