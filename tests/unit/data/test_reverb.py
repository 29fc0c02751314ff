"""Rooms: the same for a seed, and as reverberant as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from focalcodec.data.reverb import EARLY_SECONDS, RoomPool
from tests.unit.data.voices import RATE


@pytest.fixture(scope="module")
def pool() -> RoomPool:
    return RoomPool(rooms=6, places=2, sample_rate=RATE, seed=3)


def reverberation_seconds(whole: np.ndarray) -> float:
    """RT60 from the decay between -5 and -20 dB (Schroeder)."""
    energy = np.cumsum(whole[::-1] ** 2)[::-1]
    decay = 10 * np.log10(energy / energy[0])
    start, stop = (int(np.argmax(decay < level)) for level in (-5, -20))
    return 4 * (stop - start) / RATE


def test_rooms_are_the_same_in_any_order(pool: RoomPool) -> None:
    other = RoomPool(rooms=6, places=2, sample_rate=RATE, seed=3)
    for index in (2, 0):
        for one, two in zip(other.room(index), pool.room(index), strict=True):
            assert np.array_equal(one.whole, two.whole)
    seeded = RoomPool(rooms=6, places=2, sample_rate=RATE, seed=4)
    assert not np.array_equal(seeded.room(0)[0].whole[:2000], pool.room(0)[0].whole[:2000])
    assert pool.room(1) is pool.room(1), "kept"


def test_direct_path_leads_and_early_part_is_a_part(pool: RoomPool) -> None:
    for index in range(pool.rooms):
        for response in pool.room(index):
            early = len(response.early)
            assert early == response.lead + int(EARLY_SECONDS * RATE)
            assert np.array_equal(response.whole[:early], response.early)
            assert np.sum(response.early**2) == pytest.approx(1.0)
            direct = np.abs(response.whole[response.lead - 1 : response.lead + 2]).max()
            before = np.abs(response.whole[: response.lead - 30]).max()
            assert direct > 0.2 and before < 0.05 * direct


def test_rooms_are_as_reverberant_as_rooms_are(pool: RoomPool) -> None:
    found = [reverberation_seconds(r.whole) for k in range(pool.rooms) for r in pool.room(k)]
    assert 0.1 < min(found) and max(found) < 0.9 and max(found) - min(found) > 0.1


def test_draws_reach_every_room(pool: RoomPool) -> None:
    rng = np.random.default_rng(0)
    drawn = {id(pool.draw(rng)) for _ in range(60)}
    assert len(drawn) == pool.rooms
