"""Curves of a training's history, also for groups of clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from focalcodec.errors import UserError
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

Points: TypeAlias = "list[tuple[float, float]]"
Curves: TypeAlias = "dict[str, Points]"


def training_curves_figure(
    history: Sequence[Mapping[str, Any]], x: str = "epoch", title: str = ""
) -> Figure:
    """One panel for each quantity of a training's history.

    Parameters
    ----------
    history : sequence of mapping
        One for each epoch: numbers, and the figures of each stage as a mapping. The stages share
        the panels: "loss" has the curves "train" and "valid". Groups of validation clips, such as
        "valid-it" and "valid-de", have their losses in a separate panel. A figure may be absent
        from some epochs.
    x : str
        Key of the horizontal axis.
    title : str
        Heading of the figure.

    Returns
    -------
    Figure

    Raises
    ------
    UserError
        No entry has `x` and another key.

    Example
    -------
    >>> history = [{"epoch": 1, "lr": 0.05, "train": {"loss": 2.0}, "valid": {"loss": 2.5}}]
    >>> [axes.get_title(loc="left") for axes in training_curves_figure(history).axes]
    ['lr', 'loss']
    """
    panels, groups = _panels(history, x)
    if not panels:
        raise UserError(f"history: none of {len(history)} entries has {x!r} and another value")
    columns = min(3, len(panels))
    heights = [2.7] * -(-len(panels) // columns)
    if groups:
        heights.append(max(2.7, 0.8 + 0.17 * (1 + len(groups))))  # a line for each label
    figure = new_figure(4.2 * columns, sum(heights) + 0.3, title)
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    places = [divmod(index, columns) for index in range(len(panels))]
    axes = {name: figure.add_subplot(grid[at]) for name, at in zip(panels, places, strict=True)}
    for name, ax in axes.items():
        for stage, points in panels[name].items():
            _curve(ax, points, stage)
        _curve_axis(ax, name.replace("_", " "), x)
        if len(panels[name]) > 1:
            ax.legend(frameon=False, fontsize=9, labelcolor=INK)
    if groups:
        ax = figure.add_subplot(grid[-1, :])
        _group_curves(ax, groups, panels["loss"]["valid"], heights[-1])
        _curve_axis(ax, "validation loss of each group", x)
    return figure


def _panels(history: Sequence[Mapping[str, Any]], x: str) -> tuple[dict[str, Curves], Curves]:
    """(Quantity -> stage -> points, group -> points of its validation loss)."""
    panels: dict[str, Curves] = {}
    groups: Curves = {}
    for entry in history:
        for key, value in entry.items() if x in entry else ():
            prefix, _, group = key.partition("-")
            if isinstance(value, Mapping) and prefix == "valid" and group:
                if "loss" in value:
                    groups.setdefault(group, []).append((entry[x], value["loss"]))
                continue
            figures, stage = (value, key) if isinstance(value, Mapping) else ({key: value}, "")
            for name, number in figures.items():
                if name != x:
                    panels.setdefault(name, {}).setdefault(stage, []).append((entry[x], number))
    return panels, groups


def _curve(ax: Axes, points: Points, stage: str) -> None:
    ax.plot(
        *zip(*points, strict=True),
        color=MUTED if stage == "train" else BLUE,
        linewidth=1.8,
        marker="o" if len(points) <= 30 else None,
        markersize=3.5,
        label=stage,
    )


def _curve_axis(ax: Axes, title: str, x: str) -> None:
    plain_axes(ax)
    ax.set_title(title, loc="left", fontsize=11, color=INK)
    ax.set_xlabel(x)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
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
    ax.margins(x=0.0)
    # Labels at the ends of the curves are easier to read than a legend, if they do not overlap.
    names = sorted(looks, key=lambda name: curves[name][-1][1])
    ends = [(curves[name][-1][1] - low) / (high - low) for name in names]
    for name, height in zip(names, _apart(ends, gap=0.16 / (inches - 0.7)), strict=True):
        ax.annotate(
            f"{name}  {curves[name][-1][1]:.3g}",
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
