"""Curves of a training's history, also for groups of clips."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from focalcodec.errors import UserError
from focalcodec.evaluation.summary import column_title
from focalcodec.metrics.judge import Column
from focalcodec.training.figures import LOSS_KEY, Figures, Stats, significant
from focalcodec.training.pictures import BLUE, INK, MUTED, new_figure, plain_axes

GROUP_COLORS = (
    "#e8710a",
    "#2a9d4a",
    "#c73535",
    "#8250c4",
    "#8c5a3c",
    "#d64f9e",
    "#7a7d12",
    "#0f9aa8",
)
_STAGE_COLORS = {"train": MUTED, "valid": BLUE}
_STAGE_TITLES = {"train": "training", "valid": "validation"}
_SHARED = ("lr", "grad_norm")  # one panel for all optimisers
_NO_CURVE = ("toks",)  # the same in each epoch

Points: TypeAlias = "list[tuple[float, float]]"
Curves: TypeAlias = "dict[str, Points]"


def training_curves_figure(
    history: Sequence[Mapping[str, Any]],
    figures: Figures | None = None,
    before: Stats | None = None,
    title: str = "",
) -> Figure:
    """One panel for each quantity of a training's history.

    Parameters
    ----------
    history : sequence of mapping
        One for each epoch: its number `epoch`, learning rates, and the figures of each stage as a
        mapping. Training and validation share the panel of a quantity. Groups of validation clips,
        such as "valid-it" and "valid-de", have their losses in a separate panel. A figure may be
        absent from some epochs.
    figures : Figures, optional
        Names and units; the best epoch by its `watched` figure is marked.
    before : mapping, optional
        Figures of the validation before fine-tuning, as lines.
    title : str
        Heading of the figure.

    Raises
    ------
    UserError
        No entry has an epoch and another key.

    Example
    -------
    >>> history = [{"epoch": 1, "lr": 0.05, "train": {"loss": 2.0}, "valid": {"loss": 2.5}}]
    >>> [axes.get_title(loc="left") for axes in training_curves_figure(history).axes]
    ['loss ↓', 'learning rate']
    """
    figures = figures or Figures()
    panels, groups = _panels(history, figures)
    if not panels:
        raise UserError(f"history: none of {len(history)} entries has 'epoch' and another value")
    columns = min(3, len(panels))
    heights = [2.7] * -(-len(panels) // columns)
    if groups:
        heights.append(max(2.7, 0.8 + 0.17 * (1 + len(groups))))  # a line for each label
    figure = new_figure(4.2 * columns, sum(heights) + 0.3, title)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    epochs = [entry["epoch"] for entry in history if "epoch" in entry]
    best, colors = _best_epoch(history, figures.watched), _colors(panels)
    old = {figures.quantity(name, "valid"): value for name, value in (before or {}).items()}
    for index, (quantity, curves) in enumerate(panels.items()):
        ax = figure.add_subplot(grid[divmod(index, columns)])
        _panel(ax, curves, colors, old.get(quantity))
        _curve_axis(ax, figures.column(quantity, "train"), epochs)
        _mark_best(ax, best, curves, quantity == figures.quantity(figures.watched, "valid"))
        if ax.get_legend_handles_labels()[1]:
            ax.legend(frameon=False, fontsize=9, labelcolor=INK)
    if groups:
        ax = figure.add_subplot(grid[-1, :])
        whole = panels[figures.quantity(LOSS_KEY, "valid")]["valid"]
        column = figures.column(LOSS_KEY, "valid")
        title = f"{column.title} of each group, validation"
        _curve_axis(ax, replace(column, title=title), epochs)
        _group_curves(ax, groups, whole, heights[-1])
    return figure


def _colors(panels: Mapping[str, Curves]) -> dict[str, str]:
    """Colour of each curve; an optimiser has the same in all panels."""
    names = sorted({curve for curves in panels.values() for curve in curves} - {*_STAGE_COLORS})
    return _STAGE_COLORS | dict(zip(names, itertools.cycle((BLUE, *GROUP_COLORS))))


def _panels(
    history: Sequence[Mapping[str, Any]], figures: Figures
) -> tuple[dict[str, Curves], Curves]:
    """(Quantity -> curve -> points, group -> points of its validation loss)."""
    panels: dict[str, Curves] = {}
    groups: Curves = {}
    for entry in history:
        for stage, name, value in _values(entry) if "epoch" in entry else ():
            if name in _NO_CURVE:
                continue
            prefix, _, group = stage.partition("-")
            point = (entry["epoch"], value)
            if prefix == "valid" and group:
                if name == LOSS_KEY:
                    groups.setdefault(group, []).append(point)
                continue
            shared = next((key for key in _SHARED if name.startswith(f"{key}_")), "")
            curve = name.removeprefix(f"{shared}_") if shared else stage
            quantity = shared or figures.quantity(name, stage)
            panels.setdefault(quantity, {}).setdefault(curve, []).append(point)
    first = [name for name in (figures.quantity(figures.watched, "valid"),) if name in panels]
    last = [name for name in reversed(_SHARED) if name in panels]
    others = [name for name in panels if name not in (*first, *last)]
    return {name: panels[name] for name in (*first, *others, *last)}, groups


def _values(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield stage, name and value of each figure of an epoch; learning rates have no stage."""
    for key, value in entry.items():
        if isinstance(value, Mapping):
            for name, number in value.items():
                yield key, name, number
        elif key != "epoch":
            yield "", key, value


