"""Noise, babble and rooms, which are mixed with speech; and loudness, which sets their levels.

Noise comes from recordings, such as WHAM!'s, or is coloured noise, or babble: the sum of other
voices of the set. Rooms are random shoeboxes. Loudness is ITU-R BS.1770.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from focalcodec.audio import Channels, audio_info, read_audio
from focalcodec.data.clips import read_clip
from focalcodec.data.corpus import walk_files
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.packages import need

Signal: TypeAlias = npt.NDArray[np.float64]

INSTALL = 'pip install -e ".[mixtures]"'
WHAM_SPLITS = {"train": "tr", "valid": "cv"}
"""WHAM!'s folder for each set; all others have tt, for testing."""

BABBLE_VOICES = (4, 8)
COLOURS = (0.0, 2.0)  # exponents of 1/f^x: white to brown
ROOM_METRES = ((3.0, 10.0), (3.0, 8.0), (2.5, 4.0))
REVERBERATION_SECONDS = (0.2, 0.6)  # RT60 by Sabine's formula
EARLY_SECONDS = 0.05
_WALL_METRES = 0.5  # nearest place to a wall
_NEAREST_METRES = 0.5  # nearest place to the microphone
_LARGEST_ORDER = 40  # of image sources: within 0.03 s of the wanted RT60, 0.1 s of computing
_SOUND_METRES_PER_SECOND = 343.0
_BLOCK_SECONDS = 0.4  # of the loudness measure; a shorter signal has no block


class ClipPool:
    """The clips of a set by speaker; draws do not depend on the order of the rows."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._by_speaker: dict[str, list[Mapping[str, Any]]] = {}
        for row in sorted(rows, key=lambda row: row["ID"]):
            self._by_speaker.setdefault(row["spk_id"], []).append(row)
        self.speakers = sorted(self._by_speaker)

    def draw(self, rng: np.random.Generator, without: Collection[str]) -> Mapping[str, Any] | None:
        """Draw a clip of any speaker except some; None if there is no other speaker."""
        others = [name for name in self.speakers if name not in without]
        if not others:
            return None
        clips = self._by_speaker[others[rng.integers(len(others))]]
        return clips[rng.integers(len(clips))]

    def read(self, row: Mapping[str, Any]) -> Signal:
        """Read the signal (T,) of a clip."""
        span = (row["start"], row["stop"]) if "start" in row else None
        channels: Channels = row.get("channels") or "error"
        return read_clip(row["wav"], self.sample_rate, span, channels).numpy().astype(np.float64)


# -- sources of noise ------------------------------------------------------------------------------


class NoiseSource(Protocol):
    """Draws noise of any length; `content` is one line that identifies the source."""

    content: str

    def __call__(
        self, num_samples: int, rng: np.random.Generator, speakers: Collection[str]
    ) -> Signal:
        """Draw noise (num_samples,) without the voices of these speakers."""


class NoiseFolder:
    """Random parts of the recordings in a folder and all folders below it; their first channel.

    If the folder has WHAM!'s folders tr, cv and tt, give one of these. Noise is at `sample_rate`,
    Hz. Raises `UserError` if there is no such folder, or no audio in it.
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
        """Draw a part of a recording, which is repeated if it is too short."""
        path = self.files[rng.integers(len(self.files))]
        info = audio_info(path)
        wanted = math.ceil(num_samples * info.sample_rate / self.sample_rate)
        start = int(rng.integers(max(info.num_samples - wanted, 0) + 1))
        frames = min(wanted, info.num_samples - start)
        sig = read_audio(path, self.sample_rate, start, frames, channels="first")
        return extend(sig.numpy().astype(np.float64), num_samples, self.sample_rate)


