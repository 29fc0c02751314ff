"""Checkpoints: both generations, round trips, the hub's cache, and what can't be loaded."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from focalcodec import FocalCodec, UserError
from focalcodec.hub.checkpoints import stored_tensors, upgrade_tensors, write_checkpoint
from focalcodec.hub.fingerprint import weights_sha256
from tests.unit.small_codecs import GOLDEN, OFFLINE, golden_codec, golden_tensors, logmel_codec

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = "huggingface_hub.constants"


def refused(match, source, **kwargs):
    with pytest.raises(UserError, match=match) as error:
        FocalCodec.from_pretrained(source, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    """A copy of a checkpoint, to be damaged."""
    return Path(shutil.copytree(GOLDEN["tiny_50hz"], tmp_path / "codec"))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


# -- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_round_trip(name, tmp_path):
    codec, sig = golden_codec(name), golden_tensors(name)["sig"]
    codec.save_pretrained(tmp_path / "new" / "codec")
    again = FocalCodec.from_pretrained(tmp_path / "new" / "codec")
    assert again.config == codec.config
    assert not again.training
    state = again.state_dict()
    assert list(state) == list(codec.state_dict())
    assert all(torch.equal(state[key], value) for key, value in codec.state_dict().items())
    with torch.no_grad():
        assert torch.equal(again.sig_to_toks(sig), codec.sig_to_toks(sig))
    saved = load_file(tmp_path / "new" / "codec" / "model.safetensors")
    published = upgrade_tensors(load_file(GOLDEN[name] / "model.safetensors"))
    assert saved.keys() == published.keys()
    assert all(torch.equal(saved[key], value) for key, value in published.items())


@pytest.mark.parametrize("name", GOLDEN)
def test_saved_config_keeps_the_published_keys(name):
    published = json.loads((GOLDEN[name] / "config.json").read_text())
    config = golden_codec(name).config
    assert config.keys() == published.keys()
    for key, value in published.items():
        if key == "decoder_config" and "input_channels" in value:
            value = {**value, "input_dim": value["input_channels"]}
            del value["input_channels"], value["padding"]
        if isinstance(value, dict):
            assert value.items() <= config[key].items()
        else:
            assert config[key] == value


def test_codec_with_an_encoder_without_weights(tmp_path):
    codec, toks = logmel_codec(), torch.arange(20)[None]
    codec.save_pretrained(tmp_path)
    assert torch.equal(FocalCodec.from_pretrained(str(tmp_path)).decode(toks), codec.decode(toks))


def test_saving_replaces_and_leaves_nothing_else(folder):
    logmel_codec().save_pretrained(folder)
    files = ["config.json", "model.safetensors"]
    assert sorted(os.listdir(folder)) == sorted({*files, "expected.safetensors"})
    assert FocalCodec.from_pretrained(folder).config == logmel_codec().config


@pytest.mark.skipif(os.name == "nt", reason="platform: Windows has no such modes")
def test_files_have_the_usual_permissions(tmp_path):
    logmel_codec().save_pretrained(tmp_path / "codec")
    (tmp_path / "ordinary").touch()
    modes = {
        stat.S_IMODE(path.stat().st_mode)
        for path in [*(tmp_path / "codec").iterdir(), tmp_path / "ordinary"]
    }
    assert len(modes) == 1


def test_a_failed_save_leaves_the_old_files(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def disk_full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("focalcodec.hub.checkpoints.save_file", disk_full)
    with pytest.raises(OSError, match="no space"):
        golden_codec("tiny_12_5hz").save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_saving_over_a_file(tmp_path):
    (tmp_path / "file").touch()
    for target in (tmp_path / "file", tmp_path / "file" / "codec"):
        with pytest.raises(UserError, match="a file has this name"):
            write_checkpoint(target, {}, {})


# -- float16 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OFFLINE)
def test_weights_in_float16(name, tmp_path):
    codec, sig = golden_codec(name), golden_tensors(name)["sig"]
    codec.save_pretrained(tmp_path / "half", dtype="float16")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    first, second = (FocalCodec.from_pretrained(tmp_path / "half") for _ in range(2))
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}
    assert weights_sha256(first) == weights_sha256(second) != weights_sha256(codec)
    with torch.no_grad():
        toks = first.sig_to_toks(sig)
        assert torch.equal(toks, second.sig_to_toks(sig))
        assert (toks == codec.sig_to_toks(sig)).float().mean() > 0.9
    first.save_pretrained(tmp_path / "whole")
    assert weights_sha256(FocalCodec.from_pretrained(tmp_path / "whole")) == weights_sha256(first)
    first.save_pretrained(tmp_path / "again", dtype="float16")
    files = [tmp_path / name / "model.safetensors" for name in ("half", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("value", [1e6, 3e-8, float("inf"), float("nan")])
def test_values_that_float16_can_not_hold_stay(value):
    tensors = {"large": torch.tensor([1.0, value]), "small": torch.tensor([value, value])}
    stored = stored_tensors(tensors, "float16")
    kept = {name for name, tensor in stored.items() if tensor.dtype == torch.float32}
    assert kept == ({"small"} if value == 3e-8 else {"large", "small"})
    for name in kept:
        assert torch.equal(stored[name], tensors[name]) or value != value
    assert stored_tensors({"x": torch.ones(1).bfloat16()})["x"].dtype == torch.bfloat16


def test_no_such_dtype(tmp_path):
    with pytest.raises(UserError, match="dtype='int8': not one of float32, float16"):
        logmel_codec().save_pretrained(tmp_path / "codec", dtype="int8")
    assert not (tmp_path / "codec").exists()


# -- generation 1 -------------------------------------------------------------------------------


def test_mask_of_generation_1_is_dropped(tmp_path):
    folder = Path(shutil.copytree(GOLDEN["tiny_50hz_v1"], tmp_path / "codec"))
    change_tensors(folder, lambda tensors: tensors.update({"quantizer.mask": torch.ones(13)}))
    codec, expected = FocalCodec.from_pretrained(folder), golden_tensors("tiny_50hz_v1")
    with torch.no_grad():
        assert torch.equal(codec.sig_to_toks(expected["sig"]), expected["toks"])


@pytest.mark.parametrize("part", "qkv")
def test_missing_projection_of_generation_1(part, tmp_path):
    folder = Path(shutil.copytree(GOLDEN["tiny_50hz_v1"], tmp_path / "codec"))
    name = f"encoder.encoder.layers.0.attention.{part}_proj.weight"
    change_tensors(folder, lambda tensors: tensors.pop(name))
    refused("model.safetensors: .*missing.*qkv_proj.weight", folder)


def test_query_key_and_value_are_joined_in_this_order():
    parts = {f"x.attention.{p}_proj.bias": torch.tensor([float(i)]) for i, p in enumerate("qkv")}
    for names in ("qkv", "vkq"):
        tensors = {f"x.attention.{p}_proj.bias": parts[f"x.attention.{p}_proj.bias"] for p in names}
        upgraded = upgrade_tensors(tensors)
        assert upgraded["x.attention.qkv_proj.bias"].tolist() == [0.0, 1.0, 2.0]
        assert len(upgraded) == 1


# -- damaged or of another model ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folder_without_a_file(folder, name):
    (folder / name).unlink()
    assert str(folder) in refused(f"no {name}", folder)


@pytest.mark.parametrize("text", ["", "{", "\x00\x01", '{"encoder_name": ', "é"])
def test_config_that_is_not_json(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    refused("config.json: not JSON .*copy it again", folder)


@pytest.mark.parametrize("config", [[], 1, None, {"model_type": "bert"}, {"encodr_name": "WavLM"}])
def test_config_of_something_else(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    refused("config.json: .*is it a FocalCodec checkpoint", folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"encoder_name": "Hubert"}, "encoder_name='Hubert': give LogMel or MelEncoder"),
        ({"decoder_name": "WavLM"}, "decoder_name='WavLM': give HiFiGAN or Vocos or WaveNeXt"),
        ({"encoder_name": ["WavLM"]}, "encoder_name="),
        ({"encoder_config": 3}, "encoder_config=3"),
        ({"encoder_config": {"width": 3}}, "encoder_config: not one of WavLM .*width"),
        ({"encoder_config": {"dim": "wide"}}, "encoder_config: dim='wide'; give an integer"),
        ({"encoder_config": {"dim": -4, "num_heads": 1}}, "encoder_config: dim=-4; give"),
        ({"encoder_config": {"num_heads": 0}}, "encoder_config: num_heads=0; give"),
        ({"compressor_config": {"downscale_factors": [1]}}, "compressor_config: .*downscale"),
        ({"quantizer_config": {"codebook_size": 1}}, "codebook_size=1"),
        ({"quantizer_config": {"codebook_size": 4096}}, "compressor gives width 13, quantizer"),
    ],
)
def test_config_that_does_not_fit(folder, changes, match):
    change_config(folder, **changes)
    refused(f"config.json: .*{match}", folder)


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused("model.safetensors: truncated or not safetensors .*copy it again", folder)


def test_weights_that_are_not_safetensors(folder):
    torch.save({}, folder / "model.safetensors")
    refused("model.safetensors: truncated or not safetensors", folder)


def test_weights_of_another_model(folder):
    shutil.copy(GOLDEN["tiny_50hz_causal"] / "model.safetensors", folder)
    refused("model.safetensors: does not fit config.json .*missing", folder)


def test_unknown_tensor(folder):
    change_tensors(folder, lambda tensors: tensors.update({"adapter.weight": torch.ones(1)}))
    refused("1 tensors are unknown, such as adapter.weight", folder)


def test_weights_of_another_shape(folder):
    shutil.copy(GOLDEN["tiny_12_5hz"] / "model.safetensors", folder)
    refused(r"compressor.layers.0.downscale.downscale.weight is \(64, 64, 2\), not", folder)


# -- the hub and its cache ----------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(f"{HUB}.HF_HUB_OFFLINE", True)


@pytest.fixture
def cache(tmp_path):
    """The hub's cache with one repository."""
    repository = tmp_path / "hub" / "models--someone--some_codec.v1"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN["tiny_50hz"] / name, snapshot)
    return tmp_path / "hub"


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "/no/such/place", "../codec", "a/b c"])
def test_neither_a_folder_nor_a_name(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("not a folder, nor the name of a hub repository", source)


def test_a_file_instead_of_its_folder(folder):
    refused("not a folder", folder / "model.safetensors")


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert FocalCodec.from_pretrained("~/codec").config == golden_codec("tiny_50hz").config


def test_a_folder_comes_before_a_repository(folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    source = os.path.relpath(folder)
    assert source.count("/") == 1
    FocalCodec.from_pretrained(source)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_repository_from_the_cache(cache, offline, revision):
    codec = FocalCodec.from_pretrained("someone/some_codec.v1", revision, cache_dir=cache)
    sig, toks = golden_tensors("tiny_50hz")["sig"], golden_tensors("tiny_50hz")["toks"]
    with torch.no_grad():
        assert torch.equal(codec.sig_to_toks(sig), toks)


def test_repository_from_the_cache_without_a_network(cache, monkeypatch):
    monkeypatch.setattr(f"{HUB}.ENDPOINT", "http://127.0.0.1:9")
    FocalCodec.from_pretrained("someone/some_codec.v1", cache_dir=cache)


def test_no_such_revision(cache, offline):
    text = refused("v2", "someone/some_codec.v1", revision="v2", cache_dir=cache)
    assert text.startswith("someone/some_codec.v1: ")


def test_repository_that_is_cached_in_part(cache, offline):
    next(cache.rglob("model.safetensors")).unlink()
    refused("no model.safetensors", "someone/some_codec.v1", cache_dir=cache)


def test_repository_that_is_not_cached(tmp_path, offline):
    text = refused("check name and network, or give a local folder", "x/y", cache_dir=tmp_path)
    assert text.startswith("x/y: no such folder")


def test_name_that_the_hub_does_not_allow(tmp_path, offline):
    refused("x--y/z", "x--y/z", cache_dir=tmp_path)
