"""Reverberation: impulse responses of random shoebox rooms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from focalcodec.data.noise import INSTALL, Signal
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.packages import need

ROOM_METRES = ((3.0, 10.0), (3.0, 8.0), (2.5, 4.0))
REVERBERATION_SECONDS = (0.2, 0.6)  # RT60 by Sabine's formula
EARLY_SECONDS = 0.05
_WALL_METRES = 0.5
_NEAREST_METRES = 0.5
_LARGEST_ORDER = 40  # of image sources: within 0.03 s of the wanted RT60, 0.1 s of computing
_SOUND_METRES_PER_SECOND = 343.0


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
    # A large room can't be that dry, whatever its walls: take the shortest RT60 it can have.
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
