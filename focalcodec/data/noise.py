"""Noise to mix with speech: recordings of a folder, such as WHAM!'s, or made of random numbers."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np

from focalcodec.audio import AUDIO_SUFFIXES, audio_info, read_audio
from focalcodec.data.clip_pool import ClipPool, Signal
from focalcodec.data.prepare import walk_files
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.metrics.packages import need

INSTALL = 'pip install -e ".[mixtures]"'
WHAM_SPLITS = {"train": "tr", "valid": "cv"}
"""WHAM!'s folder for each set; all others have tt, for testing."""

BABBLE_VOICES = (4, 8)
COLOURS = (0.0, 2.0)  # exponents of 1/f^x: white to brown


class NoiseSource(Protocol):
    """Draws noise of any length; `content` tells noises from others, in one line."""

    content: str

    def __call__(
        self, num_samples: int, rng: np.random.Generator, speakers: Collection[str]
    ) -> Signal:
        """Noise (num_samples,) in which none of these speakers is heard."""


class NoiseFolder:
    """Random parts of the recordings in a folder; of several channels the first.

    Parameters
    ----------
    folder : str or path
        Searched with all folders below it. Where it has WHAM!'s folders tr, cv and tt, give the
        one that is meant.
    sample_rate : int
        Rate of what is drawn, Hz.

    Raises
    ------
    UserError
        No such folder, or no audio in it.

    Example
    -------
    >>> from focalcodec.data.embedded import embedded_corpus
    >>> noise = NoiseFolder(embedded_corpus("LibriSpeech") / "test-real", 16000)
    >>> noise(8000, np.random.default_rng(0), ()).shape
    (8000,)
    """

    def __init__(self, folder: str | Path, sample_rate: int) -> None:
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise UserError(f"noise_folder {root}: no such folder; null takes generated noise")
        found = [
            file for file in walk_files(root, "") if file.path.lower().endswith(AUDIO_SUFFIXES)
        ]
        if not found:
            raise UserError(f"noise_folder {root}: no audio ({', '.join(AUDIO_SUFFIXES)}) in it")
        self.files = [root / file.path for file in found]
        digest = stable_seed(*(f"{file.path} {file.size}" for file in found))
        self.content = f"{len(found)} files, {digest:016x}"
        self.sample_rate = sample_rate

    def __call__(
        self, num_samples: int, rng: np.random.Generator, speakers: Collection[str]
    ) -> Signal:
        """A part of a recording, which is repeated where it is too short."""
        path = self.files[rng.integers(len(self.files))]
        info = audio_info(path)
        wanted = math.ceil(num_samples * info.sample_rate / self.sample_rate)
        start = int(rng.integers(max(info.num_samples - wanted, 0) + 1))
        frames = min(wanted, info.num_samples - start)
        sig = read_audio(path, self.sample_rate, start, frames, channels="first")
        return extend(sig.numpy().astype(np.float64), num_samples, self.sample_rate)


class GeneratedNoise:
    """Coloured noise, or the babble of other speakers of the set.

    Coloured noise has a spectrum of 1/f^x, x from 0 (white) to 2 (brown). Babble is the sum of 4
    to 8 voices of the same power; where the set has no other speakers there is none.

    Parameters
    ----------
    pool : ClipPool
        Voices.
    babble_share : float
        How often it is babble, 0 to 1.

    Example
    -------
    >>> noise = GeneratedNoise(ClipPool([], 16000), babble_share=0.0)
    >>> noise(8000, np.random.default_rng(0), ()).shape
    (8000,)
    """

    def __init__(self, pool: ClipPool, babble_share: float = 0.5) -> None:
        if not 0 <= babble_share <= 1:
            raise UserError(f"babble_share={babble_share}: give 0 to 1")
        self.pool, self.babble_share = pool, babble_share
        self.content = f"generated, babble_share={babble_share}"
        self._coloured = need("colorednoise", INSTALL).powerlaw_psd_gaussian
        self._fast_length = need("scipy.fft", INSTALL).next_fast_len

    def __call__(
        self, num_samples: int, rng: np.random.Generator, speakers: Collection[str]
    ) -> Signal:
        """Noise of either kind."""
        others = set(self.pool.speakers) - set(speakers)
        if rng.random() < self.babble_share and others:
            return self._babble(num_samples, rng, speakers)
        # Fourier transforms of some lengths take ten times as long.
        length = self._fast_length(num_samples, real=True)
        return self._coloured(rng.uniform(*COLOURS), length, random_state=rng)[:num_samples]

    def _babble(
        self, num_samples: int, rng: np.random.Generator, speakers: Collection[str]
    ) -> Signal:
        babble = np.zeros(num_samples)
        for _ in range(rng.integers(BABBLE_VOICES[0], BABBLE_VOICES[1] + 1)):
            row = self.pool.draw(rng, speakers)
            assert row is not None
            voice = extend(self.pool.read(row), num_samples, self.pool.sample_rate)
            start = rng.integers(num_samples)
            power = np.mean(voice**2)
            babble += np.roll(voice, start) / np.sqrt(power if power > 0 else 1.0)
        return babble / np.sqrt(BABBLE_VOICES[1])


def extend(sig: Signal, num_samples: int, sample_rate: int, fade_seconds: float = 0.5) -> Signal:
    """Cut a signal, or repeat it with cross-fades of equal power.

    Parameters
    ----------
    sig : array
        (T,) at least one sample.
    num_samples : int
        Wanted.
    sample_rate : int
        Hz.
    fade_seconds : float
        Length of a cross-fade; at most half the signal.

    Returns
    -------
    array
        (num_samples,).

    Example
    -------
    >>> extend(np.ones(4), 6, 16000).shape
    (6,)
    """
    fade = min(int(fade_seconds * sample_rate), len(sig) // 2)
    rising = np.sin(np.linspace(0, np.pi / 2, fade))
    extended = sig
    while len(extended) < num_samples:
        joint = extended[len(extended) - fade :] * rising[::-1] + sig[:fade] * rising
        extended = np.concatenate([extended[: len(extended) - fade], joint, sig[fade:]])
    return extended[:num_samples]


def noise_source(
    noise_folder: str | Path | None, split: str, pool: ClipPool, babble_share: float
) -> NoiseSource:
    """Noise of a folder, of WHAM!'s part for a set where it has that, or generated.

    Parameters
    ----------
    noise_folder : str, path or None
        Folder of recordings; None: generated noise.
    split : str
        Folder below it that is taken where it is there: tr, cv or tt.
    pool : ClipPool
        Voices of the babble.
    babble_share : float
        See `GeneratedNoise`.

    Raises
    ------
    UserError
        See `NoiseFolder`.
    """
    if noise_folder is None:
        return GeneratedNoise(pool, babble_share)
    folder = Path(noise_folder).expanduser()
    part = folder / split
    return NoiseFolder(part if split and part.is_dir() else folder, pool.sample_rate)
