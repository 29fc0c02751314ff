"""Runs: their files, resuming after a kill, and any number of processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.audio import audio_info, read_audio
from focalcodec.data.manifest import write_csv
from focalcodec.errors import UserError
from focalcodec.evaluation import card
from focalcodec.evaluation.run import evaluate
from focalcodec.evaluation.sets import SetOptions
from focalcodec.evaluation.speed import read_speed
from focalcodec.evaluation.summary import card_tables
from focalcodec.processes import Shard
from tests.unit.evaluation.runs import (
    CODEC,
    SECONDS,
    FakeJudge,
    fake_judges,
    no_judges,
    read_cards,
    small_plan,
    write_clips,
)
from tests.unit.small_codecs import golden_codec

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("corpus") / "talks")


@pytest.fixture(scope="module")
def done(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done")
    assert evaluate(small_plan(out, clips), fake_judges).cards is not None
    return out


def records(folder: Path, name: str) -> list[str]:
    lines = [x for path in folder.glob(f"records/{name}.*.jsonl") for x in path.open()]
    return [json.loads(line)["id"] for line in lines]


# -- files -----------------------------------------------------------------------------------------


def test_folder_of_a_run(clips: Path, done: Path) -> None:
    listing = json.loads((done / "talks" / "clips.json").read_text())
    assert [clip["id"] for clip in listing["clips"]] == list(SECONDS)
    assert listing["clips"][2]["speaker"] == "b"
    for clip in listing["clips"]:
        reference = audio_info(done / "talks" / clip["ref"])
        for codec in ("tiny", "original"):
            rec = audio_info(done / "talks" / codec / "audio" / Path(clip["ref"]).name)
            assert rec.num_samples == reference.num_samples == round(16000 * clip["seconds"])
    toks = np.load(done / "talks" / "tiny" / "toks.npz")
    for name in SECONDS:
        sig = read_audio(clips / f"{name}.wav", 16000)
        expected = golden_codec("tiny_50hz").encode(sig[None], 16000)[0][0]
        assert toks[name.replace("/", "_")].tolist() == expected.tolist()
    assert (
        (done / "talks" / "tiny" / "transcripts.csv")
        .read_text()
        .startswith("ID,text,level meter\n")
    )


def test_card(done: Path) -> None:
    card = json.loads((done / "talks" / "tiny" / "card.json").read_text())
    scores = [clip["scores"]["distance"] for clip in card["clips"]]
    expected = sum(v * w for v, w in scores) / sum(w for _, w in scores)
    assert card["figures"]["distance"]["value"] == pytest.approx(expected, rel=1e-12)
    assert card["figures"]["distance"]["count"] == len(SECONDS)
    assert card["figures"]["distance"]["low"] < expected < card["figures"]["distance"]["high"]
    assert card["codec"]["kbps"] == pytest.approx(0.65)
    assert len(card["codec"]["weights_sha256"]) == 64
    sent = 13 * card["usage"]["num_toks"]
    assert card["codec"]["kbps_measured"] == pytest.approx(sent / sum(SECONDS.values()) / 1000)
    assert 0 < card["codec"]["kbps_entropy"] < 1.1 * card["codec"]["kbps_measured"]
    assert card["columns"][1]["judge"] == "level meter"
    assert card["judges"] == {"level meter": {"version": "1"}}
    assert card["missing"] == ["other judge: not installed; run pip install other"]
    assert card["set"]["sha256"] == json.loads((done / "talks/clips.json").read_text())["sha256"]
    assert card["versions"]["torch"] == torch.__version__
    original = json.loads((done / "talks" / "original" / "card.json").read_text())
    assert original["codec"]["kbps"] is None and original["usage"] is None
    assert original["figures"]["distance"]["value"] == 0


def test_without_judges_there_are_cards(clips: Path, tmp_path: Path) -> None:
    outcome = evaluate(small_plan(tmp_path, clips, ["original"]), no_judges)
    assert outcome.cards is not None
    assert outcome.cards[0]["figures"] == {} and outcome.cards[0]["missing"]


def test_real_judge(tmp_path: Path) -> None:
    from focalcodec.metrics.frame_by_frame import StoiJudge

    pytest.importorskip("pystoi")
    clips = write_clips(tmp_path / "clips", {"x/1": 1.5, "x/2": 1.2})
    plan = small_plan(tmp_path / "out", clips)
    outcome = evaluate(plan, lambda panel, device: ([StoiJudge(device)], []))
    assert outcome.cards is not None
    tiny, original = (card["figures"]["stoi"]["value"] for card in outcome.cards)
    assert tiny < 0.8 and original == pytest.approx(1.0, abs=1e-3)


# -- stopping and resuming -------------------------------------------------------------------------


def test_killed_run_resumes_to_the_same_cards(clips: Path, done: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.evaluation.runs", str(clips), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    folder = tmp_path / "talks" / "tiny"
    deadline = time.monotonic() + 120
    while not list(folder.glob("records/scores*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 0 < len(records(folder, "scores-level_meter")) < len(SECONDS)
    # as after a kill during a write, and after one before the audio was written
    (path,) = folder.glob("records/scores*")
    path.write_text(path.read_text() + '{"key": "00')
    (folder / "audio" / "a_1.flac").unlink()
    evaluate(small_plan(tmp_path, clips), fake_judges)
    assert read_cards(tmp_path) == read_cards(done)
    for codec in ("tiny", "original"):
        for file in (done / "talks" / codec / "audio").iterdir():
            again = tmp_path / "talks" / codec / "audio" / file.name
            assert again.read_bytes() == file.read_bytes()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: half(run / "records" / "clips.0.jsonl"),
        lambda run: half(run / "reference" / "b_1.flac"),
        lambda run: (run / "reference" / "b_1.flac").unlink(),
        lambda run: half(run / "tiny" / "records" / "coded.0.jsonl"),
        lambda run: half(run / "tiny" / "audio" / "b_1.flac"),
        lambda run: half(run / "tiny" / "records" / "scores-level_meter.0.jsonl"),
        lambda run: half(run / "tiny" / "toks.npz"),
        lambda run: half(run / "tiny" / "card.json"),
        lambda run: half(run / "clips.json"),
    ],
)
def test_what_is_half_written_is_made_again(
    spoil: Callable[[Path], None], clips: Path, done: Path, tmp_path: Path
) -> None:
    """As a full disk leaves it."""
    shutil.copytree(done, tmp_path / "run")
    spoil(tmp_path / "run" / "talks")
    evaluate(small_plan(tmp_path / "run", clips), fake_judges)
    for path in done.rglob("*"):
        again = tmp_path / "run" / path.relative_to(done)
        if path.suffix in (".flac", ".npz", ".csv") or path.name == "clips.json":
            assert again.read_bytes() == path.read_bytes(), path.name
    assert read_cards(tmp_path / "run") == read_cards(done)


def test_a_damaged_record_of_speed_is_measured_again(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = iter((0.25, 0.5))
    monkeypatch.setattr(card, "measure_speed", lambda *_: {"encode_rtf": 1 / next(factors)})
    plan = replace(small_plan(tmp_path, clips, [f"x={CODEC}"]), speed_clips=1)

    def speed() -> dict[str, float]:
        (made,) = evaluate(plan, no_judges).cards or []
        return read_speed(made)

    expected = {"encode_real_time_factor": 0.25}
    assert speed() == speed() == expected, "measured once; the record of an earlier version is read"
    half(tmp_path / "talks" / "x" / "records" / "speed.json")
    assert speed() == {"encode_real_time_factor": 0.5}


def test_nothing_is_done_twice(clips: Path, done: Path) -> None:
    class Refusing(FakeJudge):
        def score_clip(self, clip):
            raise AssertionError("was scored already")

    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.flac")}
    evaluate(small_plan(done, clips), lambda *_: ([Refusing()], fake_judges("", "")[1]))
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.flac")} == before
    for name in ("coded", "scores-level_meter"):
        assert sorted(records(done / "talks" / "tiny", name)) == sorted(SECONDS)


def test_other_judge_version_or_model_is_computed_again(clips: Path, tmp_path: Path) -> None:
    evaluate(small_plan(tmp_path, clips, ["x=original"]), fake_judges)
    newer = evaluate(
        small_plan(tmp_path, clips, ["x=original"]), lambda *_: ([FakeJudge(version="2")], [])
    )
    assert newer.cards is not None and newer.cards[0]["judges"]["level meter"]["version"] == "2"
    folder = tmp_path / "talks" / "x"
    assert len(records(folder, "scores-level_meter")) == 2 * len(SECONDS)
    original = {path.name: path.read_bytes() for path in (folder / "audio").iterdir()}
    evaluate(small_plan(tmp_path, clips, [f"x={CODEC}"]), fake_judges)
    assert len(np.load(folder / "toks.npz").files) == len(SECONDS)
    assert all(path.read_bytes() != original[path.name] for path in (folder / "audio").iterdir())
    evaluate(small_plan(tmp_path, clips, ["x=original"]), fake_judges)
    assert all(path.read_bytes() == original[path.name] for path in (folder / "audio").iterdir())
    assert not (folder / "toks.npz").exists()


def test_other_clips_of_the_same_name_are_not_mixed_up(clips: Path, tmp_path: Path) -> None:
    louder = tmp_path / "talks"
    for name in SECONDS:
        sig = read_audio(clips / f"{name}.wav", 16000)
        (louder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(louder / f"{name}.wav", 2 * sig.numpy(), 16000)
    levels = []
    for source in (clips, louder, clips):
        evaluate(small_plan(tmp_path / "out", source, ["original"]), fake_judges)
        card = read_cards(tmp_path / "out")["original"]
        levels.append(card["figures"]["level"]["value"])
        assert card["figures"]["distance"]["value"] == 0
    assert levels[1] > 1.8 * levels[0] == 1.8 * levels[2]


def test_two_processes_give_the_same(clips: Path, done: Path, tmp_path: Path) -> None:
    evaluate(small_plan(tmp_path, clips), fake_judges, jobs=2)
    assert read_cards(tmp_path) == read_cards(done)
    files = sorted((tmp_path / "talks" / "tiny" / "records").glob("coded.*.jsonl"))
    assert [file.name for file in files] == ["coded.0.jsonl", "coded.1.jsonl"]


def test_a_failing_process_ends_the_others(tmp_path: Path) -> None:
    plan = small_plan(tmp_path / "out", write_clips(tmp_path / "talks"))
    (tmp_path / "talks" / "a" / "2.wav").unlink()
    with pytest.raises(UserError, match="2.wav: no such file"):
        evaluate(plan, fake_judges, jobs=2)
    assert not active_children()


def test_the_last_of_the_processes_of_torchrun_writes_the_cards(
    clips: Path, done: Path, tmp_path: Path
) -> None:
    plan = small_plan(tmp_path, clips)
    assert evaluate(plan, fake_judges, Shard(1, 2)).cards is None
    assert not list(tmp_path.rglob("card.json"))
    assert evaluate(plan, fake_judges, Shard(0, 2)).cards is not None
    assert read_cards(tmp_path) == read_cards(done)


# -- tasks -----------------------------------------------------------------------------------------


def write_manifest(path: Path, clips: Path, **columns: list[str]) -> Path:
    rows = [
        {"ID": name, "duration": seconds, "wav": str(clips / f"{name}.wav"), "spk_id": name[0]}
        for name, seconds in SECONDS.items()
    ]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    write_csv(path, list(rows[0]), rows)
    return path


def test_denoising_codes_the_noisy_recording(clips: Path, tmp_path: Path) -> None:
    for name in SECONDS:
        sig = read_audio(clips / f"{name}.wav", 16000).numpy()
        (tmp_path / "noisy" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "noisy" / f"{name}.wav", 0.5 * sig, 16000)
    noisy = [str(tmp_path / "noisy" / f"{name}.wav") for name in SECONDS]
    manifest = write_manifest(tmp_path / "n.csv", clips, noisy=noisy)
    options = SetOptions(task="denoising")
    plan = small_plan(tmp_path / "out", manifest, ["original"], options, task="denoising")
    evaluate(plan, fake_judges)
    folder = tmp_path / "out" / "n"
    reference, rec = (
        read_audio(folder / "reference/a_1.flac", 16000),
        read_audio(folder / "original/audio/a_1.flac", 16000),
    )
    torch.testing.assert_close(rec, 0.5 * reference, atol=1e-4, rtol=0)
    assert (folder / "input" / "a_1.flac").is_file()
    with pytest.raises(UserError, match="no column 'noisy'"):
        small_plan(tmp_path, write_manifest(tmp_path / "c.csv", clips), options=options)
    (clean,) = small_plan(tmp_path / "clean", clips, options=options).sets
    assert all(clip.input == clip.reference for clip in clean.clips), "input = reference"


def test_languages_and_kinds_have_their_own_figures(clips: Path, tmp_path: Path) -> None:
    manifest = write_manifest(
        tmp_path / "m.csv",
        clips,
        language=["en", "fr", "fr", "en", "en"],
        kind=["real"] * 2 + ["synthetic"] * 3,
    )
    plan = small_plan(tmp_path / "out", manifest, ["original"])
    assert [(s.name, s.kind, len(s.clips)) for s in plan.sets] == [
        ("m-real", "real", 2),
        ("m-synthetic", "synthetic", 3),
    ]
    outcome = evaluate(plan, fake_judges)
    assert outcome.cards is not None
    splits = outcome.cards[1]["splits"]["language"]
    assert {name: some["level"]["count"] for name, some in splits.items()} == {"en": 2, "fr": 1}
    tables = card_tables(outcome.cards)
    heads = [line for line in tables.splitlines() if line.startswith("m-")]
    assert [head.split(" clips")[0] for head in heads] == [
        *("m-real: 2", "m-real, en: 1", "m-real, fr: 1"),
        *("m-synthetic: 3", "m-synthetic, en: 2", "m-synthetic, fr: 1"),
    ]
    assert "synthetic speech; 95 % intervals" in heads[-1]


def test_conversion(clips: Path, tmp_path: Path) -> None:
    options = SetOptions(task="conversion", seed=3)
    codecs = [f"tiny={CODEC}", f"vocoder:{CODEC}", "original"]
    plan = small_plan(tmp_path, clips, codecs, options, task="conversion")
    for clip in plan.sets[0].clips:
        other = "b" if clip.speaker == "a" else "a"
        sources = [clip.target, *clip.voice]
        assert {Path(path).parent.name for path in sources} == {other}
        assert clip.voice and clip.target not in clip.voice
    again = small_plan(tmp_path, clips, options=options, task="conversion")
    assert again.sets == plan.sets
    outcome = evaluate(plan, fake_judges)
    assert "no voice conversion" in outcome.loaded.refused["vocoder:tiny_50hz"]
    assert outcome.cards is not None
    assert [column["key"] for column in outcome.cards[0]["columns"]] == ["distance"]
    assert outcome.cards[1]["figures"]["distance"]["value"] == 0, "original: not converted"
    for name, seconds in SECONDS.items():
        rec = read_audio(tmp_path / "talks/tiny/audio" / f"{name.replace('/', '_')}.flac", 16000)
        assert len(rec) == round(16000 * seconds) and rec.abs().max() > 0
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1.wav").write_bytes((clips / "a" / "1.wav").read_bytes())
    with pytest.raises(UserError, match="two speakers"):
        small_plan(tmp_path, tmp_path / "flat", options=options)