class GeneratedNoise:
    """Coloured noise, or the babble of other speakers of the set, a share `babble_share` of it.

    Coloured noise has a spectrum of 1/f^x, x from 0 (white) to 2 (brown). Babble is the sum of 4
    to 8 voices of the same power; a set without other speakers has none.

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
        """Draw noise of either kind."""
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


def noise_source(
    noise_folder: str | Path | None, split: str, pool: ClipPool, babble_share: float
) -> NoiseSource:
    """Return the noise of a folder, or generated noise (`GeneratedNoise`) if it is None.

    If the folder has a folder named `split` (WHAM!'s tr, cv or tt), only that is used.
    """
    if noise_folder is None:
        return GeneratedNoise(pool, babble_share)
    folder = Path(noise_folder).expanduser()
    part = folder / split
    return NoiseFolder(part if split and part.is_dir() else folder, pool.sample_rate)


def extend(sig: Signal, num_samples: int, sample_rate: int, fade_seconds: float = 0.5) -> Signal:
    """Cut a signal (T,), T > 0, to (num_samples,), or repeat it with cross-fades of equal power.

    A cross-fade takes `fade_seconds`, at most half of the signal.
    """
    fade = min(int(fade_seconds * sample_rate), len(sig) // 2)
    rising = np.sin(np.linspace(0, np.pi / 2, fade))
    extended = sig
    while len(extended) < num_samples:
        joint = extended[len(extended) - fade :] * rising[::-1] + sig[:fade] * rising
        extended = np.concatenate([extended[: len(extended) - fade], joint, sig[fade:]])
    return extended[:num_samples]


# -- loudness --------------------------------------------------------------------------------------


@functools.cache
def _meter(sample_rate: int) -> Any:
    return need("pyloudnorm", INSTALL).Meter(sample_rate, block_size=_BLOCK_SECONDS)


def measure_loudness(sig: Signal, sample_rate: int) -> float:
    """Integrated loudness of a signal (T,) in LUFS; minus infinity for silence.

    A signal shorter than 0.4 s is measured as if it were repeated.
    """
    shortest = math.ceil(_BLOCK_SECONDS * sample_rate)
    if len(sig) < shortest:
        sig = np.resize(sig, shortest)
    with np.errstate(divide="ignore"):
        return float(_meter(sample_rate).integrated_loudness(sig))


def loudness_gain(sig: Signal, sample_rate: int, wanted: float, peak: float = 0.9) -> float:
    """Factor that brings a signal (T,) to a loudness in LUFS; 1 for silence.

    If the result would reach 1 or more, the factor brings the signal to `peak` instead.

    Example
    -------
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    >>> round(loudness_gain(tone, 16000, -23.0), 2), round(loudness_gain(tone, 16000, 0.0), 2)
    (0.1, 0.9)
    """
    measured = measure_loudness(sig, sample_rate)
    if not math.isfinite(measured):
        return 1.0
    gain = 10 ** ((wanted - measured) / 20)
    highest = float(np.abs(sig).max())
    return gain if gain * highest < 1 else peak / highest


# -- rooms -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Response:
    """Impulse response from one place of a room to the microphone."""

    early: Signal  # (L,) the direct path and what arrives within 50 ms of it; power 1
    whole: Signal  # (L',) with the rest too
    lead: int  # samples of both before the direct path


class RoomPool:
    """A number of rooms with some speakers' places; a room is made when first drawn, and kept.

    Room k depends only on the seed and k, so it is the same in every process. Raises `UserError` if
    there are no rooms, or pyroomacoustics is not installed.

    Example
    -------
    >>> room = RoomPool(rooms=4, places=2, sample_rate=16000, seed=0).room(3)
    >>> len(room), bool(len(room[0].whole) > len(room[0].early))
    (2, True)
    """

    def __init__(self, rooms: int, places: int, sample_rate: int, seed: int) -> None:
        if rooms < 1:
            raise UserError(f"rooms={rooms}: give 1 or more, or reverb_share=0")
        self.rooms, self.places = rooms, places
        self.sample_rate, self.seed = sample_rate, seed
        need("pyroomacoustics", INSTALL)
        self._made: dict[int, list[Response]] = {}

    def draw(self, rng: np.random.Generator) -> list[Response]:
        """Responses from each place of a random room."""
        return self.room(int(rng.integers(self.rooms)))

    def room(self, index: int) -> list[Response]:
        """Responses from each place of room `index`."""
        if index not in self._made:
            self._made[index] = self._make(index)
        return self._made[index]

    def _make(self, index: int) -> list[Response]:
        acoustics = need("pyroomacoustics", INSTALL)
        rng = np.random.default_rng(stable_seed(self.seed, "room", index))
        size = np.array([rng.uniform(*metres) for metres in ROOM_METRES])
        absorption, order = _walls(size, rng.uniform(*REVERBERATION_SECONDS))
        room = acoustics.ShoeBox(
            size,
            fs=self.sample_rate,
            materials=acoustics.Material(absorption),
            max_order=min(order, _LARGEST_ORDER),
        )
        microphone = rng.uniform(_WALL_METRES, size - _WALL_METRES)
        room.add_microphone(microphone)
        distances = []
        for _ in range(self.places):
            place = microphone
            while np.linalg.norm(place - microphone) < _NEAREST_METRES:
                place = rng.uniform(_WALL_METRES, size - _WALL_METRES)
            room.add_source(place)
            distances.append(float(np.linalg.norm(place - microphone)))
        room.compute_rir()
        return [
            _response(np.asarray(room.rir[0][place]), distance, self.sample_rate)
            for place, distance in enumerate(distances)
        ]


def _walls(size: Signal, seconds: float) -> tuple[float, int]:
    """Absorption of the walls and order of the image sources for an RT60."""
    # A large room can't have such a short RT60 with any walls: take the shortest possible one.
    surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    driest = 24 * math.log(10) / _SOUND_METRES_PER_SECOND * math.prod(size) / surface
    return need("pyroomacoustics", INSTALL).inverse_sabine(max(seconds, 1.1 * driest), size)


def _response(samples: Signal, distance: float, sample_rate: int) -> Response:
    constants = need("pyroomacoustics", INSTALL).constants
    # The library's sinc of the direct path begins half its length early.
    lead = constants.get("frac_delay_length") // 2
    whole = samples[round(distance / constants.get("c") * sample_rate) :]
    early = whole[: lead + int(EARLY_SECONDS * sample_rate)]
    norm = np.linalg.norm(early)
    return Response(early / norm, whole / norm, lead)


def reverberate(sig: Signal, response: Signal, lead: int) -> Signal:
    """Convolve a signal (T,) with a response (L,) of a `Response`: (T,), aligned with the signal.

    Example
    -------
    >>> reverberate(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.5]), lead=1).round(6).tolist()
    [1.0, 0.5, 0.0]
    """
    convolve = need("scipy.signal", INSTALL).oaconvolve
    return convolve(sig, response)[lead : lead + len(sig)]
