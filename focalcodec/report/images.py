"""Pictures of sound and of tokens, small and grey, as data addresses.

Dark is much and light is little, as in phonetics; a dark page inverts them.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import numpy.typing as npt
from PIL import Image

from focalcodec.audio import read_audio
from focalcodec.report.run_folder import Ints

SAMPLE_RATE = 16000  # what a picture shows ends at 8 kHz, whatever a codec's output rate
MELS = 80
WINDOW = 400  # samples: 25 ms
MOST_COLUMNS = 900
DYNAMIC_RANGE = 70.0  # dB
QUALITY = 62

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """A data address with its size in pixels, and what it shows in words."""

    src: str
    width: int
    height: int
    alt: str


def data_uri(content: bytes, mime: str) -> str:
    """Content as an address that needs no file.

    Example
    -------
    >>> data_uri(b"a", "text/plain")
    'data:text/plain;base64,YQ=='
    """
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def log_mel(path: Path, seconds: float) -> Floats:
    """Log-mel power spectrogram of a file.

    Parameters
    ----------
    path : Path
        Audio, any rate.
    seconds : float
        Time that all columns span; what the file is shorter is silence.

    Returns
    -------
    array
        (80, columns) float32 in dB, low bands first; a column each 10 ms, fewer for long clips.
    """
    sig = read_audio(path, SAMPLE_RATE, channels="mix").numpy()
    num_samples = max(WINDOW, round(seconds * SAMPLE_RATE))
    sig = librosa.util.fix_length(sig, size=num_samples)
    hop = max(SAMPLE_RATE // 100, -(-num_samples // MOST_COLUMNS))
    power = librosa.feature.melspectrogram(
        y=sig, sr=SAMPLE_RATE, n_fft=1024, win_length=WINDOW, hop_length=hop, n_mels=MELS
    )
    return (10 * np.log10(np.maximum(power, 1e-10))).astype(np.float32)


def spectrogram(mel: Floats, top: float, alt: str) -> Picture:
    """Picture of a spectrogram.

    Parameters
    ----------
    mel : array
        (bands, columns) in dB.
    top : float
        dB that are black; `DYNAMIC_RANGE` below is white. One value for all that is compared.
    alt : str
        What the picture shows.

    Returns
    -------
    Picture
        WebP, lossy.

    Example
    -------
    >>> spectrogram(np.zeros((80, 20), dtype=np.float32), 0.0, "noise").width
    20
    """
    loudness = np.clip((mel - top) / DYNAMIC_RANGE + 1, 0, 1)
    grey = np.round(255 * (1 - loudness[::-1])).astype(np.uint8)
    return _picture(Image.fromarray(grey), "WEBP", alt)


def token_raster(toks: Ints, bits: int, alt: str) -> Picture:
    """Bits of a clip's tokens: time from left to right, the first bit at the top, 1 is black.

    Parameters
    ----------
    toks : array
        (N,) int64.
    bits : int
        Of a token.
    alt : str
        What the picture shows.

    Returns
    -------
    Picture
        PNG of one pixel a bit.

    Example
    -------
    >>> raster = token_raster(np.array([5, 2]), 3, "two tokens")
    >>> raster.width, raster.height
    (2, 3)
    """
    places = np.arange(bits - 1, -1, -1)
    ones = (toks[None, :] >> places[:, None]) & 1
    return _picture(Image.fromarray((255 * (1 - ones)).astype(np.uint8)).convert("1"), "PNG", alt)


def code_map(counts: Ints, alt: str) -> Picture:
    """Use of each code, one pixel a code: first bits down, last bits across.

    Parameters
    ----------
    counts : array
        (2^L,) of tokens seen.
    alt : str
        What the picture shows.

    Returns
    -------
    Picture
        PNG; white was never seen, the most used is black, on a logarithmic scale.

    Example
    -------
    >>> picture = code_map(np.array([0, 1, 2, 9, 0, 0, 0, 1]), "eight codes")
    >>> picture.width, picture.height
    (4, 2)
    """
    bits = counts.size.bit_length() - 1
    grid = counts.reshape(2 ** (bits // 2), -1)
    shade = np.log1p(grid) / np.log1p(max(1, int(counts.max())))
    # What was seen once stays apart from what was never seen.
    grey = np.where(grid > 0, 200 - np.round(200 * shade), 255).astype(np.uint8)
    return _picture(Image.fromarray(grey), "PNG", alt)


def _picture(image: Image.Image, kind: str, alt: str) -> Picture:
    buffer = io.BytesIO()
    if kind == "WEBP":
        image.save(buffer, kind, quality=QUALITY, method=6)
    else:
        image.save(buffer, kind, optimize=True)
    src = data_uri(buffer.getvalue(), f"image/{kind.lower()}")
    return Picture(src, image.width, image.height, alt)
