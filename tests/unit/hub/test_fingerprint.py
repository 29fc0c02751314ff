"""A model's fingerprint follows its weights and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from focalcodec import FocalCodec
from focalcodec.hub.fingerprint import weights_sha256
from tests.unit.small_codecs import GOLDEN, golden_codec


@pytest.mark.parametrize("name", GOLDEN)
def test_a_saved_copy_has_the_same(name: str, tmp_path: Path) -> None:
    """The published layout of generation 1 and our own are one model."""
    codec = golden_codec(name)
    codec.save_pretrained(tmp_path)
    assert weights_sha256(FocalCodec.from_pretrained(tmp_path)) == weights_sha256(codec)


def test_other_weights_or_another_configuration_have_another() -> None:
    fingerprints = {weights_sha256(golden_codec(name)) for name in GOLDEN}
    assert len(fingerprints) == len(GOLDEN)
    codec = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"])
    weight = codec.decoder.head.proj.weight.data
    weight[0, 0] = weight[0, 0].nextafter(weight.new_tensor(1.0))
    assert weights_sha256(codec) not in fingerprints
    same = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"])
    same.encoder.config["max_distance"] += 1
    assert weights_sha256(same) not in fingerprints
