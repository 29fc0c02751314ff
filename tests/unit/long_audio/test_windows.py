"""Windows keep every frame once, each with its context."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec import UserError
from focalcodec.long_audio.coding import WindowPlan, cut_windows, plan_windows
from focalcodec.long_audio.receptive_field import Context


@given(
    length=st.integers(1, 200),
    block=st.integers(1, 50),
    left=st.integers(0, 8),
    right=st.integers(0, 8),
    kept=st.integers(1, 20),
)
def test_every_frame_once_with_its_context(
    length: int, block: int, left: int, right: int, kept: int
) -> None:
    plan = WindowPlan(left + kept + right, left, right)
    frames: list[int] = []
    for items, start, stop in cut_windows(torch.arange(length).split(block), plan):
        window = items.tolist()
        assert len(window) <= plan.size
        for frame in window[start:stop]:
            assert window[0] <= max(0, frame - left)
            assert window[-1] >= min(length - 1, frame + right)
            frames.append(frame)
    assert frames == list(range(length))


@given(length=st.integers(1, 300), align=st.integers(1, 5), per_frame=st.integers(1, 4))
def test_windows_begin_at_multiples(length: int, align: int, per_frame: int) -> None:
    plan = plan_windows(Context(3, 2, align), frame_rate=1.0, window_seconds=25.0)
    for items, start, stop in cut_windows([torch.arange(length)], plan, per_frame):
        assert int(items[0]) % (align * per_frame) == 0
        assert start % align == 0 and (stop is None or stop % align == 0)


def test_what_fits_is_one_window() -> None:
    plan = WindowPlan(10, 3, 3)
    (window,) = cut_windows(torch.arange(10).split(3), plan)
    assert window.items.tolist() == list(range(10)) and (window.start, window.stop) == (0, None)
    assert len(list(cut_windows([torch.arange(11)], plan))) == 2


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1.2, float("nan"), float("inf")])
def test_a_window_of_context_alone_is_refused(seconds: float) -> None:
    with pytest.raises(UserError, match="this model needs 1.2 s of context; give 2 or more"):
        plan_windows(Context(30, 30), frame_rate=50.0, window_seconds=seconds)
