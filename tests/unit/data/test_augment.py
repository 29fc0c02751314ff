"""Augmented copies: voices of exact lengths, the same for any process, resumable on disk."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.audio import audio_info, resampled_length
from focalcodec.data.acoustics import ClipPool
from focalcodec.data.augment import Augmenter, CopyPart, Plan, change_voice, write_copy
from focalcodec.data.corpus import walk_files
from focalcodec.data.librispeech_tree import find_clips
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
    """Frequency of a tone, Hz."""
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


def test_twins_keep_voice_and_level(rows: list[dict[str, Any]]) -> None:
    options = {"speed": (1.0, 1.0), "pitch_share": 0.0, "noisy_share": 1.0}
    twins, levelled = make(rows, peak_db=None, **options), make(rows, **options)
    row = rows[0] | {"wav": str(Path(rows[0]["wav"]).with_name("quiet.wav"))}
    soundfile.write(row["wav"], 0.1 * soundfile.read(rows[0]["wav"])[0], RATE, subtype="FLOAT")
    made = twins(row, 1)
    assert made.noisy is not None
    assert made.clean.numpy() == pytest.approx(ClipPool([row], RATE).read(row), abs=1e-6)
    assert not made.noisy.allclose(made.clean, atol=1e-4)
    assert twins.plan(row, 1) == replace(levelled.plan(row, 1), peak_db=None)


def test_draws_depend_on_seed_clip_and_copy_only(rows: list[dict[str, Any]]) -> None:
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


def test_one_share_does_not_change_other_draws(rows: list[dict[str, Any]]) -> None:
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


def test_partner_in_a_room_is_aligned(rows: list[dict[str, Any]]) -> None:
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
    ("options", "message"),
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
def test_bad_options(rows: list[dict[str, Any]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(rows, **options)


# -- copies on disk --------------------------------------------------------------------------------


MAKE = partial(Augmenter, noisy_share=0.5, rooms=2, pitch_share=0.3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    write_voices(root, "train", speakers=3, clips=4, seconds=0.4)
    return root


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    write_copy(CopyPart(corpus, root, "train", 1), MAKE, seed=1)
    return root


def hashes(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_tree_is_librispeechs(made: Path, corpus: Path) -> None:
    clips = find_clips(made, walk_files(made, "train-aug1"))
    before = find_clips(corpus, walk_files(corpus, "train"))
    assert [clip.id for clip in clips] == [clip.id.replace("-", "a1-", 1) for clip in before]
    assert [clip.wrd for clip in clips] == [clip.wrd for clip in before]
    assert {clip.spk_id for clip in clips} == {"1a1", "2a1", "3a1"}
    info = soundfile.info(made / clips[0].wav)
    assert (info.samplerate, info.subtype, info.format) == (16000, "PCM_16", "FLAC")


def test_partners_have_the_same_names(made: Path) -> None:
    clean = {clip.id: clip for clip in find_clips(made, walk_files(made, "train-aug1"))}
    noisy = find_clips(made, walk_files(made, "train-aug1-noisy"))
    assert 1 < len(noisy) < len(clean)
    for clip in noisy:
        assert clip.wrd == clean[clip.id].wrd
        infos = [audio_info(made / path) for path in (clip.wav, clean[clip.id].wav)]
        assert infos[0] == infos[1]


def test_same_bytes_from_two_processes_and_in_the_corpus_itself(
    made: Path, corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    write_copy(CopyPart(root, root, "train", 1), MAKE, seed=1, jobs=2)
    assert {k: v for k, v in hashes(root).items() if "-aug1" in k} == hashes(made)


def test_whole_files_are_kept_and_missing_ones_made(
    made: Path, corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "again"
    shutil.copytree(made, root)
    files = sorted(root.rglob("*.flac"))
    gone, kept = files[0], files[1]
    gone.unlink()
    next(root.rglob("*.trans.txt")).unlink()
    before = kept.stat().st_mtime_ns
    write_copy(CopyPart(corpus, root, "train", 1), MAKE, seed=1)
    assert hashes(root) == hashes(made) and kept.stat().st_mtime_ns == before


def test_other_options_or_clips_are_refused(made: Path, corpus: Path, tmp_path: Path) -> None:
    part = CopyPart(corpus, made, "train", 1)
    with pytest.raises(UserError, match="made with seed=1, not 2"):
        write_copy(part, MAKE, seed=2)
    with pytest.raises(UserError, match="made with noisy_share=0.5, not 0.0"):
        write_copy(part, partial(MAKE, noisy_share=0.0), seed=1)
    larger = tmp_path / "corpus"
    write_voices(larger, "train", speakers=2)
    with pytest.raises(UserError, match="made with clips=12"):
        write_copy(CopyPart(larger, made, "train", 1), MAKE, seed=1)
    write_voices(tmp_path / "out", "train-aug1")
    with pytest.raises(UserError, match="of unknown origin"):
        write_copy(CopyPart(larger, tmp_path / "out", "train", 1), MAKE, seed=1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_broken_clip_is_named_and_left_out(corpus: Path, tmp_path: Path, jobs: int) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    bad = root / "train" / "2" / "5" / "2-5-0001.flac"
    bad.write_bytes(bad.read_bytes()[:2000])
    part, make = CopyPart(root, root, "train", 1), partial(MAKE, noisy_share=0.0)
    with pytest.raises(UserError, match=r"1 of 12 clips are broken.*2-5-0001"):
        write_copy(part, make, seed=1, jobs=jobs)
    write_copy(part, make, seed=1, jobs=jobs, max_broken_share=0.1)
    with (root / "train-aug1" / "skipped.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["path"] == str(bad)
    clips = find_clips(root, walk_files(root, "train-aug1"))
    assert len(clips) == 11 and all(clip.wrd for clip in clips)
    assert "0001" not in (root / "train-aug1/2a1/5/2a1-5.trans.txt").read_text()


def test_clips_without_transcripts_or_speakers_in_their_names(tmp_path: Path) -> None:
    chapter = tmp_path / "mine" / "ann" / "x"
    chapter.mkdir(parents=True)
    write_voices(tmp_path, "other", speakers=1, clips=1)
    shutil.copy(next((tmp_path / "other").rglob("*.flac")), chapter / "hello.flac")
    write_copy(CopyPart(tmp_path, tmp_path, "mine", 2), partial(Augmenter), seed=1)
    (clip,) = find_clips(tmp_path, walk_files(tmp_path, "mine-aug2"))
    assert (clip.id, clip.spk_id, clip.wrd) == ("helloa2", "anna2", "")
    assert not list((tmp_path / "mine-aug2").rglob("*.txt"))
    about = json.loads((tmp_path / "mine-aug2" / "augment.json").read_text())
    assert about["noisy_share"] == 0.0 and "noise" not in about


@pytest.mark.parametrize(
    ("split", "jobs", "message"), [("no", 1, "no folder 'no'"), ("empty", 1, "no clips")]
)
def test_nothing_to_copy(corpus: Path, tmp_path: Path, split: str, jobs: int, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        write_copy(CopyPart(tmp_path, tmp_path, split, 1), MAKE, seed=1, jobs=jobs)


def test_no_processes(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jobs=0"):
        write_copy(CopyPart(corpus, tmp_path, "train", 1), MAKE, seed=1, jobs=0)
