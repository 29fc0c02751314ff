"""Curves of a history: panels, stages, groups whose labels can be read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.training.curves import _apart, training_curves_figure
from focalcodec.training.figures import Figures


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
    history = [{"epoch": e, "valid": {f"q{i}": e / 2 for i in range(quantities)}} for e in (1, 2)]
    figure = training_curves_figure(history)
    assert [len(axes.lines) for axes in figure.axes] == [1] * quantities


def test_stages_share_a_panel_and_missing_values_are_left_out() -> None:
    first, second = {"train": {"loss": 3.0}}, {"train": {"loss": 2.0}, "valid": {"loss": 2.5}}
    (axes,) = training_curves_figure([{"epoch": 1, **first}, {"epoch": 2, **second}]).axes
    curves = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    assert (curves["training"], curves["validation"]) == ([1, 2], [2])
    assert curves["best: epoch 2, 2.50"] == [2]


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
    assert titles(figure) == ["loss ↓", "learning rate", "loss of each group, validation ↓"]
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


# -- what a reader sees ----------------------------------------------------------------------------

STAGE_2 = [
    {
        "epoch": epoch,
        "lr_generator": 1e-4,
        "lr_discriminator": 1e-4,
        "train": {"loss": 40.0, "mel_loss": 1.2199 + epoch * 1e-4, "grad_norm_generator": 3.0},
        "valid": {"loss": 1.2199 + epoch * 1e-4, "toks": 3028.0},
    }
    for epoch in (1, 2)
]


def test_only_the_same_quantity_shares_a_panel() -> None:
    figure = training_curves_figure(STAGE_2, Figures(valid_loss="mel_loss"))
    curves = {
        ax.get_title(loc="left"): [
            line.get_label() for line in ax.lines if line.get_label()[0] != "_"
        ]
        for ax in figure.axes
    }
    assert curves == {
        "mel distance ↓": ["training", "validation", "best: epoch 1, 1.22"],
        "loss ↓": ["training"],
        "norm of the gradient": ["generator"],
        "learning rate": ["discriminator", "generator"],
    }
    units = {ax.get_title(loc="left"): ax.get_ylabel() for ax in figure.axes}
    assert units["mel distance ↓"] == "ln"
    # An optimiser has the same colour in each panel.
    colors = [
        {line.get_color() for line in ax.lines if line.get_label() == "generator"}
        for ax in figure.axes[2:]
    ]
    assert colors[0] == colors[1]


@pytest.mark.parametrize("epochs", [1, 2])
def test_numbers_on_the_axes_are_plain(epochs: int) -> None:
    figure = training_curves_figure(STAGE_2[:epochs], Figures(valid_loss="mel_loss"))
    figure.canvas.draw()
    for ax in figure.axes:
        labels = [text.get_text().replace("\N{MINUS SIGN}", "-") for text in ax.get_yticklabels()]
        assert ax.yaxis.get_offset_text().get_text() == ""
        assert len(set(labels)) == len(labels) and all(map(float, labels))
        low, high = ax.get_ylim()
        assert 0 < high - low < 10 and low < float(ax.lines[0].get_ydata()[0]) < high
        assert all(float(text.get_text()).is_integer() for text in ax.get_xticklabels())


def test_figures_before_fine_tuning_are_a_line_in_the_panel_of_validation() -> None:
    figure = training_curves_figure(STAGE_2, Figures(valid_loss="mel_loss"), {"loss": 1.1})
    mel, *others = figure.axes
    (line,) = (line for line in mel.lines if line.get_label() == "before fine-tuning")
    assert set(line.get_ydata()) == {1.1} and mel.get_ylim()[0] < 1.1
    assert all(x.get_label() != "before fine-tuning" for ax in others for x in ax.lines)
