"""Augmented copies of clips: other voices, and noisy partners.

Resampling by a random rate shifts pitch and formants with the tempo, as a shorter or longer vocal
tract does (speed perturbation, Ko et al., Interspeech 2015); a shift of pitch keeps the tempo.
Draws depend on the seed, the clip and the number of the copy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from focalcodec.audio import resample
from focalcodec.data.noise import ClipPool, NoiseSource, Signal, noise_source
from focalcodec.data.randomness import stable_seed
from focalcodec.data.reverb import RoomPool, reverberate
from focalcodec.errors import UserError
from focalcodec.packages import need

PEAK = 0.99
# Window of the phase vocoder. Words that Whisper tiny.en gets wrong at -3 semitones: 31 % with
# 0.128 s (librosa's default at 16 kHz), 8 % with 0.064 s, 4 % with 0.032 s.
_WINDOW_SECONDS = 0.032


@dataclass(frozen=True)
class Augmented:
    """A copy of a clip, (T,) float32 both: `noisy` is the copy in noise, or None."""

    clean: Tensor
    noisy: Tensor | None


@dataclass(frozen=True)
class Plan:
    """The changes to a clip, drawn without its audio."""

    semitones: float  # shift of the pitch at the same tempo; 0 for none
    new_rate: int  # Hz; the clip is resampled to this rate, but played at its old one
    peak_db: float  # highest sample, dB of full scale; silence stays silence
    noisy: bool  # whether the copy has a noisy partner


class Augmenter:
    """(row, copy) -> the same text in another voice, and for some clips a noisy partner.

    Raises `UserError` for a bad range or share.

    Parameters
    ----------
    rows : sequence of mapping
        The set: `ID`, `spk_id`, `wav` (full path). Babble comes from it.
    sample_rate : int
        Hz.
    seed : int
        Seed of all draws.
    speed : (float, float)
        Range of the speed, uniform; 1.1 is 10 % faster, with a pitch 10 % higher.
    semitones, pitch_share : (float, float), float
        Range of the shift of pitch, and the share of copies that get it instead of a speed.
    peak_db : (float, float)
        Range of a copy's highest sample, dB of full scale.
    noisy_share, snr_db : float, (float, float)
        Share of the copies with a noisy partner; range of its speech-to-noise power ratio.
    noise_folder, babble_share
        See `focalcodec.data.noise.noise_source`.
    reverb_share, rooms : float, int
        Share of the noisy partners that are also in a room; number of rooms to draw from.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> wav = str(next(embedded_corpus("LibriSpeech").glob("test-real/91/1/*-0000.flac")))
    >>> row = {"ID": "a", "spk_id": "91", "wav": wav}
    >>> made = Augmenter([row], sample_rate=16000, seed=0, noisy_share=1.0)(row, 1)
    >>> made.clean.shape == made.noisy.shape, bool(made.clean.abs().max() <= 1)
    (True, True)
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        sample_rate: int,
        seed: int,
        speed: Sequence[float] = (0.85, 1.15),
        semitones: Sequence[float] = (-3.0, 3.0),
        pitch_share: float = 0.15,
        peak_db: Sequence[float] = (-20.0, 0.0),
        noisy_share: float = 0.0,
        noise_folder: str | Path | None = None,
        babble_share: float = 0.5,
        snr_db: Sequence[float] = (5.0, 25.0),
        reverb_share: float = 0.5,
        rooms: int = 64,
    ) -> None:
        self.sample_rate, self.seed = sample_rate, seed
        self.speed = _range("speed", speed, lowest=0.25, highest=4.0)
        self.semitones = _range("semitones", semitones, lowest=-24.0, highest=24.0)
        self.peak_db = _range("peak_db", peak_db, lowest=-60.0, highest=0.0)
        self.snr_db = _range("snr_db", snr_db, lowest=-60.0, highest=100.0)
        self.pitch_share = _share("pitch_share", pitch_share)
        self.noisy_share = _share("noisy_share", noisy_share)
        self.reverb_share = _share("reverb_share", reverb_share)
        self.pool = ClipPool(rows, sample_rate)
        self.content: dict[str, Any] = {
            "seed": seed,
            "sample_rate": sample_rate,
            "speed": list(self.speed),
            "semitones": list(self.semitones),
            "pitch_share": pitch_share,
            "peak_db": list(self.peak_db),
            "noisy_share": noisy_share,
        }
        """Everything that shapes the copies except the clips, JSON-ready."""
        if noisy_share:
            # Only noisy partners need the packages of noise and rooms.
            self.noise: NoiseSource = noise_source(noise_folder, "", self.pool, babble_share)
            self.rooms = RoomPool(rooms, 1, sample_rate, seed) if reverb_share else None
            self.content |= {"noise": self.noise.content, "snr_db": list(self.snr_db)}
            self.content |= {"reverb_share": reverb_share, "rooms": rooms}

    def plan(self, row: Mapping[str, Any], copy: int) -> Plan:
        """Draw the changes to copy number `copy` of a clip; no audio is read."""
        rng = self._generator("plan", row, copy)
        by_pitch = rng.random() < self.pitch_share
        # Both are always drawn, so that one share does not change the other draws.
        speed, semitones = rng.uniform(*self.speed), rng.uniform(*self.semitones)
        return Plan(
            semitones=float(semitones) if by_pitch else 0.0,
            new_rate=self.sample_rate if by_pitch else round(self.sample_rate / speed),
            peak_db=float(rng.uniform(*self.peak_db)),
            noisy=bool(rng.random() < self.noisy_share),
        )

    def __call__(self, row: Mapping[str, Any], copy: int) -> Augmented:
        """Make copy number `copy` of a clip; `UserError` if a file can't be read.

        Its length is the clip's, or `resampled_length` at the plan's rate. If the noisy partner
        would exceed full scale, both are scaled down.
        """
        plan = self.plan(row, copy)
        sig = change_voice(self.pool.read(row), self.sample_rate, plan)
        if not plan.noisy:
            return Augmented(torch.from_numpy(sig).float(), None)
        noisy = self._in_noise(sig, row["spk_id"], self._generator("noise", row, copy))
        highest = np.abs(noisy).max()
        scale = PEAK / highest if highest > PEAK else 1.0
        return Augmented(*(torch.from_numpy(scale * x).float() for x in (sig, noisy)))

    def _in_noise(self, sig: Signal, speaker: str, rng: np.random.Generator) -> Signal:
        in_room, snr_db = rng.random() < self.reverb_share, rng.uniform(*self.snr_db)
        if in_room and self.rooms is not None:
            (response,) = self.rooms.draw(rng)
            sig = reverberate(sig, response.whole, response.lead)
        noise = self.noise(len(sig), rng, [speaker])
        power = float(np.mean(noise**2))
        wanted = float(np.mean(sig**2)) / 10 ** (snr_db / 10)
        return sig + (math.sqrt(wanted / power) if power > 0 else 1.0) * noise

    def _generator(self, what: str, row: Mapping[str, Any], copy: int) -> np.random.Generator:
        seed = stable_seed(self.seed, "augment", what, row["ID"], copy)
        return np.random.default_rng(seed)


