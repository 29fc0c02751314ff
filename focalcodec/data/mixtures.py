"""Mixtures of speech and noise as LibriMix makes them (arXiv 2005.11262), new ones at each draw.

Each speaker gets a random loudness, noise a lower one; all begin together; the mixture ends with
the shortest (min) or the longest (max) speaker. A mixture with a peak above 0.9 is scaled down as a
whole. Draws depend on the seed, the clip and the number of the draw only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from focalcodec.data.acoustics import (
    ClipPool,
    NoiseSource,
    RoomPool,
    Signal,
    loudness_gain,
    noise_source,
    reverberate,
)
from focalcodec.data.dataset import Mixed
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError

MIXTURES = ("mix_clean", "mix_single", "mix_both")
MODES = ("min", "max")
SPEECH_LUFS = (-33.0, -25.0)
NOISE_LUFS = (-38.0, -30.0)
PEAK = 0.9


def mixture_and_target(
    num_speakers: int, mixture: str | None = None, target: str | None = None
) -> tuple[str, str]:
    """Names of the input and the target, which are LibriMix's names of their folders.

    `mixture` is mix_single (the first speaker and noise), mix_both (all speakers and noise) or
    mix_clean (all speakers); default mix_single for one speaker, else mix_both. `target` is s1 (the
    first speaker) or mix_clean; default the speakers of the mixture. Raises `UserError` for another
    name, or a target with speakers that are not in the mixture.

    Example
    -------
    >>> mixture_and_target(1), mixture_and_target(2), mixture_and_target(2, "mix_single")
    (('mix_single', 's1'), ('mix_both', 'mix_clean'), ('mix_single', 's1'))
    """
    if not isinstance(num_speakers, int) or num_speakers < 1:
        raise UserError(f"num_speakers={num_speakers}: give 1, 2 or 3")
    mixture = mixture or ("mix_single" if num_speakers == 1 else "mix_both")
    if mixture not in MIXTURES:
        raise UserError(f"mixture={mixture!r}: not one of {', '.join(MIXTURES)}")
    alone = num_speakers == 1 or mixture == "mix_single"
    target = target or ("s1" if alone else "mix_clean")
    if target not in ("s1", "mix_clean"):
        raise UserError(f"target={target!r}: not one of s1, mix_clean")
    if target == "mix_clean" and mixture == "mix_single" and num_speakers > 1:
        raise UserError(
            f"target={target}: mixture={mixture} has only the first of {num_speakers} speakers;"
            " take target=s1 or mixture=mix_both"
        )
    return mixture, target


def check_mode(mode: str) -> None:
    """Raise `UserError` unless the mode is min or max."""
    if mode not in MODES:
        raise UserError(f"mode={mode!r}: not one of {', '.join(MODES)}")


@dataclass(frozen=True)
class Sources:
    """The parts of a mixture: signals (T,) of one length, at their final levels."""

    early: tuple[Signal, ...]  # speakers, direct path and early reflections only: for targets
    reverberant: tuple[Signal, ...]  # with late reverberation: for inputs; without a room equal
    noise: Signal
    shortest: int  # length of the shortest speaker

    def signal(self, name: str) -> Signal:
        """One of LibriMix's signals: s1, s2, ..., noise, mix_clean, mix_single, mix_both."""
        if name == "noise":
            return self.noise
        if name == "mix_clean":
            return np.sum(self.early, axis=0)
        if name == "mix_single":
            return self.reverberant[0] + self.noise
        if name == "mix_both":
            return np.sum(self.reverberant, axis=0) + self.noise
        return self.early[int(name[1:]) - 1]

    def cut(self, mode: str) -> Sources:
        """Cut all signals at the end of the shortest speaker in mode min; none in mode max."""
        if mode == "max":
            return self
        end = self.shortest
        early, reverberant = (
            tuple(sig[:end] for sig in group) for group in (self.early, self.reverberant)
        )
        return Sources(early, reverberant, self.noise[:end], end)


