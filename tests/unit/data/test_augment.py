"""Augmented copies: other voices of exact lengths, the same however they are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from focalcodec.audio import resampled_length
from focalcodec.data.augment import Augmenter, Plan, change_voice
from focalcodec.data.noise import ClipPool
from focalcodec.errors import UserError
from tests.unit.data.voices import RATE, write_voices


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return write_voices(tmp_path_factory.mktemp("voices"), seconds=0.5)


def make(rows: list[dict[str, Any]], **options: Any) -> Augmenter:
    return Augmenter(rows, RATE, seed=1, rooms=2, **options)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def pitch(sig: np.ndarray) -> float:
    """Of a tone, Hz."""
    spectrum = np.abs(np.fft.rfft(sig * np.hanning(len(sig)), 1 << 18))
    return float(np.argmax(spectrum) * RATE / (1 << 18))


@pytest.mark.parametrize("speed", [0.85, 0.937, 1.0, 1.15])
def test_speed_changes_length_and_pitch_alike(speed: float) -> None:
    plan = Plan(0.0, round(RATE / speed), peak_db=-6.0, noisy=False)
    sig = change_voice(tone(440, 0.9), RATE, plan)
    assert len(sig) == resampled_length(round(0.9 * RATE), RATE, plan.new_rate)
    assert pitch(sig) == pytest.approx(440 * RATE / plan.new_rate, rel=1e-3)


@pytest.mark.parametrize("semitones", [-3.0, 1.5, 3.0])
def test_pitch_keeps_the_length(semitones: float) -> None:
    sig = change_voice(tone(440), RATE, Plan(semitones, RATE, 0.0, False))
    assert len(sig) == RATE
    assert pitch(sig[1000:-1000]) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)


@pytest.mark.parametrize("plan", [Plan(2.0, RATE, -3.0, False), Plan(0.0, 15000, -3.0, False)])
@pytest.mark.parametrize("samples", [1, 5, 300])
def test_short_clips_and_silence(plan: Plan, samples: int) -> None:
    silence = change_voice(np.zeros(samples), RATE, plan)
    assert len(silence) == resampled_length(samples, RATE, plan.new_rate)
    assert not silence.any()
    assert np.isfinite(change_voice(np.ones(samples), RATE, plan)).all()


def test_level() -> None:
    sig = change_voice(0.01 * tone(440), RATE, Plan(0.0, 15000, peak_db=-12.0, noisy=False))
    assert np.abs(sig).max() == pytest.approx(10 ** (-12 / 20))


def test_draws_depend_on_seed_clip_and_copy_alone(rows: list[dict[str, Any]]) -> None:
    options = {"noisy_share": 1.0, "pitch_share": 0.5}
    one, other = make(rows, **options), make(rows[::-1], **options)
    made = [one(row, 1) for row in rows]
    for row, before in zip(rows[::-1], made[::-1], strict=True):
        again = other(row, 1)
        assert again.noisy is not None and before.noisy is not None
        assert again.clean.equal(before.clean) and again.noisy.equal(before.noisy)
    assert len({one.plan(row, copy) for row in rows for copy in (1, 2)}) == 2 * len(rows)
    assert Augmenter(rows, RATE, seed=2, rooms=2).plan(rows[0], 1) != one.plan(rows[0], 1)


def test_shares_and_ranges(rows: list[dict[str, Any]]) -> None:
    augmenter = make(rows, pitch_share=0.3, noisy_share=0.4, peak_db=(-9.0, -3.0), speed=(0.9, 1.2))
    plans = [augmenter.plan({"ID": f"clip{k}"}, 1) for k in range(2000)]
    assert np.mean([plan.semitones != 0 for plan in plans]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([plan.noisy for plan in plans]) == pytest.approx(0.4, abs=0.04)
    assert all(plan.semitones == 0 or plan.new_rate == RATE for plan in plans)
    assert all(-9 <= plan.peak_db <= -3 for plan in plans)
    speeds = [RATE / plan.new_rate for plan in plans if not plan.semitones]
    assert 0.8999 < min(speeds) < 0.91 and 1.19 < max(speeds) < 1.2001


def test_one_share_leaves_the_other_draws(rows: list[dict[str, Any]]) -> None:
    quiet, loud = make(rows), make(rows, noisy_share=1.0)
    for row in rows:
        plans = quiet.plan(row, 3), loud.plan(row, 3)
        assert plans[0].new_rate == plans[1].new_rate and plans[0].peak_db == plans[1].peak_db
        assert not plans[0].noisy and plans[1].noisy


def test_partner_is_the_clip_in_noise(rows: list[dict[str, Any]]) -> None:
    options = {"peak_db": (-20.0, -20.0), "noisy_share": 1.0, "snr_db": (10.0, 10.0)}
    dry = make(rows, reverb_share=0.0, babble_share=0.0, **options)
    for row in rows:
        made = dry(row, 1)
        assert made.noisy is not None
        noise = made.noisy - made.clean
        ratio = 10 * torch.log10((made.clean**2).mean() / (noise**2).mean())
        assert float(ratio) == pytest.approx(10.0, abs=0.01)
        assert abs(np.corrcoef(noise, made.clean)[0, 1]) < 0.1


def test_partner_in_a_room_is_in_line(rows: list[dict[str, Any]]) -> None:
    made = make(rows, noisy_share=1.0, reverb_share=1.0, snr_db=(60.0, 60.0))(rows[0], 1)
    assert made.noisy is not None
    power = 1 << (2 * len(made.clean)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(made.noisy, power) * np.fft.rfft(made.clean, power).conj())
    assert np.argmax(np.abs(cross)) in (0, 1, power - 1)
    assert not made.noisy.allclose(made.clean, atol=1e-2)


def test_loud_pairs_are_scaled_together(rows: list[dict[str, Any]]) -> None:
    options = {"noisy_share": 1.0, "snr_db": (-10.0, -10.0), "reverb_share": 0.0}
    made = make(rows, peak_db=(0.0, 0.0), **options)(rows[0], 1)
    assert made.noisy is not None
    assert float(made.noisy.abs().max()) == pytest.approx(0.99, abs=1e-6)
    assert float(made.clean.abs().max()) < 0.9


def test_another_rate_is_resampled(rows: list[dict[str, Any]]) -> None:
    half = Augmenter(rows, 8000, seed=1, speed=(1.0, 1.0), pitch_share=0.0, peak_db=(0.0, 0.0))
    sig = ClipPool(rows, 8000).read(rows[0])
    assert half(rows[0], 1).clean.numpy() == pytest.approx(sig / np.abs(sig).max(), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"speed": (1.1, 0.9)}, "speed="),
        ({"speed": (0.0, 1.0)}, "within 0.25 and 4"),
        ({"semitones": (0.0,)}, "semitones="),
        ({"peak_db": (-3.0, 1.0)}, "peak_db="),
        ({"snr_db": (float("nan"), 1.0)}, "snr_db="),
        ({"pitch_share": 1.5}, "pitch_share=1.5"),
        ({"noisy_share": -0.1}, "noisy_share=-0.1"),
        ({"noisy_share": 1.0, "noise_folder": Path("no")}, "noise_folder no"),
    ],
)
def test_options_that_are_none(
    rows: list[dict[str, Any]], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        make(rows, **options)
