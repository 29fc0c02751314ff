"""A model's hash depends on weights and configuration only; stored hashes are still valid."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from focalcodec import FocalCodec, UserError
from focalcodec.conversion import ReferenceSet
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.encoders.logmel import LogMel
from focalcodec.hub.fingerprint import (
    check_same_encoder,
    describe_encoder,
    encoder_identity,
    is_described,
    weights_sha256,
)
from focalcodec.wavlm import WavLM
from tests.unit.small_codecs import DATA, GOLDEN, golden_codec

# Written by the code of commit 2a14d0d for the encoder of the golden case tiny_50hz.
EARLY = DATA / "stored_early"
EARLY_CACHE = "810f44457a3be52b"


def wavlm(seed: int) -> WavLM:
    torch.manual_seed(seed)
    return WavLM(hidden_dims=[8] * 7, num_layers=1, dim=16, ffn_dim=32, num_heads=2)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_saved_copy_has_the_same_hash(name: str, tmp_path: Path) -> None:
    """The published layout of generation 1 and our own are one model."""
    codec = golden_codec(name)
    codec.save_pretrained(tmp_path)
    assert weights_sha256(FocalCodec.from_pretrained(tmp_path)) == weights_sha256(codec)


def test_other_weights_or_another_configuration_change_the_hash() -> None:
    fingerprints = {weights_sha256(golden_codec(name)) for name in GOLDEN}
    assert len(fingerprints) == len(GOLDEN)
    codec = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"])
    weight = codec.decoder.head.proj.weight.data
    weight[0, 0] = weight[0, 0].nextafter(weight.new_tensor(1.0))
    assert weights_sha256(codec) not in fingerprints
    same = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"])
    same.encoder.config["max_distance"] += 1
    assert weights_sha256(same) not in fingerprints


# -- stored by early versions --------------------------------------------------------------------


def test_the_description_in_an_early_run_is_still_read() -> None:
    """Its hash follows the early rule, and does not match another encoder."""
    stored = json.loads((EARLY / "encoder.json").read_text(encoding="utf-8"))
    encoder = golden_codec("tiny_50hz").encoder
    assert is_described(encoder, stored) and is_described(encoder, describe_encoder(encoder))
    assert stored["sha256"] != describe_encoder(encoder)["sha256"]
    other = copy.deepcopy(encoder)
    other.norm.bias.data[0] += 1.0
    assert not is_described(other, stored)
    assert not is_described(encoder, stored | {"name": "LogMel"})
    assert not is_described(encoder, stored | {"config": stored["config"] | {"dim": 8}})
    assert not is_described(LogMel(), stored)


def test_an_early_reference_set_and_cache_are_still_used(tmp_path: Path) -> None:
    codec = golden_codec("tiny_50hz")
    ReferenceSet.load(EARLY / "speaker.set").check_codec(codec)
    with pytest.raises(UserError, match="another encoder"):
        ReferenceSet.load(EARLY / "speaker.set").check_codec(golden_codec("tiny_12_5hz"))
    assert FeatureCache(tmp_path, codec.encoder).folder.name == EARLY_CACHE


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [torch.float16, torch.bfloat16])
def test_an_encoder_is_the_same_in_every_precision(now: torch.dtype) -> None:
    encoder, other = wavlm(0), wavlm(1)
    low, low_other = copy.deepcopy(encoder).to(now), copy.deepcopy(other).to(now)
    check_same_encoder(encoder_identity(encoder), low)
    check_same_encoder(encoder_identity(low), encoder)
    check_same_encoder(encoder_identity(low), low)
    for made, used in ((encoder, low_other), (low, other), (low, low_other)):
        with pytest.raises(UserError, match="another encoder"):
            check_same_encoder(encoder_identity(made), used)


def test_two_low_precisions_cannot_be_compared() -> None:
    identity = encoder_identity(wavlm(0).half())
    with pytest.raises(UserError, match="made in float16, but the codec is in bfloat16"):
        check_same_encoder(identity, wavlm(0).bfloat16())


def test_the_hash_of_a_codec_with_wavenext_is_the_early_one(tmp_path: Path) -> None:
    """It had a sample rate in its configuration, which the official package does not load."""
    codec = golden_codec("tiny_50hz_causal")
    assert weights_sha256(codec).startswith("2fe59aa9036a9dd0e70154056c4059688dad60cf")
    codec.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    assert "sample_rate" not in config["decoder_config"]
    config["decoder_config"]["sample_rate"] = 24000
    path.write_text(json.dumps(config), encoding="utf-8")
    old = FocalCodec.from_pretrained(tmp_path)
    assert weights_sha256(old) == weights_sha256(codec)
    assert old.config == codec.config == old.config | {"decoder_config": old.decoder_config}
