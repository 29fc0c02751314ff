"""The map of codes, and the bars that say what the greys of a picture mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from focalcodec.report.listening import Picture, picture
from focalcodec.report.plots import Tick, log_ticks, plain
from focalcodec.report.run_folder import Ints

WIDTH = 300  # px, of a bar
NEVER = 24  # px, the part for codes that were never used


@dataclass(frozen=True)
class Scale:
    """A bar of greys, and numbers below it, in px."""

    bar: Picture
    ticks: tuple[Tick, ...]


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
    grid = counts.reshape(2 ** (bits // 2), -1).astype(np.float64)
    grey = np.where(grid > 0, _grey(grid, int(counts.max())), 255).astype(np.uint8)
    return picture(Image.fromarray(grey), "PNG", alt)


def code_scale(most: int) -> Scale:
    """Return the bar of `code_map`: never used, then from 1 to the largest count.

    Example
    -------
    >>> [tick.text for tick in code_scale(40).ticks]
    ['0', '1', '2', '5', '10', '20', '40']
    """
    counts = np.geomspace(1, most, WIDTH - NEVER)
    greys = np.concatenate([np.full(NEVER, 255), _grey(counts, most)])

    def place(count: float) -> float:
        share = math.log(count) / math.log(most) if most > 1 else 0.0
        return round(NEVER + share * (WIDTH - NEVER), 1)

    # The largest count replaces round numbers that are too near.
    rounds = [n for n in log_ticks(1, most) if n == int(n) and place(n) < WIDTH - 30 or n == 1]
    shown = [*rounds, *([most] if most > 1 else [])]
    ticks = [Tick(0, "0"), *(Tick(place(n), plain(n)) for n in shown)]
    return Scale(_bar(greys, f"Greys of 0 to {most:,} tokens"), tuple(ticks))


def loudness_scale(dynamic_range: float) -> Scale:
    """Return the bar of spectrograms, from `dynamic_range` dB below the loudest point to it."""
    greys = np.linspace(255, 0, WIDTH)
    ticks = [
        Tick(round(WIDTH * (1 + level / dynamic_range), 1), f"{level:.0f}".replace("-", "−"))
        for level in np.arange(-dynamic_range, 1, 10)
    ]
    return Scale(_bar(greys, f"Greys of {-dynamic_range:.0f} to 0 dB"), tuple(ticks))


def _grey(counts: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    # A code that was used once is darker than one that was never used.
    return 200 - np.round(200 * np.log1p(counts) / np.log1p(max(1, most)))


def _bar(greys: npt.NDArray[np.float64], alt: str) -> Picture:
    return picture(Image.fromarray(greys.astype(np.uint8)[None]), "PNG", alt)
