"""Files of parts: what was written, or None."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.tokenize.part_encoder import EncodedClip
from focalcodec.tokenize.part_files import read_part, write_part

CLIPS = [
    EncodedClip(torch.tensor([5, 8191, 70_000]), 960, 16000),
    EncodedClip(reason="a\udce4.wav: empty"),
    EncodedClip(torch.tensor([1]), 2**40, 44100),
]


def test_round_trip(tmp_path):
    write_part(tmp_path / "p", "ab", CLIPS)
    found = read_part(tmp_path / "p", "ab", 3)
    for clip, expected in zip(found, CLIPS, strict=True):
        assert clip.toks.dtype == torch.int64 and torch.equal(clip.toks, expected.toks)
        assert (clip.num_samples, clip.sample_rate) == (expected.num_samples, expected.sample_rate)
        assert clip.reason == expected.reason


@pytest.mark.parametrize("digest, count", [("cd", 3), ("ab", 2), ("ab", 4)])
def test_part_of_another_plan_does_not_count(tmp_path, digest, count):
    write_part(tmp_path / "p", "ab", CLIPS)
    assert read_part(tmp_path / "p", digest, count) is None


def test_missing_part_does_not_count(tmp_path):
    assert read_part(tmp_path / "p", "ab", 3) is None


@settings(max_examples=150)
@given(st.data())
def test_damaged_part_does_not_count(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("part") / "p"
    write_part(path, "ab", CLIPS)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(content))
    assert read_part(path, "ab", 3) is None
