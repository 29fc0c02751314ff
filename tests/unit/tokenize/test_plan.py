"""Plans: each clip is in one part, and the digest depends on all that changes the output."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.processes import Shard
from focalcodec.tokenize import TokenVocabulary
from focalcodec.tokenize.clips import CorpusClip, FileSource
from focalcodec.tokenize.plan import PART_BYTES, ModelIdentity, TokenizeOptions, TokenizePlan

MODEL = ModelIdentity("tiny", "ab" * 32)


def plan_of(sizes: list[int], **changes: Any) -> TokenizePlan:
    clips = [CorpusClip(str(index), f"{index}.wav", size) for index, size in enumerate(sizes)]
    model = changes.pop("model", MODEL)
    vocabulary = changes.pop("vocabulary", TokenVocabulary(8))
    return TokenizePlan(FileSource(clips, ""), model, TokenizeOptions(**changes), vocabulary)


@settings(max_examples=80)
@given(
    st.lists(st.integers(0, PART_BYTES * 5 // 4), min_size=1, max_size=50),
    st.integers(1, 9),
    st.integers(1, 6),
)
def test_each_clip_is_in_one_part_of_one_process(sizes, part_clips, processes):
    plan = plan_of(sizes, part_clips=part_clips)
    parts = [plan.clips(part) for part in range(plan.parts)]
    assert [clip for part in parts for clip in part] == list(plan.source.clips)
    for part in parts:
        assert 1 <= len(part) <= part_clips
        assert len(part) == 1 or sum(clip.size for clip in part) <= PART_BYTES
    shares = [list(plan.parts_of(Shard(index, processes))) for index in range(processes)]
    assert sorted(part for share in shares for part in share) == list(range(plan.parts))


@pytest.mark.parametrize(
    "change",
    [
        {"channels": "first"},
        {"batch_seconds": 60.0},
        {"window_seconds": 30.0},
        {"part_clips": 3},
        {"formats": ("parquet",)},
        {"model": MODEL._replace(weights_sha256="cd" * 32)},
        {"model": MODEL._replace(precision="bf16")},
        {"vocabulary": TokenVocabulary(8, offset=1)},
        {"vocabulary": TokenVocabulary(8, special=())},
    ],
)
def test_digest_depends_on_what_changes_the_output(change):
    assert plan_of([1, 2], **change).digest != plan_of([1, 2]).digest


def test_digest_does_not_depend_on_the_rest():
    same = {"model": MODEL._replace(name="moved"), "formats": ["memmap"], "batch_seconds": 120}
    assert plan_of([1, 2], **same).digest == plan_of([1, 2]).digest
    assert plan_of([1, 3]).digest != plan_of([1, 2]).digest


@pytest.mark.parametrize(
    "options",
    [
        {"channels": "both"},
        {"batch_seconds": 0.0},
        {"window_seconds": float("nan")},
        {"batch_seconds": float("inf")},
        {"part_clips": 0},
        {"formats": ()},
        {"formats": ("csv",)},
    ],
)
def test_bad_options_are_errors(options):
    with pytest.raises(UserError, match=next(iter(options))):
        TokenizeOptions(**options)
