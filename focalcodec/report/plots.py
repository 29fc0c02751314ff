"""Geometry of the plots, which the template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from focalcodec.report.run_folder import Ints

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 404, 26, 262
CHARACTER = 6.4  # px, mean width at the labels' size of 11 px
LINE = 12  # px
MOST_CHARACTERS = 24  # of a name
LEAST_SPAN = 0.02  # of the largest value: a smaller difference is not worth an axis


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
    about: str
    """Name and value, for a tooltip."""


@dataclass(frozen=True)
class Level:
    """A line across the plot, of a codec without a bitrate: y in px, and its name."""

    at: float
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
    lines: tuple[Level, ...] = ()
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
    labels = place_labels([_short(p.name) for p in sent], places, bars)
    taken = _occupied(places, bars) + [_box(label) for label in labels]
    return Plot(
        alt=alt,
        x_title="bitrate, kbit/s, logarithmic scale",
        y_title=y_title,
        x_ticks=tuple(
            Tick(x_axis(rate), f"{rate:g}")
            for rate in log_ticks(min(rates) / 1.35, max(rates) * 1.35)
        ),
        y_ticks=_y_ticks(steps, y_axis),
        marks=tuple(
            Mark(x, y, y_axis(p.low), y_axis(p.high), p.ours, label, f"{p.name}: {p.value:.4g}")
            for p, (x, y), label in zip(sent, places, labels, strict=True)
        ),
        lines=tuple(_level(_short(p.name), y_axis(p.value), taken) for p in points if not p.kbps),
    )


def rank_plot(counts: Ints, alt: str) -> Plot:
    """Plot counts (K,) of the tokens of each code as a staircase, most used code first.

    At least one count must be above 0; the scale is logarithmic.

    Example
    -------
    >>> rank_plot(np.array([3, 0, 1, 1]), "four codes").path
    'M50 262V54.6H138.5V227H315.5V262Z'
    """
    seen = np.sort(counts[counts > 0])[::-1]
    most = int(seen[0])
    # Few codes of a large codebook would be a line at the edge.
    few = 4 * len(seen) < counts.size
    steps = nice_ticks(0, len(seen) if few else counts.size)
    x_axis = Axis(0, steps[-1] if few else counts.size, LEFT, RIGHT)
    y_axis = Axis(0.8, most * 1.2, BOTTOM, TOP, log=True)
    path = f"M{LEFT} {BOTTOM}"
    for count in sorted(set(seen.tolist()), reverse=True):
        path += f"V{y_axis(count):g}H{x_axis(int((seen >= count).sum())):g}"
    return Plot(
        alt=alt,
        x_title="rank of the code, most used first",
        y_title="tokens of a code, logarithmic scale",
        x_ticks=tuple(Tick(x_axis(n), plain(n)) for n in steps if n <= counts.size and n == int(n)),
        y_ticks=tuple(Tick(y_axis(n), plain(n)) for n in log_ticks(1, most) if n == int(n)),
        path=f"{path}V{BOTTOM}Z",
    )


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return evenly spaced round numbers, the first at most `low`, the last at least `high`.

    They are wide enough apart for plain numbers: equal values do not fill the axis.

    Example
    -------
    >>> nice_ticks(2.3, 7.9)
    [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    """
    least = LEAST_SPAN * max(abs(low), abs(high)) or 1.0
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first, last = math.floor(low / step + 1e-4), math.ceil(high / step - 1e-4)
    return [round(n * step, 10) for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high (above 0) for a logarithmic axis, 3 to 8 if possible.

    Example
    -------
    >>> log_ticks(0.4, 7.0), log_ticks(0.48, 0.88), log_ticks(1, 100000)
    ([0.5, 1.0, 2.0, 5.0], [0.5, 0.6, 0.7, 0.8], [1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0])
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1,), (1, 2, 5), (1, 1.5, *range(2, 10))):
        finer = [float(f"{m}e{e}") for e in exponents for m in digits]
        finer = [tick for tick in finer if low <= tick <= high]
        if ticks and len(finer) > 8:
            break
        ticks = finer
        if len(ticks) > 3:
            break
    return ticks