def _best_epoch(history: Sequence[Mapping[str, Any]], watched: str) -> float | None:
    values = [
        (entry["valid"][watched], entry["epoch"])
        for entry in history
        if "epoch" in entry and watched in entry.get("valid", {})
    ]
    # Of equal ones the last, as in the checkpointer.
    return min(values, key=lambda pair: (pair[0], -pair[1]))[1] if values else None


def _panel(ax: Axes, curves: Curves, colors: Mapping[str, str], before: float | None) -> None:
    for index, (name, points) in enumerate(sorted(curves.items())):
        ax.plot(
            *zip(*points, strict=True),
            color=colors[name],
            linewidth=1.8,
            # Learning rates are often equal: one must not hide the other.
            linestyle="--" if index and name not in _STAGE_COLORS else "-",
            marker="o" if len(points) <= 30 else None,
            markersize=3.5,
            label=_STAGE_TITLES.get(name, name),
        )
    values = [value for points in curves.values() for _, value in points]
    if before is not None:
        ax.axhline(before, color=BLUE, linewidth=1.2, linestyle=":", label="before fine-tuning")
        values.append(before)
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    # A difference in the fourth digit must not look like a large one.
    room = max(0.05 * (high - low), 0.002 * size) if high > low else 0.05 * size or 0.5
    ax.set_ylim(low - room, high + room)


def _mark_best(ax: Axes, best: float | None, curves: Curves, is_watched: bool) -> None:
    """Mark the best epoch with a line, and in the panel of the watched figure with a ring."""
    if best is None:
        return
    ax.axvline(best, color=MUTED, linewidth=0.9, linestyle="--", alpha=0.7, zorder=0)
    value = dict(curves.get("valid", ())).get(best)
    if is_watched and value is not None:
        ax.plot(
            [best],
            [value],
            marker="o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=BLUE,
            linestyle="none",
            label=f"best: epoch {best:g}, {significant(value)}",
        )


def _curve_axis(ax: Axes, column: Column, epochs: Sequence[float]) -> None:
    plain_axes(ax)
    title = column_title(vars(replace(column, unit="")))
    ax.set_title(title, loc="left", fontsize=11, color=INK)
    ax.set_xlabel("epoch", fontsize=9, color=INK)
    ax.set_ylabel(column.unit, fontsize=9, color=INK)
    ax.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    plain = ScalarFormatter(useOffset=False)  # no "1e-4+1.22" beside the axis
    plain.set_scientific(False)
    ax.yaxis.set_major_formatter(plain)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))


def _group_curves(ax: Axes, groups: Curves, whole: Points, inches: float) -> None:
    styles = [(color, style) for style in ("-", "--", ":") for color in GROUP_COLORS]
    looks = {name: (*styles[k % len(styles)], 1.1) for k, name in enumerate(sorted(groups))}
    curves, looks = {**groups, "all": whole}, {**looks, "all": (BLUE, "-", 1.8)}
    for name, (color, style, width) in looks.items():
        marker = "o" if len(curves[name]) == 1 else None
        xs, ys = zip(*curves[name], strict=True)
        ax.plot(xs, ys, color=color, linestyle=style, linewidth=width, marker=marker, markersize=4)
    low, high = _view(list(curves.values()))
    ax.set_ylim(low, high)
    epochs = [epoch for points in curves.values() for epoch, _ in points]
    first, last = min(epochs), max(epochs)
    ax.set_xlim(first if first < last else last - 0.9, last)
    # Labels at the ends of the curves are easier to read than a legend, if they do not overlap.
    names = sorted(looks, key=lambda name: curves[name][-1][1])
    ends = [(curves[name][-1][1] - low) / (high - low) for name in names]
    for name, height in zip(names, _apart(ends, gap=0.16 / (inches - 0.7)), strict=True):
        ax.annotate(
            f"{name}  {significant(curves[name][-1][1])}",
            xy=curves[name][-1],
            xytext=(1.03, height),
            textcoords="axes fraction",
            verticalalignment="center",
            fontsize=8.5,
            color=looks[name][0],
            fontweight="bold" if name == "all" else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": looks[name][0],
                "alpha": 0.5,
                "linewidth": 0.7,
                "relpos": (0.0, 0.5),
            },
        )


def _view(curves: Sequence[Points]) -> tuple[float, float]:
    """Limits for the later half of the curves; the steep fall at the start may be outside."""
    late = [y for points in curves for _, y in points[len(points) // 2 :]]
    low, high = min(late), max(late)
    span = (high - low) or abs(high) or 1.0
    top = max(y for points in curves for _, y in points)
    return low - 0.08 * span, min(top, high + span) + 0.08 * span


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move rising heights in 0..1 as little as possible, so that they are `gap` apart.

    Least squares in a fixed order: heights that are too close get their mean, plus the gaps.
    """
    clashes: list[list[float]] = []
    for k, height in enumerate(heights):
        clashes.append([height - k * gap])
        while len(clashes) > 1 and fmean(clashes[-2]) > fmean(clashes[-1]):
            clashes[-2:] = [clashes[-2] + clashes[-1]]
    room = max(0.0, 1.0 - gap * (len(heights) - 1))
    shared = [min(max(fmean(clash), 0.0), room) for clash in clashes for _ in clash]
    return [height + k * gap for k, height in enumerate(shared)]
