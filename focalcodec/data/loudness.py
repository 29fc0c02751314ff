"""Loudness of a signal, ITU-R BS.1770, and gains that set it."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from focalcodec.data.clip_pool import Signal
from focalcodec.data.noise import INSTALL
from focalcodec.metrics.packages import need

_BLOCK_SECONDS = 0.4  # of the measure; a shorter signal has no block


@functools.cache
def _meter(sample_rate: int) -> Any:
    return need("pyloudnorm", INSTALL).Meter(sample_rate, block_size=_BLOCK_SECONDS)


def measure_loudness(sig: Signal, sample_rate: int) -> float:
    """Integrated loudness in LUFS; minus infinity for silence.

    Parameters
    ----------
    sig : array
        (T,); one shorter than 0.4 s is measured as if it were repeated.
    sample_rate : int
        Hz.

    Returns
    -------
    float
        LUFS.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    >>> round(measure_loudness(tone, 16000), 1), round(measure_loudness(tone / 10, 16000), 1)
    (-3.1, -23.1)
    """
    shortest = math.ceil(_BLOCK_SECONDS * sample_rate)
    if len(sig) < shortest:
        sig = np.resize(sig, shortest)
    with np.errstate(divide="ignore"):
        return float(_meter(sample_rate).integrated_loudness(sig))


def set_loudness(sig: Signal, sample_rate: int, wanted: float, peak: float = 0.9) -> float:
    """Gain that brings a signal to a loudness, or, where it would clip, to a peak.

    Parameters
    ----------
    sig : array
        (T,).
    sample_rate : int
        Hz.
    wanted : float
        LUFS.
    peak : float
        Taken instead where the gain would bring the signal to 1 or above.

    Returns
    -------
    float
        Factor; 1 for silence.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    >>> round(set_loudness(tone, 16000, -23.0), 2), round(set_loudness(tone, 16000, 0.0), 2)
    (0.1, 0.9)
    """
    measured = measure_loudness(sig, sample_rate)
    if not math.isfinite(measured):
        return 1.0
    gain = 10 ** ((wanted - measured) / 20)
    highest = float(np.abs(sig).max())
    return gain if gain * highest < 1 else peak / highest
