"""Bootstrap intervals of a set's figure, over its clips.

A figure is a ratio of sums, sum(value * weight) / sum(weight): clips are drawn with replacement,
and both sums are taken again (Efron's percentile interval). A clip is the unit: where a speaker
has several, the interval is a little too narrow for new speakers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from focalcodec.errors import UserError

RESAMPLES = 2000
_DRAWS_AT_ONCE = 1 << 22  # of int64: 32 MB
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A set's figure, its interval, and the number of clips that it is made of."""

    value: float
    low: float
    high: float
    count: int


def figure(
    values: Sequence[float],
    weights: Sequence[float],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Figure:
    """Weighted mean over clips with its bootstrap percentile interval.

    Parameters
    ----------
    values, weights : sequence of float
        One a clip; at least one weight above 0.
    seed : int
        Of the draws: the same seed and number of clips give the same draws.
    resamples : int
        Sets that are drawn.
    level : float
        Coverage of the interval.

    Returns
    -------
    Figure
        In the unit of the values.

    Raises
    ------
    UserError
        No clips, or all weights are 0.

    Example
    -------
    >>> figure([0.0, 0.5, 1.0], [10.0, 10.0, 20.0])
    Figure(value=0.625, low=0.0, high=1.0, count=3)
    """
    numerator, denominator = _sums(values, weights)
    drawn = [
        _ratio(numerator[rows], denominator[rows]) for rows in _draws(len(values), seed, resamples)
    ]
    low, high = _interval(np.concatenate(drawn), level)
    return Figure(float(numerator.sum() / denominator.sum()), low, high, len(values))


def paired_difference(
    first: tuple[Sequence[float], Sequence[float]],
    second: tuple[Sequence[float], Sequence[float]],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Figure:
    """Difference, first - second, of two figures of the same clips, with its interval.

    Both sides are taken from the same drawn clips, so what makes a clip hard for both cancels.

    Parameters
    ----------
    first, second : (values, weights)
        One a clip, in the same order.
    seed, resamples, level
        See `figure`.

    Returns
    -------
    Figure
        The difference; an interval without 0 shows that there is one.

    Raises
    ------
    UserError
        No clips, different numbers of them, or all weights are 0.

    Example
    -------
    >>> ones = [1.0] * 4
    >>> paired_difference(([3.0, 4.0, 5.0, 6.0], ones), ([2.0, 3.0, 4.0, 5.0], ones))
    Figure(value=1.0, low=1.0, high=1.0, count=4)
    """
    (a, a_weights), (b, b_weights) = _sums(*first), _sums(*second)
    if len(a) != len(b):
        raise UserError(f"{len(a)} clips against {len(b)}; compare the same clips")
    drawn = [
        _ratio(a[rows], a_weights[rows]) - _ratio(b[rows], b_weights[rows])
        for rows in _draws(len(a), seed, resamples)
    ]
    low, high = _interval(np.concatenate(drawn), level)
    value = a.sum() / a_weights.sum() - b.sum() / b_weights.sum()
    return Figure(float(value), low, high, len(a))


def _sums(values: Sequence[float], weights: Sequence[float]) -> tuple[Floats, Floats]:
    denominator = np.asarray(weights, dtype=np.float64)
    numerator = np.asarray(values, dtype=np.float64) * denominator
    if not denominator.sum() > 0:
        raise UserError("no clip with a weight above 0; there is no figure")
    return numerator, denominator


def _draws(clips: int, seed: int, resamples: int) -> Iterator[npt.NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // clips)
    for start in range(0, resamples, at_once):
        yield generator.integers(clips, size=(min(at_once, resamples - start), clips))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Ratios of the drawn sets; one whose weights are all 0 has none."""
    total = denominator.sum(axis=1)
    return np.divide(numerator.sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def _interval(drawn: Floats, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
