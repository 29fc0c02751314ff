"""Geometry of the plots, which the template draws as SVG, and the map of codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from focalcodec.report.listening import Picture, picture
from focalcodec.report.run_folder import Ints

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 404, 14, 262
CHARACTER = 6.4  # px, mean width at the labels' size of 11 px
LINE = 12  # px


@dataclass(frozen=True)
class Point:
    """A codec at its bitrate; without a bitrate (`kbps` None) it is a line across the plot."""

    name: str
    kbps: float | None
    value: float
    low: float
    high: float
    ours: bool = False


@dataclass(frozen=True)
class Tick:
    """A position on an axis in px, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Label:
    """Text beside a point: its start (or end) in px, and whether a thin line connects them."""

    text: str
    x: float
    y: float
    anchor: str
    leader: bool = False


@dataclass(frozen=True)
class Mark:
    """A point with its interval in px."""

    x: float
    y: float
    low: float
    high: float
    ours: bool
    label: Label


@dataclass(frozen=True)
class Plot:
    """Content of a plot; `lines` are horizontal, `path` is the outline of a curve."""

    alt: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...] = ()
    lines: tuple[Tick, ...] = ()
    path: str = ""


class Axis:
    """Linear or logarithmic map from numbers to px.

    Example
    -------
    >>> Axis(0.1, 10.0, 0, 100, log=True)(1.0)
    50.0
    """

    def __init__(self, low: float, high: float, start: float, end: float, log: bool = False):
        self._log = log
        self._low, self._high = self._scaled(low), self._scaled(high)
        self._start, self._end = start, end

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._log else value

    def __call__(self, value: float) -> float:
        """Return the position of a number in px, rounded to a tenth."""
        share = (self._scaled(value) - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)


def rate_plot(points: Sequence[Point], y_title: str, alt: str) -> Plot | None:
    """Plot a judge's figures on one set against bitrate; None without two codecs with a bitrate.

    Example
    -------
    >>> points = [Point("a", 0.5, 3.0, 2.9, 3.1), Point("b", 6.0, 4.0, 3.9, 4.1)]
    >>> [tick.text for tick in rate_plot(points, "MOS", "two codecs").x_ticks]
    ['0.5', '1', '2', '5']
    """
    rates = [point.kbps for point in points if point.kbps]
    if len(rates) < 2:
        return None
    x_axis = Axis(min(rates) / 1.35, max(rates) * 1.35, LEFT, RIGHT, log=True)
    steps = nice_ticks(min(p.low for p in points), max(p.high for p in points))
    y_axis = Axis(steps[0], steps[-1], BOTTOM, TOP)
    sent = sorted((p for p in points if p.kbps), key=lambda p: (not p.ours, p.kbps or 0))
    places = [(x_axis(p.kbps or 1.0), y_axis(p.value)) for p in sent]
    bars = [(x, y_axis(p.high), y_axis(p.low)) for p, (x, _) in zip(sent, places, strict=True)]
    labels = place_labels([p.name for p in sent], places, bars)
    return Plot(
        alt=alt,
        x_title="kbit/s, as sent",
        y_title=y_title,
        x_ticks=tuple(
            Tick(x_axis(rate), f"{rate:g}")
            for rate in (m * 10.0**e for e in range(-2, 4) for m in (1, 2, 5))
            if min(rates) / 1.35 <= rate <= max(rates) * 1.35
        ),
        y_ticks=_y_ticks(steps, y_axis),
        marks=tuple(
            Mark(x, y, y_axis(p.low), y_axis(p.high), p.ours, label)
            for p, (x, y), label in zip(sent, places, labels, strict=True)
        ),
        lines=tuple(Tick(y_axis(p.value), p.name) for p in points if not p.kbps),
    )