def plain(value: float) -> str:
    """Return a whole number for an axis, at most six characters.

    Example
    -------
    >>> plain(8192), plain(50_000), plain(2_000_000)
    ('8,192', '50 k', '2 M')
    """
    for size, unit in ((10**6, "M"), (10**4, "k")):
        if value >= size:
            return f"{value / (10**6 if unit == 'M' else 10**3):g} {unit}"
    return f"{value:,.0f}"


def axis_title(title: str, unit: str) -> str:
    """Return the title of a judge's axis: the quantity and its unit.

    Example
    -------
    >>> axis_title("dWER, Whisper base", "%"), axis_title("STOI", "")
    ('dWER, %', 'STOI')
    """
    return f"{quantity(title)}, {unit}" if unit else quantity(title)


def quantity(title: str) -> str:
    """Return what a column measures, without its judge.

    Example
    -------
    >>> quantity("dWER, Whisper base")
    'dWER'
    """
    return title.split(",")[0]


def place_labels(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    bars: Sequence[tuple[float, float, float]] = (),
) -> tuple[Label, ...]:
    """Place labels beside points (x, y) so that they cover no point, bar or label.

    Bars are intervals (x, top, bottom) in px. The first names choose their place first; a label
    without a free place is empty.

    Example
    -------
    >>> [label.anchor for label in place_labels(["a", "opus"], [(60, 100), (400, 100)])]
    ['start', 'end']
    """
    taken = _occupied(places, bars)
    labels = []
    # Greedy: each label takes the first free place, the nearest places first.
    for name, (x, y) in zip(names, places, strict=True):
        choices = []
        for rise in (0, -13, 13, -26, 26, -39, 39, -52, 52, -65, 65, -78, 78):
            out = 8 if abs(rise) < 20 else 18
            choices.append(Label(name, x + out, y + rise + 4, "start", abs(rise) > 13))
            choices.append(Label(name, x - out, y + rise + 4, "end", abs(rise) > 13))
        labels.append(_first_free(choices, taken) or Label("", x, y, "start"))
        taken.append(_box(labels[-1]))
    return tuple(labels)


Box = tuple[float, float, float, float]


def _occupied(
    places: Sequence[tuple[float, float]], bars: Sequence[tuple[float, float, float]]
) -> list[Box]:
    points = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    return points + [(x - 2, top, x + 2, bottom) for x, top, bottom in bars]


def _first_free(choices: Sequence[Label], taken: Sequence[Box]) -> Label | None:
    """Return the first label within the plot that covers nothing; None if there is none."""
    for label in choices:
        box = _box(label)
        if _inside(box) and not any(_overlap(box, other) for other in taken):
            return label
    return None


def _level(name: str, at: float, taken: Sequence[Box]) -> Level:
    """Return a line across the plot with its name above or below, where nothing is covered."""
    places = [
        Label(name, x, at + rise, "start") for rise in (-4, 13) for x in range(LEFT + 4, RIGHT, 25)
    ]
    return Level(at, _first_free(places, taken) or places[0])


def _short(name: str) -> str:
    return name if len(name) <= MOST_CHARACTERS else f"{name[: MOST_CHARACTERS - 1]}…"


def _box(label: Label) -> Box:
    width = CHARACTER * len(label.text)
    start = label.x if label.anchor == "start" else label.x - width
    return start, label.y - LINE + 2, start + width, label.y + 2


def _inside(box: Box) -> bool:
    return box[0] > LEFT and box[2] < WIDTH and box[1] > LINE and box[3] < BOTTOM


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _y_ticks(steps: Sequence[float], axis: Axis) -> tuple[Tick, ...]:
    decimals = max(0, -math.floor(math.log10(steps[1] - steps[0]) + 1e-9))
    return tuple(
        Tick(axis(step), f"{step:.{decimals}f}" if abs(step) < 10**4 else plain(step))
        for step in steps
    )
