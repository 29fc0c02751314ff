"""Noise and rooms: the same for a seed, with the requested levels and echoes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from focalcodec.data.acoustics import (
    EARLY_SECONDS,
    ClipPool,
    GeneratedNoise,
    NoiseFolder,
    RoomPool,
    extend,
)
from focalcodec.errors import UserError
from tests.unit.data.voices import RATE, voice, write_voices


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_parts_of_recordings(tmp_path: Path) -> None:
    sig = voice(3.0, 1)
    soundfile.write(tmp_path / "a.wav", sig, RATE, subtype="FLOAT")
    (tmp_path / "notes.txt").write_text("no noise")
    noise = NoiseFolder(tmp_path, RATE)
    starts = set()
    for seed in range(10):
        part = noise(4000, rng(seed), ())
        place = int(np.argmax(np.correlate(sig, part, "valid")))
        assert np.allclose(sig[place : place + 4000], part, atol=1e-6)
        starts.add(place)
    assert len(starts) > 5


def test_first_channel_and_other_rates(tmp_path: Path) -> None:
    """Recordings of WHAM! have two channels."""
    left = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 8000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, np.zeros(16000)], axis=1), 8000)
    part = NoiseFolder(tmp_path, RATE)(8000, rng(), ())
    spectrum = np.abs(np.fft.rfft(part * np.hanning(8000)))
    assert len(part) == 8000 and np.argmax(spectrum) * RATE / 8000 == pytest.approx(440, abs=4)


def test_short_recordings_are_repeated(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(0.5, 1), RATE)
    part = NoiseFolder(tmp_path, RATE)(5 * RATE, rng(), ())
    powers = np.mean(part.reshape(-1, RATE // 2) ** 2, axis=1)
    assert len(part) == 5 * RATE and powers.max() < 4 * powers.min(), "no hole at a joint"
    assert len(extend(np.ones(1), 7, RATE)) == 7


def test_folder_without_audio(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no audio"):
        NoiseFolder(tmp_path, RATE)


def test_content_differs_between_folders(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(0.5, 1), RATE)
    first = NoiseFolder(tmp_path, RATE).content
    assert NoiseFolder(tmp_path, RATE).content == first
    soundfile.write(tmp_path / "b.wav", voice(0.5, 1), RATE)
    assert NoiseFolder(tmp_path, RATE).content != first


def test_colours_are_from_white_to_brown() -> None:
    noise = GeneratedNoise(ClipPool([], RATE), babble_share=1.0)  # no voices, so no babble
    slopes = []
    for seed in range(20):
        power = np.abs(np.fft.rfft(noise(1 << 15, rng(seed), ()))) ** 2
        bands = [power[1 << k : 2 << k].mean() for k in range(4, 14)]
        slopes.append(-np.polyfit(np.arange(10), np.log2(bands), 1)[0])
    assert min(slopes) > -0.1 and max(slopes) < 2.1 and max(slopes) - min(slopes) > 1


def test_babble_has_other_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = write_voices(tmp_path, speakers=4)
    pool, read = ClipPool(rows, RATE), []
    noise = GeneratedNoise(pool, babble_share=1.0)
    reader = pool.read

    def listen(row: Any) -> np.ndarray:
        read.append(row["spk_id"])
        return reader(row)

    monkeypatch.setattr(pool, "read", listen)
    for seed in range(5):
        read.clear()
        assert noise(12345, rng(seed), ["2"]).shape == (12345,)
        assert 4 <= len(read) <= 8 and "2" not in read
    read.clear()
    assert noise(100, rng(), ["1", "2", "3", "4"]).std() > 0 and not read, "coloured noise instead"


# -- rooms -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> RoomPool:
    return RoomPool(rooms=6, places=2, sample_rate=RATE, seed=3)


def reverberation_seconds(whole: np.ndarray) -> float:
    """RT60 from the decay between -5 and -20 dB (Schroeder)."""
    energy = np.cumsum(whole[::-1] ** 2)[::-1]
    decay = 10 * np.log10(energy / energy[0])
    start, stop = (int(np.argmax(decay < level)) for level in (-5, -20))
    return 4 * (stop - start) / RATE


def test_rooms_are_the_same_in_any_order(pool: RoomPool) -> None:
    other = RoomPool(rooms=6, places=2, sample_rate=RATE, seed=3)
    for index in (2, 0):
        for one, two in zip(other.room(index), pool.room(index), strict=True):
            assert np.array_equal(one.whole, two.whole)
    seeded = RoomPool(rooms=6, places=2, sample_rate=RATE, seed=4)
    assert not np.array_equal(seeded.room(0)[0].whole[:2000], pool.room(0)[0].whole[:2000])
    assert pool.room(1) is pool.room(1), "kept"


def test_direct_path_leads_and_early_part_is_a_part(pool: RoomPool) -> None:
    for index in range(pool.rooms):
        for response in pool.room(index):
            early = len(response.early)
            assert early == response.lead + int(EARLY_SECONDS * RATE)
            assert np.array_equal(response.whole[:early], response.early)
            assert np.sum(response.early**2) == pytest.approx(1.0)
            direct = np.abs(response.whole[response.lead - 1 : response.lead + 2]).max()
            before = np.abs(response.whole[: response.lead - 30]).max()
            assert direct > 0.2 and before < 0.05 * direct


def test_reverberation_times_are_realistic(pool: RoomPool) -> None:
    found = [reverberation_seconds(r.whole) for k in range(pool.rooms) for r in pool.room(k)]
    assert 0.1 < min(found) and max(found) < 0.9 and max(found) - min(found) > 0.1


def test_draws_reach_every_room(pool: RoomPool) -> None:
    rng = np.random.default_rng(0)
    drawn = {id(pool.draw(rng)) for _ in range(60)}
    assert len(drawn) == pool.rooms
