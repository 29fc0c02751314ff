"""Mixtures: levels as asked, input and target aligned, the same in every process."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.data.acoustics import measure_loudness
from focalcodec.data.dataset import AudioDataset
from focalcodec.data.mixtures import MixtureMaker, mixture_and_target
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from tests.unit.data.voices import RATE, voice, write_voices


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return write_voices(tmp_path_factory.mktemp("voices"))


def make(rows: list[dict[str, Any]], seed: int = 7, **options: Any) -> MixtureMaker:
    return MixtureMaker(rows, RATE, seed, **options)


def lag(late: np.ndarray, early: np.ndarray) -> int:
    """Samples that `late` comes after `early`, by cross-correlation."""
    size = 2 * len(late)
    product = np.fft.rfft(late, size) * np.conj(np.fft.rfft(early, size))
    place = int(np.argmax(np.abs(np.fft.irfft(product, size))))
    return place if place < size // 2 else place - size


def ratio_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(a**2) / np.mean(b**2)))


# -- levels ----------------------------------------------------------------------------------------


def test_loudness_is_librimixs(rows: list[dict[str, Any]]) -> None:
    maker = make(rows)
    speech, noise = [], []
    for draw in range(40):
        sources = maker.sources(rows[draw % 6], draw)
        speech.append(measure_loudness(sources.early[0], RATE))
        noise.append(measure_loudness(sources.noise, RATE))
    assert min(speech) >= -33.01 and max(speech) <= -24.99
    assert min(noise) >= -38.01 and max(noise) <= -29.99
    assert max(speech) - min(speech) > 6 and max(noise) - min(noise) > 6, "over the whole range"


@pytest.mark.parametrize("snr", [-5.0, 20.0])
@pytest.mark.parametrize("reverb_share", [0.0, 1.0])
def test_snr_is_as_asked(rows: list[dict[str, Any]], snr: float, reverb_share: float) -> None:
    options = {"snr_db": [snr, snr], "mode": "max", "reverb_share": reverb_share, "rooms": 1}
    sources = make(rows, num_speakers=2, **options).sources(rows[1], 0)
    assert ratio_db(np.sum(sources.reverberant, axis=0), sources.noise) == pytest.approx(
        snr, abs=0.01
    )


def test_snr_is_drawn_from_its_range(rows: list[dict[str, Any]]) -> None:
    maker = make(rows, snr_db=[0.0, 10.0])
    found = []
    for draw in range(30):
        sources = maker.sources(rows[0], draw)
        found.append(ratio_db(sources.reverberant[0], sources.noise))
    assert -0.01 <= min(found) < 2 and 8 < max(found) <= 10.01


def test_nothing_clips(tmp_path: Path) -> None:
    """A clip with one high peak is scaled to that peak, and the mixture as a whole."""
    sig = 0.01 * voice(1.0, 0)
    sig[8000] = 0.9
    soundfile.write(tmp_path / "a.wav", sig, RATE)
    row = {"ID": "a", "wav": str(tmp_path / "a.wav"), "spk_id": "1"}
    for snr in (None, [-40.0, -40.0]):
        maker = make([row], snr_db=snr)
        for draw in range(5):
            noisy, clean = maker(row, draw)
            assert noisy.abs().max() <= 0.901 and clean.abs().max() <= 0.901


def test_silence_gives_no_nan(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), RATE)
    row = {"ID": "a", "wav": str(tmp_path / "a.wav"), "spk_id": "1"}
    for options in ({}, {"snr_db": [5.0, 5.0]}, {"noise_folder": tmp_path}):
        noisy, clean = make([row], **options)(row, 0)
        assert noisy.isfinite().all() and not clean.any()


# -- signals ---------------------------------------------------------------------------------------


def test_signals_are_sums_of_sources(rows: list[dict[str, Any]]) -> None:
    sources = make(rows, num_speakers=3).sources(rows[0], 0)
    one, two, three = sources.early
    assert np.allclose(sources.signal("s2"), two)
    assert np.allclose(sources.signal("mix_clean"), one + two + three)
    assert np.allclose(sources.signal("mix_single"), one + sources.noise)
    assert np.allclose(sources.signal("mix_both"), one + two + three + sources.noise)


@pytest.mark.parametrize("reverb_share", [0.0, 1.0])
def test_target_is_aligned_with_mixture_and_clip(
    rows: list[dict[str, Any]], reverb_share: float
) -> None:
    maker = make(rows, snr_db=[5.0, 5.0], reverb_share=reverb_share, rooms=3)
    for row in rows[:4]:
        noisy, clean = (sig.numpy() for sig in maker(row, 0))
        clip, _ = soundfile.read(row["wav"])
        assert len(noisy) == len(clean) == len(clip)
        assert lag(noisy, clean) == 0
        assert abs(lag(clean, clip)) <= 1, "the direct path of a room may lie between two samples"


def test_late_reverberation_is_in_inputs_but_not_in_targets(rows: list[dict[str, Any]]) -> None:
    sources = make(rows, reverb_share=1.0, rooms=1).sources(rows[0], 0)
    tail = sources.reverberant[0] - sources.early[0]
    assert np.mean(tail**2) > 0.01 * np.mean(sources.early[0] ** 2)
    early = int(0.05 * RATE)
    assert not np.allclose(tail[early:], 0) and np.abs(tail[: early // 2]).max() < 1e-6
    assert np.allclose(sources.signal("mix_single"), sources.reverberant[0] + sources.noise)


def test_modes_end_with_the_shortest_and_the_longest(rows: list[dict[str, Any]]) -> None:
    samples = {row["ID"]: row["num_samples"] for row in rows}
    for draw in range(5):
        ids = make(rows, num_speakers=2).ids(rows[0], draw)
        wanted = {"min": min, "max": max}
        for mode, choose in wanted.items():
            noisy, clean = make(rows, num_speakers=2, mode=mode)(rows[0], draw)
            assert len(noisy) == len(clean) == choose(samples[clip] for clip in ids)
    full, short = (make(rows, num_speakers=2, mode=mode)(rows[0], 0) for mode in ("max", "min"))
    assert full.noisy[: len(short.noisy)].equal(short.noisy)


def test_no_speaker_twice(rows: list[dict[str, Any]]) -> None:
    maker = make(rows, num_speakers=3)
    for row in rows:
        for draw in range(5):
            ids = maker.ids(row, draw)
            assert ids[0] == row["ID"] and len({clip.split("-")[0] for clip in ids}) == 3


# -- a pure function of seed, clip and draw --------------------------------------------------------


OPTIONS = {"num_speakers": 2, "reverb_share": 0.5, "rooms": 4}


def test_order_of_rows_and_of_draws_does_not_matter(rows: list[dict[str, Any]]) -> None:
    maker, other = make(rows, **OPTIONS), make(rows[::-1], **OPTIONS)
    forward = [maker(row, draw) for row in rows for draw in (0, 1)]
    backward = [other(row, draw) for row in rows[::-1] for draw in (1, 0)][::-1]
    for one, two in zip(forward, backward, strict=True):
        assert one.noisy.equal(two.noisy) and one.clean.equal(two.clean)
    again = pickle.loads(pickle.dumps(maker))(rows[0], 0)
    assert again.noisy.equal(forward[0].noisy), "pickled, as in a data loader's worker"


def test_draws_seeds_and_clips_differ(rows: list[dict[str, Any]]) -> None:
    maker = make(rows)
    noises = [maker.sources(rows[0], draw).noise for draw in range(3)]
    noises.append(make(rows, seed=8).sources(rows[0], 0).noise)
    for place, noise in enumerate(noises):
        for other in noises[place + 1 :]:
            assert abs(np.corrcoef(noise, other)[0, 1]) < 0.5


def test_global_random_numbers_are_neither_used_nor_changed(rows: list[dict[str, Any]]) -> None:
    def state() -> tuple[Any, ...]:
        numpy_state = np.random.get_state()
        return random.getstate(), numpy_state[1].tolist(), numpy_state[2], torch.get_rng_state()

    before = state()
    first = make(rows, **OPTIONS)(rows[0], 0)
    after = state()
    assert before[:3] == after[:3] and before[3].equal(after[3])
    np.random.seed(1)
    torch.manual_seed(1)
    assert make(rows, **OPTIONS)(rows[0], 0).noisy.equal(first.noisy)


def test_resumed_run_draws_the_same(rows: list[dict[str, Any]]) -> None:
    """A sampler with a loaded state gives the mixtures of the run that did not stop."""
    dataset = AudioDataset(rows, RATE, mixer=make(rows))

    def sampler() -> EpochBatchSampler:
        return EpochBatchSampler(dataset.durations, 2, seed=3, passes=3, with_draws=True)

    whole = sampler()
    whole.set_epoch(2)
    batches = list(whole)
    drawn = [tuple(item) for batch in batches for item in batch]
    assert len(set(drawn)) == len(drawn) == 3 * len(rows), "no mixture twice"

    stopped = sampler()
    stopped.set_epoch(2)
    for _ in range(4):
        stopped.advance()
    resumed = sampler()
    resumed.load_state_dict(stopped.state_dict())
    resumed.set_epoch(2)
    left = list(resumed)
    assert left == batches[4:]
    (first, *_) = left[0]
    one, two = dataset[tuple(batches[4][0])], dataset[tuple(first)]
    assert one is not None and two is not None
    assert one["mixture"]["sig"].equal(two["mixture"]["sig"])


# -- choices ---------------------------------------------------------------------------------------


def test_each_set_uses_its_own_part_of_wham(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for split, level in {"tr": 0.1, "cv": 0.2, "tt": 0.3}.items():
        (tmp_path / split).mkdir()
        soundfile.write(tmp_path / split / "a.wav", np.full(RATE, level), RATE)
    for split, level in {"tr": 0.1, "cv": 0.2, "tt": 0.3}.items():
        maker = make([row | {"noise_split": split} for row in rows], noise_folder=tmp_path)
        assert maker.noise(100, np.random.default_rng(0), ())[0] == pytest.approx(level, abs=1e-3)
    maker = make([row | {"noise_split": "tr"} for row in rows], noise_folder=tmp_path / "tt")
    assert maker.noise(100, np.random.default_rng(0), ())[0] == pytest.approx(0.3, abs=1e-3)


def test_inputs_and_targets_by_name(rows: list[dict[str, Any]]) -> None:
    maker = make(rows, num_speakers=2, mixture="mix_clean")
    mixed = maker(rows[0], 0)
    assert mixed.noisy.equal(mixed.clean)
    sources = maker.sources(rows[0], 0).cut("min")
    single = make(rows, num_speakers=2, mixture="mix_single")(rows[0], 0)
    assert np.allclose(single.clean.numpy(), sources.early[0], atol=1e-6)
    first = make(rows, num_speakers=2, target="s1")(rows[0], 0)
    assert np.allclose(first.clean.numpy(), sources.early[0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_speakers": 0}, "num_speakers=0: give 1, 2 or 3"),
        ({"num_speakers": 4}, "num_speakers=4: the set has 3 speakers"),
        ({"mixture": "mix"}, "mixture='mix': not one of"),
        ({"target": "s2"}, "target='s2': not one of"),
        ({"num_speakers": 2, "mixture": "mix_single", "target": "mix_clean"}, "only the first"),
        ({"mode": "mean"}, "mode='mean'"),
        ({"reverb_share": 1.5}, "reverb_share=1.5"),
        ({"reverb_share": 1.0, "rooms": 0}, "rooms=0"),
        ({"babble_share": -1}, "babble_share=-1"),
        ({"snr_db": [5]}, r"snr_db=\[5\]"),
        ({"snr_db": [5, 0]}, r"snr_db=\[5, 0\]"),
        ({"noise_folder": "no/noise"}, "noise_folder no/noise: no such folder"),
    ],
)
def test_wrong_options(rows: list[dict[str, Any]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make(rows, **options)
    assert "\n" not in str(error.value)


def test_one_speaker_has_the_same_defaults_under_each_name() -> None:
    assert mixture_and_target(1, "mix_both") == ("mix_both", "s1")
    assert mixture_and_target(3, "mix_clean") == ("mix_clean", "mix_clean")
    assert mixture_and_target(1, "mix_single", "mix_clean") == ("mix_single", "mix_clean")
