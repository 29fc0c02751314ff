"""Averages over the frames seen, whatever the batches and wherever the run was stopped."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.training.meters import Meters

entries = st.lists(st.tuples(st.floats(-100, 100), st.integers(1, 50)), min_size=1, max_size=20)


@given(entries, st.integers(0, 20))
def test_average_is_over_frames_and_survives_a_resume(values, cut) -> None:
    meters = Meters()
    for place, (total, count) in enumerate(values):
        if place == cut:
            state = json.loads(json.dumps(meters.state_dict()))
            meters = Meters()
            meters.load_state_dict(state)
        meters.add("loss", torch.tensor(total, dtype=torch.float64), count)
    expected = sum(total for total, _ in values) / sum(count for _, count in values)
    assert meters.averages()["loss"] == pytest.approx(expected, abs=1e-9)


def test_nothing_seen_is_not_zero() -> None:
    meters = Meters()
    meters.add("loss", 0.0, 0.0)
    assert meters.averages() == {}
    meters.add("loss", 1.0)
    meters.reset()
    assert meters.averages() == {}


def test_nan_is_not_hidden() -> None:
    meters = Meters()
    meters.add("loss", float("nan"))
    meters.add("loss", 1.0)
    assert meters.averages()["loss"] != meters.averages()["loss"]
