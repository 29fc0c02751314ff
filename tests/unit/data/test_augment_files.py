"""Augmented copies on disk: LibriSpeech's splits, taken up where they stopped."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import soundfile

from focalcodec.audio import audio_info
from focalcodec.data.augment import Augmenter
from focalcodec.data.augment_files import CopyPart, write_copy
from focalcodec.data.corpus import walk_files
from focalcodec.data.librispeech_tree import find_clips
from focalcodec.errors import UserError
from tests.unit.data.voices import write_voices

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


def test_partners_are_beside(made: Path) -> None:
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
    ("split", "jobs", "told"), [("no", 1, "no folder 'no'"), ("empty", 1, "no clips")]
)
def test_nothing_to_copy(corpus: Path, tmp_path: Path, split: str, jobs: int, told: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=told):
        write_copy(CopyPart(tmp_path, tmp_path, split, 1), MAKE, seed=1, jobs=jobs)


def test_no_processes(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jobs=0"):
        write_copy(CopyPart(corpus, tmp_path, "train", 1), MAKE, seed=1, jobs=0)
