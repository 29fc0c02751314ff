"""A joint training of a causal codec begins with parts that are not causal."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from focalcodec.encoders.logmel import MelEncoder
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder
from focalcodec.training.joint import take_weights

ENCODER: dict[str, Any] = {"output_dim": 8, "num_layers": 2, "dim": 8, "ffn_dim": 16}
DECODER: dict[str, Any] = {"hidden_dims": [8], "upscale_factors": [1], "focal_window": 3}


@pytest.mark.parametrize("lookahead_size", [1, 3, 5])
def test_a_block_sees_the_same_frames_inside_a_chunk(lookahead_size: int) -> None:
    theirs = MelEncoder(**ENCODER)
    ours = MelEncoder(**ENCODER, causal=True, lookahead_size=lookahead_size)
    take_weights("student", theirs, ours)
    size = 1 + lookahead_size
    x = torch.randn(2, 4 * size, 8)
    for old, new in zip(theirs.backbone.layers, ours.backbone.layers, strict=True):
        expected, given = old.dwconv(x), new.dwconv(x) + new.chunk_mix(x)
        equal = torch.isclose(expected, given, atol=1e-5).all(dim=2).all(dim=0)
        # three frames after each one are known only if they are in its chunk
        known = torch.arange(4 * size) % size + 3 < size
        known[-size:] = True  # after the end there are zeros in both
        assert torch.equal(equal[size:], known[size:])
        assert torch.equal(old.pwconv1.weight, new.pwconv1.weight)


def test_a_decompressor_keeps_its_own_refiner_and_widest_convolution() -> None:
    theirs = FocalDecoder(4, 8, **DECODER)
    ours = FocalDecoder(4, 8, **DECODER, causal=True, window_size=9, refiner_dim=6)
    own = {key: value.clone() for key, value in ours.state_dict().items()}
    take_weights("decompressor", theirs, ours)
    old, new = theirs.state_dict(), ours.state_dict()
    for key, value in new.items():
        if key not in old:
            assert torch.equal(value, own[key]), key
        elif value.ndim == 3 and value.shape[2] == 3:
            assert torch.equal(value[..., 1:], old[key][..., :2]) and not value[..., 0].any()
        elif value.ndim < 3:
            assert torch.equal(value, old[key]), key
    assert any(key.startswith("refiner") for key in new.keys() - old.keys())


def test_other_widths_and_the_way_back_are_refused() -> None:
    small, wide = MelEncoder(**ENCODER), MelEncoder(**ENCODER | {"dim": 16}, causal=True)
    with pytest.raises(UserError, match="student: dim is 8, here 16; make them equal"):
        take_weights("student", small, wide)
    causal = MelEncoder(**ENCODER, causal=True)
    with pytest.raises(UserError, match="student: causal is True, here None"):
        take_weights("student", causal, small)
