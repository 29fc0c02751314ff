"""95 % intervals of a set's figures over its speakers or its clips.

A figure is a ratio of sums, sum(value * weight) / sum(weight). Its interval is Efron's percentile
bootstrap: speakers, or clips, are drawn with replacement, and both sums are computed for each draw.
A speaker is drawn with all its clips, because they are alike: the interval is valid for new
speakers. With fewer than `LEAST_SPEAKERS`, or if the speaker of a clip is unknown, clips are drawn,
and the interval is too narrow for new speakers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from focalcodec.choices import RESAMPLES
from focalcodec.errors import UserError

LEAST_SPEAKERS = 8
_DRAWS_AT_ONCE = 1 << 22  # numbers of int64: 32 MB
_NORMAL_95 = 1.96
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """Value of a figure, its interval, and the number of clips."""

    value: float
    low: float
    high: float
    count: int
    speakers: int = 0
    """Number of speakers, if these were drawn; 0: clips were drawn."""


def figure(
    values: Sequence[float],
    weights: Sequence[float],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    speakers: Sequence[str] = (),
) -> Figure:
    """Weighted mean over clips with its bootstrap percentile interval, in the unit of the values.

    Parameters
    ----------
    values, weights : sequence of float
        One for each clip; at least one weight above 0, otherwise UserError.
    seed : int
        The same seed and number of clips give the same draws.
    resamples : int
        Number of draws.
    level : float
        Coverage of the interval.
    speakers : sequence of str
        That of each clip, or "" if it is unknown; may be empty.

    Example
    -------
    >>> figure([0.0, 0.5, 1.0], [10.0, 10.0, 20.0])
    Figure(value=0.625, low=0.0, high=1.0, count=3, speakers=0)
    """
    count = drawn_speakers(speakers)
    numerator, denominator = _sums(values, weights, speakers if count else ())
    drawn = [
        _ratio(numerator[rows], denominator[rows])
        for rows in _draws(len(numerator), seed, resamples)
    ]
    made = (float(numerator.sum() / denominator.sum()), *_interval(np.concatenate(drawn), level))
    # A mean is within its values, also after rounding: no share passes 100 %.
    value, low, high = (min(max(x, min(values)), max(values)) for x in made)
    return Figure(value, low, high, len(values), count)


def paired_difference(
    first: tuple[Sequence[float], Sequence[float]],
    second: tuple[Sequence[float], Sequence[float]],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    speakers: Sequence[str] = (),
) -> Figure:
    """Difference, first - second, of two figures of the same clips, with its interval.

    Both sides use the same draws, so the difficulty of a clip cancels. An interval without 0 shows
    that there is a difference.

    Parameters
    ----------
    first, second : (values, weights)
        One value and weight for each clip, in the same order.
    seed, resamples, level, speakers
        See `figure`.

    Raises
    ------
    UserError
        No clips, different numbers of clips, or all weights are 0.

    Example
    -------
    >>> ones = [1.0] * 4
    >>> paired_difference(([3.0, 4.0, 5.0, 6.0], ones), ([2.0, 3.0, 4.0, 5.0], ones))
    Figure(value=1.0, low=1.0, high=1.0, count=4, speakers=0)
    """
    clips, others = len(first[0]), len(second[0])
    if clips != others:
        raise UserError(f"{clips} clips against {others}; compare the same clips")
    count = drawn_speakers(speakers)
    units = speakers if count else ()
    (a, a_weights), (b, b_weights) = _sums(*first, units), _sums(*second, units)
    drawn = [
        _ratio(a[rows], a_weights[rows]) - _ratio(b[rows], b_weights[rows])
        for rows in _draws(len(a), seed, resamples)
    ]
    low, high = _interval(np.concatenate(drawn), level)
    value = a.sum() / a_weights.sum() - b.sum() / b_weights.sum()
    return Figure(float(value), low, high, clips, count)


def drawn_speakers(speakers: Sequence[str]) -> int:
    """Return the number of speakers if intervals are over them, 0 if they are over clips.

    Example
    -------
    >>> drawn_speakers(list("abcdefgha")), drawn_speakers(["a", "b"]), drawn_speakers([""] * 9)
    (8, 0, 0)
    """
    known = len(set(speakers)) if all(speakers) else 0
    return known if known >= LEAST_SPEAKERS else 0


def jackknife(value: float, without: Sequence[float]) -> tuple[float, float]:
    """95 % interval (value -/+ 1.96 standard errors) of a figure that counts different codes.

    A bootstrap draws some clips twice; these show no new codes, so it would find too few. The
    jackknife leaves out one clip (or group) at a time: `without` has the figures without each, two
    or more. Source: Heltshe and Forrester, "Estimating species richness using the jackknife
    procedure", Biometrics 39, 1983.

    Example
    -------
    >>> low, high = jackknife(2.0, [2.5, 2.0, 1.5])  # of the mean of 1, 2 and 3
    >>> round(low, 2), round(high, 2)
    (0.87, 3.13)
    """
    count = len(without)
    mean = sum(without) / count
    variance = (count - 1) / count * sum((other - mean) ** 2 for other in without)
    margin = _NORMAL_95 * math.sqrt(variance)
    return value - margin, value + margin


def _sums(
    values: Sequence[float], weights: Sequence[float], units: Sequence[str]
) -> tuple[Floats, Floats]:
    """Sums of value * weight and of weight, of each unit (a speaker), or of each clip."""
    denominator = np.asarray(weights, dtype=np.float64)
    numerator = np.asarray(values, dtype=np.float64) * denominator
    if not denominator.sum() > 0:
        raise UserError("no clip with a weight above 0; there is no figure")
    if not units:
        return numerator, denominator
    names, rows = np.unique(np.asarray(units), return_inverse=True)
    sums = np.zeros((2, len(names)))
    np.add.at(sums[0], rows, numerator)
    np.add.at(sums[1], rows, denominator)
    return sums[0], sums[1]


def _draws(units: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield indices of drawn units, (draws, units), in parts that fit into memory."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // units)
    for start in range(0, resamples, at_once):
        yield generator.integers(units, size=(min(at_once, resamples - start), units))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the figure of each draw; NaN if all weights of a draw are 0."""
    total = denominator.sum(axis=1)
    return np.divide(numerator.sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def _interval(drawn: Floats, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
