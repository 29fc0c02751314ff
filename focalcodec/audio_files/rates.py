"""Sample rates, lengths at them, and channels: what is checked and computed without samples."""

from __future__ import annotations

import os

import numpy as np

from focalcodec.choices import CHANNELS
from focalcodec.errors import UserError


def check_channels(path: str | os.PathLike[str], count: int, channels: str) -> None:
    """Raise a `UserError` for several channels under "error", or a policy not in `CHANNELS`."""
    if channels not in CHANNELS:
        raise UserError(f"channels={channels!r}: not one of {', '.join(CHANNELS)}")
    if count > 1 and channels == "error":
        raise UserError(
            f"{path}: {count} channels, mono is expected;"
            " set channels to 'mix' (their mean) or 'first'"
        )


def resampled_length(num_samples: int, from_rate: int, to_rate: int) -> int:
    """Number of samples after resampling, rates in Hz: the nearest, halves up, at least one.

    Example
    -------
    >>> resampled_length(44100, 44100, 16000), resampled_length(1001, 24000, 16000)
    (16000, 667)
    """
    return max(min(1, num_samples), (2 * num_samples * to_rate + from_rate) // (2 * from_rate))


def output_samples(num_samples: int, from_rate: int, rate: int, model_rate: int) -> int:
    """Length at `rate` Hz of a recording with `num_samples` at `from_rate` Hz.

    It is the nearest number, or one less if rounding would need one more token than the encoder
    made at `model_rate` Hz.

    Example
    -------
    >>> output_samples(88200, 44100, rate=24000, model_rate=16000)
    48000
    """
    encoded = resampled_length(num_samples, from_rate, model_rate)
    wanted = resampled_length(num_samples, from_rate, rate)
    while wanted > 1 and resampled_length(wanted, rate, model_rate) > encoded:
        wanted -= 1
    return wanted


def check_rates(*rates: int) -> None:
    """Raise a `UserError` if a sample rate is not a positive integer, in Hz."""
    for rate in rates:
        if not isinstance(rate, (int, np.integer)) or isinstance(rate, bool) or rate < 1:
            raise UserError(f"sample rate {rate!r}: give a positive integer, in Hz")