class MixtureMaker:
    """A `Mixer`: (row, draw) -> input and target.

    Raises `UserError` for a value out of range, or too few speakers.

    Parameters
    ----------
    rows : sequence of mapping
        The set, from `read_manifest`: further speakers and babble come from it. A column
        `noise_split` names the part of WHAM!'s folder.
    sample_rate : int
        Hz.
    seed : int
        Seed of all draws.
    num_speakers, mixture, target
        See `mixture_and_target`.
    mode : {"min", "max"}
        The mixture ends with the shortest or the longest speaker.
    noise_folder, babble_share
        See `focalcodec.data.acoustics.noise_source`.
    snr_db : (float, float), optional
        Range of the ratio of all speakers' power to the noise's; replaces the noise's loudness.
    reverb_share, rooms : float, int
        Share of the mixtures that are in a room, 0 to 1; number of rooms to draw from. Targets
        keep the direct path and 50 ms of reflections.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> wav = str(next(embedded_corpus("LibriSpeech").glob("test-real/91/1/*-0000.flac")))
    >>> row = {"ID": "a", "spk_id": "91", "wav": wav}
    >>> maker = MixtureMaker([row], sample_rate=16000, seed=0)
    >>> mixed = maker(row, 0)
    >>> mixed.noisy.shape == mixed.clean.shape, mixed.noisy.equal(maker(row, 1).noisy)
    (True, False)
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        sample_rate: int,
        seed: int,
        num_speakers: int = 1,
        mixture: str | None = None,
        target: str | None = None,
        mode: str = "min",
        noise_folder: str | Path | None = None,
        babble_share: float = 0.5,
        snr_db: Sequence[float] | None = None,
        reverb_share: float = 0.0,
        rooms: int = 64,
    ) -> None:
        self.mixture, self.target = mixture_and_target(num_speakers, mixture, target)
        check_mode(mode)
        if not 0 <= reverb_share <= 1:
            raise UserError(f"reverb_share={reverb_share}: give 0 to 1")
        if snr_db is not None and (len(snr_db) != 2 or not snr_db[0] <= snr_db[1]):
            raise UserError(f"snr_db={snr_db}: give [lowest, highest], or null")
        self.pool = ClipPool(rows, sample_rate)
        if len(self.pool.speakers) < num_speakers:
            raise UserError(
                f"num_speakers={num_speakers}: the set has {len(self.pool.speakers)} speakers;"
                " lower it, or add speakers"
            )
        self.sample_rate, self.seed, self.mode = sample_rate, seed, mode
        self.num_speakers, self.snr_db, self.reverb_share = num_speakers, snr_db, reverb_share
        split = str(rows[0].get("noise_split", ""))
        self.noise: NoiseSource = noise_source(noise_folder, split, self.pool, babble_share)
        self.rooms = RoomPool(rooms, num_speakers, sample_rate, seed) if reverb_share else None
        self.content = {
            "seed": seed,
            "sample_rate": sample_rate,
            "num_speakers": num_speakers,
            "noise": self.noise.content,
            "snr_db": None if snr_db is None else list(snr_db),
            "reverb_share": reverb_share,
            "rooms": rooms if reverb_share else 0,
        }
        """Everything that shapes the signals except the set, JSON-ready."""

    def __call__(self, row: Mapping[str, Any], draw: int) -> Mixed:
        """Make input and target of a clip, (T,) float32 both, aligned sample by sample."""
        sources = self.sources(row, draw).cut(self.mode)
        noisy, clean = (sources.signal(name) for name in (self.mixture, self.target))
        return Mixed(torch.from_numpy(noisy).float(), torch.from_numpy(clean).float())

    def ids(self, row: Mapping[str, Any], draw: int) -> tuple[str, ...]:
        """IDs of the clips of a mixture, its own first; no audio is read."""
        return tuple(clip["ID"] for clip in self._speakers(row, self._generator(row, draw)))

    def sources(self, row: Mapping[str, Any], draw: int) -> Sources:
        """Make all parts of a mixture, as long as its longest speaker; `draw` counts from 0."""
        rng = self._generator(row, draw)
        rows = self._speakers(row, rng)
        clips = [self.pool.read(clip) for clip in rows]
        lengths = [len(clip) for clip in clips]
        early, reverberant = self._in_a_room(clips, rng)
        # One gain for both, so that targets keep their level in the inputs.
        for place, sig in enumerate(early):
            gain = loudness_gain(sig, self.sample_rate, rng.uniform(*SPEECH_LUFS), PEAK)
            padding = (0, max(lengths) - len(sig))
            early[place] = np.pad(gain * sig, padding)
            reverberant[place] = np.pad(gain * reverberant[place], padding)
        speech = np.sum(reverberant, axis=0)  # (T,)
        noise = self.noise(max(lengths), rng, [clip["spk_id"] for clip in rows])
        noise = noise * self._noise_gain(noise, speech, rng)
        highest = np.abs(speech + noise).max()
        scale = PEAK / highest if highest > PEAK else 1.0
        early, reverberant = ([scale * sig for sig in group] for group in (early, reverberant))
        return Sources(tuple(early), tuple(reverberant), scale * noise, min(lengths))

    def _generator(self, row: Mapping[str, Any], draw: int) -> np.random.Generator:
        return np.random.default_rng(stable_seed(self.seed, "mixture", row["ID"], draw))

    def _speakers(
        self, row: Mapping[str, Any], rng: np.random.Generator
    ) -> list[Mapping[str, Any]]:
        rows = [row]
        while len(rows) < self.num_speakers:
            other = self.pool.draw(rng, [clip["spk_id"] for clip in rows])
            assert other is not None, "the constructor counts the speakers"
            rows.append(other)
        return rows

    def _in_a_room(
        self, clips: list[Signal], rng: np.random.Generator
    ) -> tuple[list[Signal], list[Signal]]:
        """Clips with early reflections, and with all reflections; unchanged if there is no room."""
        if self.rooms is None or rng.random() >= self.reverb_share:
            return list(clips), list(clips)
        responses = self.rooms.draw(rng)
        pairs = list(zip(clips, responses, strict=True))
        early = [reverberate(x, response.early, response.lead) for x, response in pairs]
        return early, [reverberate(x, response.whole, response.lead) for x, response in pairs]

    def _noise_gain(self, noise: Signal, speech: Signal, rng: np.random.Generator) -> float:
        if self.snr_db is None:
            return loudness_gain(noise, self.sample_rate, rng.uniform(*NOISE_LUFS), PEAK)
        power = float(np.mean(noise**2))
        lowest, highest = self.snr_db
        wanted = float(np.mean(speech**2)) / 10 ** (rng.uniform(lowest, highest) / 10)
        return math.sqrt(wanted / power) if power > 0 else 1.0


MakeMixer: TypeAlias = Callable[..., MixtureMaker]
"""A `MixtureMaker` with its options set, called with rows, sample_rate and seed."""
