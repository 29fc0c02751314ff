"""Pictures of the page: spectrograms, tokens, the map of codes, and bars that explain the greys.

Pictures are small and grey, embedded as data addresses. Dark means high and light means low values,
as in phonetics; a dark page inverts them.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from focalcodec.audio import read_audio
from focalcodec.encoders.logmel import mel_bands, mel_power
from focalcodec.report.plots import Tick, log_ticks, plain
from focalcodec.report.run_folder import Ints

SAMPLE_RATE = 16000  # spectrograms end at 8 kHz, whatever the output rate of a codec
MELS = 80
WINDOW, TRANSFORM = 400, 1024  # samples: 25 and 64 ms
MOST_COLUMNS = 900
DYNAMIC_RANGE = 70.0  # dB
QUALITY = 62
WIDTH = 300  # px, of a bar
NEVER = 24  # px, the part for codes that were never used

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """An image as a data address, with its size in pixels and a description."""

    src: str
    width: int
    height: int
    alt: str


def data_uri(content: bytes, mime: str) -> str:
    """Return content as a data address, which needs no file.

    Example
    -------
    >>> data_uri(b"a", "text/plain")
    'data:text/plain;base64,YQ=='
    """
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def mel_spectrogram(path: Path, seconds: float) -> Floats:
    """Return a log-mel power spectrogram (80, columns) float32 in dB, low bands first.

    The columns span `seconds` (a shorter file is padded with silence), one for every 10 ms, fewer
    for long clips.
    """
    sig = read_audio(path, SAMPLE_RATE, channels="mix")
    num_samples = max(WINDOW, round(seconds * SAMPLE_RATE))
    sig = torch.nn.functional.pad(sig, (0, num_samples - len(sig)))
    hop = max(SAMPLE_RATE // 100, -(-num_samples // MOST_COLUMNS))
    bands = mel_bands(SAMPLE_RATE, TRANSFORM, MELS, 0.0, SAMPLE_RATE / 2)
    power = mel_power(sig, bands, torch.hann_window(WINDOW), TRANSFORM, hop)  # (bands, columns)
    return 10 * power.clamp(min=1e-10).log10().numpy()


def spectrogram(mel: Floats, top: float, alt: str) -> Picture:
    """Draw mel (bands, columns) in dB as lossy WebP: `top` dB is black, `DYNAMIC_RANGE` less white.

    Pictures that are compared need the same `top`.
    """
    loudness = np.clip((mel - top) / DYNAMIC_RANGE + 1, 0, 1)
    grey = np.round(255 * (1 - loudness[::-1])).astype(np.uint8)
    return picture(Image.fromarray(grey), "WEBP", alt)


def token_raster(toks: Ints, bits: int, alt: str) -> Picture:
    """Draw the bits of toks (N,) as PNG, one pixel for each: time to the right, 1 is black.

    The first bit is at the top.

    Example
    -------
    >>> raster = token_raster(np.array([5, 2]), 3, "two tokens")
    >>> raster.width, raster.height
    (2, 3)
    """
    places = np.arange(bits - 1, -1, -1)
    ones = (toks[None, :] >> places[:, None]) & 1
    return picture(Image.fromarray((255 * (1 - ones)).astype(np.uint8)).convert("1"), "PNG", alt)


def picture(image: Image.Image, kind: str, alt: str) -> Picture:
    """Encode an image as WEBP (lossy) or PNG."""
    buffer = io.BytesIO()
    if kind == "WEBP":
        image.save(buffer, kind, quality=QUALITY, method=6)
    else:
        image.save(buffer, kind, optimize=True)
    src = data_uri(buffer.getvalue(), f"image/{kind.lower()}")
    return Picture(src, image.width, image.height, alt)


# -- codes and greys -------------------------------------------------------------------------------


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
