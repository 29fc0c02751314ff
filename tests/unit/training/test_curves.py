"""Curves of a history: panels, stages, groups whose labels can be read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.training.curves import _apart, training_curves_figure


def history_of(groups: list[str], epochs: int) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "lr": 0.1, "train": {"loss": 1.0 / epoch}, "valid": {"loss": 1.1 / epoch}}
        | {f"valid-{g}": {"loss": (1 + k) / epoch, "toks": 1.0} for k, g in enumerate(groups)}
        for epoch in range(1, epochs + 1)
    ]


def titles(figure: Any) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


@pytest.mark.parametrize("quantities", [1, 2, 3, 4, 5, 7])
def test_each_quantity_has_one_panel_and_no_panel_is_empty(quantities) -> None:
    history = [{"epoch": e, **{f"q{i}": float(e) for i in range(quantities)}} for e in (1, 2)]
    figure = training_curves_figure(history)
    assert [len(axes.lines) for axes in figure.axes] == [1] * quantities


def test_stages_share_a_panel_and_missing_values_are_left_out() -> None:
    first, second = {"train": {"loss": 3.0}}, {"train": {"loss": 2.0}, "valid": {"loss": 2.5}}
    (axes,) = training_curves_figure([{"epoch": 1, **first}, {"epoch": 2, **second}]).axes
    assert {line.get_label(): list(line.get_xdata()) for line in axes.lines} == {
        "train": [1, 2],
        "valid": [2],
    }


@pytest.mark.parametrize("history", [[], [{"epoch": 1}], [{"lr": 0.1}]])
def test_no_figures_are_refused(history) -> None:
    with pytest.raises(UserError, match=f"none of {len(history)} entries has 'epoch' and another"):
        training_curves_figure(history)


@pytest.mark.parametrize("epochs", [1, 2, 20])
@pytest.mark.parametrize(
    "groups", [["it"], ["a_b-c", "de", "x" * 40], [f"g{k}" for k in range(30)]]
)
def test_losses_of_groups_have_a_panel_with_a_label_each(groups, epochs) -> None:
    figure = training_curves_figure(history_of(groups, epochs))
    assert titles(figure) == ["lr", "loss", "validation loss of each group"]
    axes = figure.axes[-1]
    assert len(axes.lines) == len(groups) + 1
    labels = [text.get_text().rsplit("  ", 1)[0] for text in axes.texts]
    assert sorted(labels) == sorted([*groups, "all"])
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == min(len(groups), 24) + 1


def test_group_that_starts_later_has_its_own_epochs() -> None:
    history = history_of([], 1) + [entry | {"epoch": 2} for entry in history_of(["it"], 1)]
    axes = training_curves_figure(history).axes[-1]
    assert [list(line.get_xdata()) for line in axes.lines] == [[2], [1, 2]]


@pytest.mark.parametrize("losses", [[0.5, 0.5], [0.0, 0.0], [-0.5, -0.9]])
def test_constant_and_negative_losses_are_visible(losses) -> None:
    history = [
        {"epoch": k, "valid": {"loss": loss}, "valid-it": {"loss": loss}}
        for k, loss in enumerate(losses)
    ]
    low, high = training_curves_figure(history).axes[-1].get_ylim()
    assert all(low < loss < high for loss in losses)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_labels_keep_order_and_distance_within_the_axes(heights) -> None:
    heights.sort()
    placed = _apart(heights, gap=0.05)
    assert all(later - earlier > 0.05 - 1e-9 for earlier, later in pairwise(placed))
    assert placed[0] >= 0 and placed[-1] <= 1 + 1e-9


def test_labels_with_room_stay_where_they_are() -> None:
    assert _apart([0.1, 0.5, 0.9], gap=0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert _apart([0.5, 0.5], gap=0.1) == pytest.approx([0.45, 0.55])
