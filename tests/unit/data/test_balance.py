"""Batches balanced over groups: exact shares, equal numbers of draws, exact resume."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.data.balance import group_quotas, spread
from focalcodec.data.sampler import SORTINGS, EpochBatchSampler
from focalcodec.errors import UserError

COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=6)
TEMPERATURES = st.sampled_from([1.0, 1.5, 5.0, math.inf])
KINDS = st.one_of(
    st.builds(lambda n: {"batch_size": n}, st.integers(4, 16)),
    st.builds(lambda s: {"max_batch_seconds": s}, st.floats(120.0, 400.0)),
)


def corpus(counts, seed=0):
    """Groups with these numbers of clips, in mixed order, and durations."""
    generator = np.random.default_rng(seed)
    groups = [f"g{place}" for place, count in enumerate(counts) for _ in range(count)]
    generator.shuffle(groups)
    return groups, generator.uniform(0.5, 30.0, len(groups)).tolist()


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(max_examples=60, deadline=None)
@given(COUNTS, TEMPERATURES, st.integers(1, 3))
def test_quotas_follow_the_temperature(counts, temperature, passes):
    total = passes * sum(counts)
    quotas = group_quotas(np.array(counts), total, temperature)
    weights = np.array(counts) ** (1 / temperature)
    assert quotas.sum() == total
    assert (np.abs(quotas - total * weights / weights.sum()) < 1).all()
    if temperature == 1:
        assert quotas.tolist() == [passes * count for count in counts]
    if math.isinf(temperature):
        assert quotas.max() - quotas.min() <= 1


@settings(max_examples=60, deadline=None)
@given(COUNTS, KINDS, st.sampled_from(SORTINGS), TEMPERATURES, st.integers(1, 3))
def test_each_clip_comes_floor_or_ceil_times(counts, kind, sorting, temperature, passes):
    groups, durations = corpus(counts)
    sampler = EpochBatchSampler(
        *(durations,),
        **kind,
        sorting=sorting,
        passes=passes,
        groups=groups,
        temperature=temperature,
    )
    quotas = group_quotas(np.array(counts), passes * len(groups), temperature)
    drawn, epochs = Counter(), 3
    for epoch in range(epochs):
        times = Counter(itertools.chain(*epoch_of(sampler, epoch)))
        drawn += times
        for clip, group in enumerate(groups):
            place = int(group[1:])
            assert abs(times[clip] - quotas[place] / counts[place]) < 1
        assert times.total() == quotas.sum()
    # ... and over the run: clips that one epoch left out come first in the next.
    for clip, group in enumerate(groups):
        place = int(group[1:])
        assert abs(drawn[clip] - epochs * quotas[place] / counts[place]) < 1


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(4, 16), TEMPERATURES, st.integers(1, 3), st.integers(0, 3))
def test_each_batch_has_the_epochs_shares(counts, batch_size, temperature, passes, epoch):
    groups, durations = corpus(counts)
    sampler = EpochBatchSampler(
        durations, batch_size, passes=passes, groups=groups, temperature=temperature
    )
    total = passes * len(groups)
    quotas = group_quotas(np.array(counts), total, temperature)
    batches = epoch_of(sampler, epoch)
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    for batch in batches:
        times = Counter(groups[clip] for clip in batch)
        for place in range(len(counts)):
            exact = len(batch) * quotas[place] / total
            # the rounding of the last, smaller batch is spread over the others
            assert abs(times[f"g{place}"] - exact) < 1 + 1 / max(1, len(batches) - 1)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_each_bucket_is_balanced(temperature):
    counts, batch_size = [600, 200, 50], 16
    groups, durations = corpus(counts)
    sampler = EpochBatchSampler(
        *(durations, batch_size), sorting="bucketed", groups=groups, temperature=temperature
    )
    buckets = np.floor(4 * np.log2(durations))
    batches = list(sampler)
    shares = {
        bucket: Counter(groups[i] for batch in batches for i in batch if buckets[i] == bucket)
        for bucket in set(buckets)
    }
    for batch in batches:
        times = Counter(groups[i] for i in batch)
        sizes = Counter(buckets[i] for i in batch)
        for group in ("g0", "g1", "g2"):
            exact = sum(n * shares[b][group] / shares[b].total() for b, n in sizes.items())
            assert abs(times[group] - exact) < len(sizes) + 0.5


@settings(max_examples=60, deadline=None)
@given(COUNTS, KINDS, st.sampled_from(SORTINGS), TEMPERATURES, st.booleans(), st.integers(0, 30))
def test_resumed_equals_uninterrupted_with_draws(counts, kind, sorting, temperature, pure, done):
    groups, durations = corpus(counts)
    options = {**kind, "sorting": sorting, "groups": groups, "temperature": temperature}

    def make():
        return EpochBatchSampler(durations, **options, pure=pure, with_draws=True)

    def epochs(sampler, first, last):
        for epoch in range(first, last):
            sampler.set_epoch(epoch)
            for batch in sampler:
                sampler.advance()
                yield batch

    whole = list(epochs(make(), 0, 4))
    first = make()
    seen = list(itertools.islice(epochs(first, 0, 4), done))
    second = make()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert seen + list(epochs(second, second.epoch, 4)) == whole
    # A clip's draws count up over the run, whatever the order within an epoch.
    draws = sorted(pair for batch in whole for pair in batch)
    assert len(set(draws)) == len(draws)
    for clip, pairs in itertools.groupby(draws, lambda pair: pair[0]):
        assert [draw for _, draw in pairs] == list(range(sum(d[0] == clip for d in draws)))


def test_draws_without_groups_count_passes_and_epochs():
    sampler = EpochBatchSampler([1.0] * 5, batch_size=4, passes=2, with_draws=True)
    for epoch in range(3):
        pairs = sorted(itertools.chain(*epoch_of(sampler, epoch)))
        assert pairs == [(i, 2 * epoch + k) for i in range(5) for k in (0, 1)]
    plain = EpochBatchSampler([1.0] * 5, batch_size=4, passes=2)
    assert epoch_of(plain, 2) == [[i for i, _ in batch] for batch in epoch_of(sampler, 2)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(4, 60), min_size=1, max_size=6),
    KINDS,
    st.sampled_from(SORTINGS),
    TEMPERATURES,
    st.integers(1, 3),
    st.booleans(),
)
def test_two_ranks_are_one_process(counts, kind, sorting, temperature, world_size, pure):
    groups, durations = corpus(counts)

    def batches(**ranks):
        options = {"groups": groups, "temperature": temperature, "pure": pure}
        sampler = EpochBatchSampler(durations, **kind, sorting=sorting, **options, **ranks)
        return epoch_of(sampler, 2)

    whole = [sorted(batch) for batch in batches()]
    ranks = [batches(world_size=world_size, rank=rank) for rank in range(world_size)]
    assert all(batch for rank in ranks for batch in rank)
    union = [sorted(i for batch in step for i in batch) for step in zip(*ranks, strict=True)]
    assert sorted(itertools.chain(*union)) == sorted(itertools.chain(*whole))
    if all(len(batch) >= world_size for batch in whole):
        assert union == whole
    if pure:
        assert all(len({groups[i] for i in batch}) == 1 for batch in union)


@pytest.mark.parametrize("sorting", SORTINGS)
def test_pure_batches_have_one_group_and_all_clips(sorting):
    groups, durations = corpus([30, 7, 1])
    sampler = EpochBatchSampler(durations, 4, sorting=sorting, groups=groups, pure=True)
    batches = list(sampler)
    assert sorted(itertools.chain(*batches)) == list(range(38))
    assert len(batches) == 8 + 2 + 1
    order = [groups[batch[0]] for batch in batches]
    assert all(
        {groups[i] for i in batch} == {name} for batch, name in zip(batches, order, strict=True)
    )
    if sorting == "ascending":
        assert order == sorted(order)
        for name in set(order):
            flat = [durations[i] for batch in batches for i in batch if groups[i] == name]
            assert flat == sorted(flat)
    # one group only
    plain = EpochBatchSampler(durations, 4, sorting=sorting, pure=True)
    assert list(plain) == list(EpochBatchSampler(durations, 4, sorting=sorting))


def test_drop_last_leaves_out_of_each_group_its_share():
    groups, durations = corpus([70, 21])
    sampler = EpochBatchSampler(durations, 10, groups=groups, drop_last=True)
    batches = list(sampler)
    assert len(batches) == 9
    assert {Counter(groups[i] for i in batch)["g1"] for batch in batches} == {2, 3}


def test_blocks_keep_the_order_within_a_group():
    codes = np.array([0, 1, 0, 2, 0, 1, 0, 0, 1, 0, 2, 0, 0])
    places = spread(codes, [2, 5, 5, 1], torch.Generator().manual_seed(0))
    assert sorted(places.tolist()) == list(range(13))
    for code in range(3):
        assert (np.diff(places[codes[places] == code]) > 0).all()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"temperature": 5.0}, "temperature was 2.0, is 5.0"),
        ({"groups": ["a", "b"] * 10}, "groups_crc32 was"),
        ({"groups": None, "temperature": 1.0}, "temperature was 2.0, is None"),
    ],
)
def test_changed_balance_is_refused_within_an_epoch(change, name):
    options = {"batch_size": 4, "groups": ["a"] * 9 + ["b"] * 11, "temperature": 2.0}
    first = EpochBatchSampler([1.0] * 20, **options)
    first.advance()
    changed = EpochBatchSampler([1.0] * 20, **{**options, **change})
    with pytest.raises(UserError, match=name):
        changed.load_state_dict(first.state_dict())
    first.advance(4)
    changed.load_state_dict(first.state_dict())
    assert list(changed) == []


def test_states_from_before_groups_still_load():
    first = EpochBatchSampler([1.0] * 20, batch_size=4)
    first.advance()
    state = first.state_dict()
    assert set(state["key"]) == {
        *("batch_size", "max_batch_seconds", "sorting", "seed", "drop_last", "passes"),
        *("num_clips", "durations_crc32", "num_batches"),
    }
    # with_draws adds the numbers of draws and changes nothing else
    second = EpochBatchSampler([1.0] * 20, batch_size=4, with_draws=True)
    second.load_state_dict(state)
    assert [[i for i, _ in batch] for batch in second] == list(first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.5, "groups": ["a"] * 4}, "temperature=0.5: give 1 or more"),
        ({"temperature": math.nan, "groups": ["a"] * 4}, "temperature=nan: give 1 or more"),
        ({"temperature": 2.0}, "no groups to balance"),
        ({"groups": ["a"] * 3}, "3 of 4 clips have one"),
        ({"groups": ["a"] * 4, "pure": True, "drop_last": True}, "pure: drop_last"),
        ({"groups": [*"aaab"], "pure": True, "world_size": 2}, "group 'b' has 1 clips, fewer"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, message):
    with pytest.raises(UserError, match=message) as error:
        EpochBatchSampler([1.0] * 4, batch_size=4, **options)
    assert "\n" not in str(error.value)