def rank_plot(counts: Ints, alt: str) -> Plot:
    """Plot counts (K,) of the tokens of each code as a staircase, most used code first.

    At least one count must be above 0; the scale is logarithmic.

    Example
    -------
    >>> rank_plot(np.array([3, 0, 1, 1]), "four codes").path
    'M46 262V44.1H135.5V225.2H314.5V262Z'
    """
    seen = np.sort(counts[counts > 0])[::-1]
    most = int(seen[0])
    x_axis = Axis(0, counts.size, LEFT, RIGHT)
    y_axis = Axis(0.8, most * 1.2, BOTTOM, TOP, log=True)
    path = f"M{LEFT} {BOTTOM}"
    for count in sorted(set(seen.tolist()), reverse=True):
        path += f"V{y_axis(count):g}H{x_axis(int((seen >= count).sum())):g}"
    steps = nice_ticks(0, counts.size)
    return Plot(
        alt=alt,
        x_title="codes, most used first",
        y_title="tokens",
        x_ticks=tuple(Tick(x_axis(n), f"{n:,.0f}") for n in steps if n <= counts.size),
        y_ticks=tuple(
            Tick(y_axis(n), f"{n:,}")
            for n in (m * 10**e for e in range(7) for m in (1, 2, 5))
            if n <= most
        ),
        path=f"{path}V{BOTTOM}Z",
    )


def code_map(counts: Ints, alt: str) -> Picture:
    """Draw counts (2^L,) as PNG, one pixel for each code: first bits down, last bits across.

    White codes were never used, the most used is black, on a logarithmic scale.

    Example
    -------
    >>> picture = code_map(np.array([0, 1, 2, 9, 0, 0, 0, 1]), "eight codes")
    >>> picture.width, picture.height
    (4, 2)
    """
    bits = counts.size.bit_length() - 1
    grid = counts.reshape(2 ** (bits // 2), -1)
    shade = np.log1p(grid) / np.log1p(max(1, int(counts.max())))
    # A code that was used once is darker than one that was never used.
    grey = np.where(grid > 0, 200 - np.round(200 * shade), 255).astype(np.uint8)
    return picture(Image.fromarray(grey), "PNG", alt)


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return evenly spaced round numbers, the first at most `low`, the last at least `high`.

    Example
    -------
    >>> nice_ticks(2.3, 7.9)
    [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    """
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def place_labels(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    bars: Sequence[tuple[float, float, float]] = (),
) -> tuple[Label, ...]:
    """Place labels beside points (x, y) so that they cover no point, bar or label, if possible.

    Bars are intervals (x, top, bottom) in px. The first names choose their place first.

    Example
    -------
    >>> [label.anchor for label in place_labels(["a", "opus"], [(60, 100), (400, 100)])]
    ['start', 'end']
    """
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    taken += [(x - 2, top, x + 2, bottom) for x, top, bottom in bars]
    labels = []
    # Greedy: each label takes the first free place, the nearest places first.
    for name, (x, y) in zip(names, places, strict=True):
        width = CHARACTER * len(name)
        choices = []
        for rise in (0, -13, 13, -26, 26, -39, 39, -52, 52, -65, 65, -78, 78):
            out = 8 if abs(rise) < 20 else 18
            choices.append(Label(name, x + out, y + rise + 4, "start", abs(rise) > 13))
            choices.append(Label(name, x - out, y + rise + 4, "end", abs(rise) > 13))
        boxes = [_box(label, width) for label in choices]
        fit = [
            index
            for index, box in enumerate(boxes)
            if _inside(box) and not any(_overlap(box, other) for other in taken)
        ]
        chosen = fit[0] if fit else next((i for i, box in enumerate(boxes) if _inside(box)), 0)
        taken.append(boxes[chosen])
        labels.append(choices[chosen])
    return tuple(labels)


Box = tuple[float, float, float, float]


def _box(label: Label, width: float) -> Box:
    start = label.x if label.anchor == "start" else label.x - width
    return start, label.y - LINE + 2, start + width, label.y + 2


def _inside(box: Box) -> bool:
    return box[0] > LEFT and box[2] < WIDTH and box[1] > 0 and box[3] < BOTTOM


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _y_ticks(steps: Sequence[float], axis: Axis) -> tuple[Tick, ...]:
    decimals = max(0, -math.floor(math.log10(steps[1] - steps[0]) + 1e-9))
    return tuple(Tick(axis(step), f"{step:.{decimals}f}") for step in steps)
