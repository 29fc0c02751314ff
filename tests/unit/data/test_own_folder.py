"""Any folder of audio: its clips, its copies, and its sets."""

from __future__ import annotations

import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.data.corpus import PrepareOptions, walk_files
from focalcodec.data.dataset import AudioDataset, pad_collate
from focalcodec.data.feature_cache import FeatureCache, batch_feats
from focalcodec.data.manifest import SETS_NAME, prepared_how, prepared_root, read_prepared
from focalcodec.data.own_folder import (
    OWN_OPTIONS,
    SETS,
    ShareOptions,
    first_copies,
    prepare_own,
)
from focalcodec.data.trees import find_clips
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError

BY_FILE = ShareOptions(split_by="file")


def write_clip(path: Path, seconds: float = 0.2, shape: tuple[int, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(os.fsencode(path.name)))
    sig = rng.normal(0, 0.1, (int(seconds * 8000), *shape))
    with path.open("wb") as file:  # soundfile takes no name that is not UTF-8
        soundfile.write(file, sig, 8000, format=path.suffix[1:].upper())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve speakers with three clips each, of three formats."""
    for speaker in range(12):
        for k, suffix in enumerate(("wav", "flac", "ogg")):
            write_clip(tmp_path / "talks" / f"s{speaker:02}" / f"{speaker}-{k}.{suffix}")
    return tmp_path / "talks"


def prepared(folder: Path, save: Path | None = None, **options) -> dict[str, list[dict]]:
    save = save or folder.parent / "save"
    prepare_own(folder, save, **options)
    return read_prepared(save)


def files(rows: list[dict]) -> set[str]:
    return {row["wav"] for row in rows}


def speakers(rows: list[dict]) -> set[str]:
    return {row["spk_id"] for row in rows}


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


# -- clips -----------------------------------------------------------------------------------------


def test_speakers_and_transcripts(tmp_path: Path) -> None:
    for name in ("anna/1/a.wav", "ben/b.flac", "loose.ogg", ".hidden/c.wav"):
        write_clip(tmp_path / name)
    (tmp_path / "anna/1/a.txt").write_text("\ufeffüber\n  alles\n", "utf-8")
    (tmp_path / "ben/b.txt").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "notes.txt").write_text("no clip's")
    clips = find_clips(tmp_path, walk_files(tmp_path, ""), "de")
    assert [(clip.id, clip.wav, clip.spk_id, clip.wrd) for clip in clips] == [
        ("anna/1/a", "anna/1/a.wav", "anna", "über alles"),
        ("ben/b", "ben/b.flac", "ben", ""),
        ("loose", "loose.ogg", "", ""),
    ]
    assert all(clip.extra == {"language": "de"} for clip in clips)


def test_a_transcript_too_long_for_a_manifest_is_left_out(folder: Path) -> None:
    (folder / "s00" / "0-0.txt").write_text("word " * 40_000)
    (folder / "s00" / "0-1.txt").write_text("word " * 10_000)
    rows = [row for some in prepared(folder).values() for row in some]
    assert sorted(len(row["wrd"]) for row in rows)[-2:] == [0, 49_999]


def test_one_name_with_two_suffixes(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "b.wav"):
        write_clip(tmp_path / name)
    clips = find_clips(tmp_path, walk_files(tmp_path, ""))
    assert [clip.id for clip in clips] == ["a.flac", "a.wav", "b"]


def test_copies_are_files_with_the_same_bytes(tmp_path: Path) -> None:
    contents = {"a": b"x" * 9000, "b": b"x" * 9000, "c": b"y" + b"x" * 8999, "d": b"x" * 9001}
    contents |= {"e": b"y" * 9000, "f": b"x" * 9000, "g": b"z", "h": b"z"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert first_copies(tmp_path, sorted(contents)) == {"b": "a", "f": "a", "h": "g"}


# -- clips of each set -----------------------------------------------------------------------------


def test_many_speakers_are_split_by_speaker(folder: Path) -> None:
    sets = prepared(folder)
    assert prepared_how(folder.parent / "save") == "by speaker, 12 of them"
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 30, "valid": 3, "test": 3}
    assert len(set.union(*map(speakers, sets.values()))) == sum(
        map(len, map(speakers, sets.values()))
    )
    assert all(not Path(x["wav"]).is_relative_to("$data_root") for x in sets["train"])


def test_copies_stay_together(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for speaker in range(12):
        for k in range(5):
            shutil.copy(folder / "s00" / "0-0.wav", folder / f"s{speaker:02}" / f"copy{k}.wav")
    sets = prepared(folder, shares=BY_FILE)
    assert "60 files have the same bytes as another one" in caplog.text and len(caplog.records) == 1
    assert sorted(sum("copy" in x["ID"] for x in rows) for rows in sets.values()) == [0, 0, 60]
    assert all(any("copy" not in x["ID"] for x in rows) for rows in sets.values())


def test_a_jingle_in_all_folders_does_not_join_speakers(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for speaker in range(12):
        shutil.copy(folder / "s00" / "0-0.wav", folder / f"s{speaker:02}" / "jingle.wav")
    sets = prepared(folder)
    (home,) = (name for name, rows in sets.items() if any(x["ID"] == "s00/0-0" for x in rows))
    for name, rows in sets.items():
        jingles = sum("jingle" in x["ID"] for x in rows)
        assert jingles == (len(speakers(rows)) if name == home else 0)
    assert sum(map(len, map(speakers, sets.values()))) == 12
    assert f"{12 - len(speakers(sets[home]))} copies left out" in caplog.text


def test_copies_of_a_speaker(folder: Path) -> None:
    shutil.copytree(folder / "s03", folder / "s99")
    for rows in prepared(folder).values():
        assert len(speakers(rows) & {"s03", "s99"}) in (0, 2)


def test_segments_of_a_file_stay_together(tmp_path: Path) -> None:
    for k in range(6):
        write_clip(tmp_path / "talks" / f"{k}.wav", 5.0)
    options = replace(OWN_OPTIONS, segment_seconds=2.0)
    sets = prepared(tmp_path / "talks", options=options)
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 12, "valid": 3, "test": 3}
    assert not files(sets["train"]) & files(sets["valid"] + sets["test"])


def test_one_long_file(tmp_path: Path) -> None:
    write_clip(tmp_path / "talks" / "podcast.flac", 100.0)
    sets = prepared(tmp_path / "talks", options=replace(OWN_OPTIONS, segment_seconds=7.0))
    assert prepared_how(tmp_path / "save") == "by time, since files are under 3: 1"
    edges = []
    for name in SETS:
        rows = sets[name]
        assert all(x["duration"] <= 7 and x["ID"].startswith(f"podcast_{name}") for x in rows)
        edges += [edge for x in rows for edge in (x["start"], x["stop"])]
    # One stretch of time each, one after the other, and nothing is left out.
    assert edges[0] == 0 and edges[-1] == 800_000 and edges[1:-1:2] == edges[2::2]
    assert [sum(x["num_samples"] for x in sets[name]) for name in SETS] == [640_000, 80_000, 80_000]


def test_two_files_are_both_in_each_set(tmp_path: Path) -> None:
    for name, seconds in (("a", 12.0), ("b", 30.0)):
        write_clip(tmp_path / "talks" / f"{name}.wav", seconds)
    for rows in prepared(tmp_path / "talks").values():
        assert {Path(x["wav"]).name for x in rows} == {"a.wav", "b.wav"}


# -- the same folder again -------------------------------------------------------------------------


def test_the_same_options_change_nothing_and_others_remake_all(
    folder: Path, tmp_path: Path
) -> None:
    save = tmp_path / "save"
    prepare_own(folder, save)
    before = state(save)
    assert sorted(before) == sorted(
        [*(f"{x}.csv" for x in SETS), *(f"{x}.csv.json" for x in SETS), SETS_NAME]
    )
    prepare_own(folder, save)
    assert state(save) == before
    prepare_own(folder, save, shares=ShareOptions(seed=3))
    assert state(save)["test.csv"] != before["test.csv"]
    write_clip(folder / "s00" / "new.wav")
    prepare_own(folder, save, shares=ShareOptions(seed=3))
    assert sum(map(len, read_prepared(save).values())) == 37


@pytest.mark.parametrize("damage", ["missing", "not json", "no list"])
def test_an_interrupted_preparation_is_made_again(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    save = tmp_path / "save"
    prepare_own(folder, save)
    before = (save / SETS_NAME).read_bytes()
    if damage == "missing":
        (save / SETS_NAME).unlink()
    else:
        (save / SETS_NAME).write_text("{" if damage == "not json" else "[]")
    prepare_own(folder, save)
    assert (save / SETS_NAME).read_bytes() == before


def test_a_folder_that_was_moved(folder: Path, tmp_path: Path) -> None:
    prepare_own(folder, tmp_path / "save")
    folder.rename(tmp_path / "moved")
    assert len(prepared(tmp_path / "moved", tmp_path / "save")["train"]) == 30
    assert prepared_root(tmp_path / "save") == tmp_path / "moved"


def test_relative_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    prepare_own(folder.name, "save")
    monkeypatch.chdir("/")
    assert len(read_prepared(tmp_path / "save")["train"]) == 30


def test_skip_prep(tmp_path: Path) -> None:
    prepare_own(tmp_path / "nothing", tmp_path / "save", skip_prep=True)
    assert not (tmp_path / "save").exists()


def test_names_that_are_not_utf8(folder: Path) -> None:
    name = os.fsdecode(b's\xff/caf\xe9, "x".wav')
    write_clip(folder / name)
    rows = [x for some in prepared(folder).values() for x in some if x["spk_id"] == r"s\xff"]
    assert [x["ID"] for x in rows] == [r"s\xff/caf\xe9, " + '"x"']
    assert [x["wav"] for x in rows] == [str(folder / name)]
    assert AudioDataset(rows, 8000)[0]["sig"].shape == (1600,)


def test_stereo_is_mixed_in_training_too(folder: Path) -> None:
    shutil.rmtree(folder / "s01")
    write_clip(folder / "s01" / "stereo.wav", shape=(2,))
    sig, _ = soundfile.read(folder / "s01" / "stereo.wav", dtype="float32")
    for channels, expected in (("mix", sig.mean(axis=1)), ("first", sig[:, 0])):
        sets = prepared(folder, options=replace(OWN_OPTIONS, channels=channels))
        rows = [x for some in sets.values() for x in some]
        dataset = AudioDataset([x for x in rows if x["spk_id"] == "s01"], 8000)
        assert np.array_equal(dataset[0]["sig"].numpy(), expected)
    with pytest.raises(UserError, match="stereo.wav: 2 channels"):
        prepared(folder, options=PrepareOptions(), max_broken_share=0.0)


def test_features_of_stereo_are_cached_apart(folder: Path, tmp_path: Path) -> None:
    write_clip(folder / "s01" / "stereo.wav", shape=(2,))
    cache, feats = FeatureCache(tmp_path / "cache", LogMel()), {}
    for channels in ("mix", "first"):
        sets = prepared(folder, options=replace(OWN_OPTIONS, channels=channels))
        rows = [x for some in sets.values() for x in some if x["spk_id"] == "s01"]
        for _ in range(2):  # then from the cache, of which one clip is lost
            dataset = AudioDataset(rows, 16000, cache=cache, with_sig=False)
            batch = pad_collate([dataset[k] for k in range(len(rows))])
            feats.setdefault(channels, []).append(batch_feats(LogMel(), batch, cache)[0])
            next((tmp_path / "cache").rglob("*.safetensors")).unlink()
        assert torch.allclose(*feats[channels], atol=1e-5)
    assert not torch.allclose(feats["mix"][0], feats["first"][0], atol=1e-2)


# -- errors ----------------------------------------------------------------------------------------


def test_broken_files_are_left_out_and_listed(folder: Path, tmp_path: Path) -> None:
    (folder / "s03" / "empty.wav").touch()
    (folder / "s03" / "text.flac").write_text("not audio")
    (folder / "s04" / "gone.wav").symlink_to("nowhere.wav")
    with pytest.raises(UserError, match=r"3 of 39 clips are broken.*skipped.csv.*max_broken_share"):
        prepared(folder)
    assert sorted(path.name for path in (tmp_path / "save").iterdir()) == ["skipped.csv"]
    sets = prepared(folder, max_broken_share=0.1)
    assert sum(map(len, sets.values())) == 36
    lines = (tmp_path / "save" / "skipped.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        *("path", "s03/empty.wav", "s03/text.flac", "s04/gone.wav")
    ]
    shutil.rmtree(folder / "s03")
    (folder / "s04" / "gone.wav").unlink()
    prepared(folder)
    assert not (tmp_path / "save" / "skipped.csv").exists()


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        ({}, {}, "no audio files"),
        ({"a.wav": 3.0}, {}, "too little audio .* longest has 3.0 s; give 3 files, or one of 10 s"),
        ({"a.wav": 3.0, "b.wav": 3.0}, {"shares": BY_FILE}, "too little audio"),
        (
            {"a/1.wav": 1.0, "b/1.wav": 1.1, "b/2.wav": 1.2},
            {"shares": ShareOptions(split_by="speaker")},
            "2 speakers .* with files of their own, three sets need 3; take split_by=file",
        ),
    ],
)
def test_too_little_audio(tmp_path: Path, build: dict, options: dict, message: str) -> None:
    (tmp_path / "talks").mkdir()
    for name, seconds in build.items():
        write_clip(tmp_path / "talks" / name, seconds)
    with pytest.raises(UserError, match=message) as error:
        prepared(tmp_path / "talks", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "save" / SETS_NAME).exists()


def test_other_manifests_are_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "save").mkdir()
    (tmp_path / "save" / "valid.csv").write_text("mine")
    with pytest.raises(
        UserError, match=r"valid.csv: not made by a preparation; give another folder"
    ):
        prepared(folder)
    with pytest.raises(UserError, match="is inside the data folder"):
        prepared(folder, folder / "save")
