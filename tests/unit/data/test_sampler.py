"""Batches: deterministic, resumable, the same on any number of processes."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.data.sampler import SORTINGS, EpochBatchSampler
from focalcodec.errors import UserError

DURATIONS = st.lists(st.floats(0.05, 30.0), min_size=1, max_size=60)
KINDS = st.one_of(
    st.builds(lambda n: {"batch_size": n}, st.integers(4, 16)),
    st.builds(lambda s: {"max_batch_seconds": s}, st.floats(30.0, 200.0)),
)


@settings(max_examples=80, deadline=None)
@given(DURATIONS, KINDS, st.sampled_from(SORTINGS), st.integers(0, 5), st.integers(0, 3))
def test_each_clip_once_an_epoch_within_the_limit(durations, kind, sorting, seed, epoch):
    sampler = EpochBatchSampler(durations, **kind, sorting=sorting, seed=seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(len(durations)))
    assert len(sampler) == len(batches)
    for batch in batches:
        seconds = len(batch) * max(durations[i] for i in batch)
        assert len(batch) <= kind.get("batch_size", len(durations))
        assert seconds <= kind.get("max_batch_seconds", float("inf"))
    flat = [durations[i] for batch in batches for i in batch]
    if sorting in ("ascending", "descending"):
        assert flat == sorted(durations, reverse=sorting == "descending")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0.05, 30.0), min_size=4, max_size=60),
    st.one_of(
        st.builds(lambda n: {"batch_size": n}, st.integers(4, 16)),
        st.builds(lambda s: {"max_batch_seconds": s}, st.floats(120.0, 400.0)),
    ),
    st.sampled_from(SORTINGS),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_ranks_together_are_one_process(durations, kind, sorting, world_size, passes):
    def batches(**ranks):
        sampler = EpochBatchSampler(durations, **kind, sorting=sorting, passes=passes, **ranks)
        sampler.set_epoch(3)
        assert len(list(sampler)) == len(sampler)
        return list(sampler)

    ranks = [batches(world_size=world_size, rank=rank) for rank in range(world_size)]
    assert all(batch for rank in ranks for batch in rank)
    union = [sorted(i for batch in step for i in batch) for step in zip(*ranks, strict=True)]
    assert sorted(i for batch in union for i in batch) == sorted([*range(len(durations))] * passes)
    whole = [sorted(batch) for batch in batches()]
    if all(len(batch) >= world_size for batch in whole):
        assert union == whole


def test_a_last_batch_too_small_for_the_ranks_joins_the_one_before():
    sampler = EpochBatchSampler([1.0] * 9, batch_size=4, sorting="ascending", world_size=2, rank=1)
    assert list(sampler) == [[1, 3], [5, 7]]


@settings(max_examples=80, deadline=None)
@given(DURATIONS, KINDS, st.sampled_from(SORTINGS), st.integers(0, 30))
def test_resumed_equals_uninterrupted(durations, kind, sorting, done):
    def epochs(sampler, first, last):
        for epoch in range(first, last):
            sampler.set_epoch(epoch)
            for batch in sampler:
                sampler.advance()
                yield batch

    whole = list(epochs(EpochBatchSampler(durations, **kind, sorting=sorting), 0, 4))
    first = EpochBatchSampler(durations, **kind, sorting=sorting)
    seen = list(itertools.islice(epochs(first, 0, 4), done))
    state = json.loads(json.dumps(first.state_dict()))
    second = EpochBatchSampler(durations, **kind, sorting=sorting)
    second.load_state_dict(state)
    assert seen + list(epochs(second, second.epoch, 4)) == whole


def test_order_depends_on_seed_and_epoch_only():
    def order(seed, epoch):
        sampler = EpochBatchSampler([1.0] * 50, batch_size=8, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        (
            {"batch_size": 3, "passes": 2},
            [[4, 0, 2], [6, 5, 1], [3, 5, 0], [1, 2, 4], [3, 6]],
        ),
        ({"batch_size": 3, "sorting": "bucketed"}, [[0, 2, 5], [4, 3, 6], [1]]),
        ({"max_batch_seconds": 20.0, "sorting": "bucketed"}, [[0, 2, 5, 4], [3, 6], [1]]),
    ],
)
def test_order_is_that_of_earlier_versions(options, batches):
    sampler = EpochBatchSampler([1.0, 9.0, 1.1, 4.0, 4.1, 1.2, 8.9], seed=1, **options)
    sampler.set_epoch(2)
    assert list(sampler) == batches


def test_drop_last_makes_process_counts_agree():
    for world_size in (1, 2, 3):
        sampler = EpochBatchSampler([1.0] * 13, batch_size=6, world_size=world_size, drop_last=True)
        assert len(sampler) == 2


def test_prefetched_batches_are_not_counted_as_done():
    sampler = EpochBatchSampler([1.0] * 20, batch_size=4)
    batches = list(sampler)
    sampler.advance(2)
    assert list(sampler) == batches[2:]
    sampler.set_epoch(0)
    assert list(sampler) == batches[2:]
    sampler.set_epoch(1)
    assert len(list(sampler)) == 5


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 5}, {"seed": 1}, {"sorting": "ascending"}, {"durations": [2.0] * 20}],
)
def test_changed_option_is_refused_within_an_epoch_and_used_between_epochs(change):
    options = {"durations": [1.0] * 20, "batch_size": 4}
    first = EpochBatchSampler(**options)
    first.advance()
    changed = EpochBatchSampler(**{**options, **change})
    with pytest.raises(UserError, match="resume in the middle of epoch 0"):
        changed.load_state_dict(first.state_dict())
    first.advance(4)
    changed.load_state_dict(first.state_dict())
    assert list(changed) == []
    changed.set_epoch(1)
    assert sorted(i for batch in changed for i in batch) == list(range(20))


def test_resume_on_another_number_of_processes():
    first = EpochBatchSampler([1.0] * 20, batch_size=4)
    rest = list(first)[3:]
    first.advance(3)
    ranks = [EpochBatchSampler([1.0] * 20, batch_size=4, world_size=2, rank=r) for r in (0, 1)]
    for sampler in ranks:
        sampler.load_state_dict(first.state_dict())
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(b) for b in rest]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"durations": [1.0], "batch_size": 2.5}, "batch_size=2.5: give a whole number"),
        ({"durations": [1.0], "batch_size": 2, "passes": 1.5}, "passes=1.5: give a whole number"),
        ({"durations": [], "batch_size": 1}, "no clips"),
        ({"durations": [1.0]}, "give one of them"),
        ({"durations": [1.0], "batch_size": 1, "max_batch_seconds": 9.0}, "give one of them"),
        ({"durations": [1.0], "batch_size": 1, "sorting": "up"}, "sorting='up'"),
        ({"durations": [1.0], "batch_size": 1, "world_size": 2}, "batch_size=1"),
        ({"durations": [1.0], "batch_size": 2, "world_size": 2, "rank": 2}, "rank=2"),
        ({"durations": [1.0] * 3, "batch_size": 4, "drop_last": True}, "3 clips are too few"),
        ({"durations": [1.0], "batch_size": 2, "world_size": 2}, "1 clips are too few"),
        ({"durations": [1.0, 61.0], "max_batch_seconds": 60.0}, "is 61.00 s; raise it"),
        ({"durations": [40.0] * 9, "max_batch_seconds": 60.0, "world_size": 2}, "is 80.00 s"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        EpochBatchSampler(**options)