def change_voice(sig: Signal, sample_rate: int, plan: Plan) -> Signal:
    """Change speed or pitch, and the level, of sig (T,), T > 0: (T',) with the plan's peak."""
    if plan.new_rate != sample_rate:
        whole = torch.from_numpy(sig).float()[None]
        sig = resample(whole, sample_rate, plan.new_rate)[0][0].numpy().astype(np.float64)
    if plan.semitones:
        sig = _shift_pitch(sig, sample_rate, plan.semitones)
    peak = np.abs(sig).max()
    return sig * (10 ** (plan.peak_db / 20) / peak if peak > 0 else 1.0)


def _shift_pitch(sig: Signal, sample_rate: int, semitones: float) -> Signal:
    # Imported here because it takes seconds, and changes of speed do not need it.
    librosa = need("librosa", "pip install 'focalcodec[recipes]'")

    window = 2 ** round(math.log2(_WINDOW_SECONDS * sample_rate))
    # A window of zeros after the end, because short clips could not be transformed otherwise.
    padded = np.pad(sig, (0, window))
    shifted = librosa.effects.pitch_shift(
        padded, sr=sample_rate, n_steps=semitones, n_fft=window, hop_length=window // 4
    )
    return shifted[: len(sig)]


def _range(name: str, value: Sequence[float], lowest: float, highest: float) -> tuple[float, float]:
    if len(value) != 2 or not lowest <= value[0] <= value[1] <= highest:
        raise UserError(
            f"{name}={list(value)}: give [lowest, highest], within {lowest:g} and {highest:g}"
        )
    return float(value[0]), float(value[1])


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"{name}={value}: give 0 to 1")
    return value
