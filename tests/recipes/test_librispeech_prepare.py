"""LibriSpeech's preparation on good, odd and broken trees."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from focalcodec.data.manifest import read_manifest, read_prepared
from focalcodec.errors import UserError

RECIPE = Path(__file__).parents[2] / "recipes" / "LibriSpeech"
_spec = importlib.util.spec_from_file_location(
    "librispeech_prepare", RECIPE / "librispeech_prepare.py"
)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
prepare_librispeech = _module.prepare_librispeech


def write_clip(path: Path, seconds: float = 0.5, rate: int = 16000, shape=(), **kwargs) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    soundfile.write(path, rng.normal(0, 0.1, (int(seconds * rate), *shape)), rate, **kwargs)


@pytest.fixture
def tree(tmp_path):
    """LibriSpeech's tree: two splits of two speakers with ten clips each."""
    root = tmp_path / "corpus"
    for split in ("train-a", "dev-a"):
        for speaker in ("7", "8"):
            folder = root / split / speaker / "1"
            for k in range(10):
                write_clip(folder / f"{speaker}-1-{split}{k:04}.flac")
            lines = [f"{speaker}-1-{split}{k:04} WORD {k}" for k in range(10)]
            (folder / f"{speaker}-1.trans.txt").write_text("\n".join(lines) + "\n")
    return root


def state(folder: Path) -> dict[str, tuple]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def prepare(root, save, **kwargs):
    prepare_librispeech(root, save, **{"tr_splits": ["train-a"], "dev_splits": ["dev-a"], **kwargs})


@pytest.mark.parametrize(
    "splits",
    [
        {"tr_splits": ["train-mini"], "dev_splits": ["dev-mini"], "te_splits": ["test-mini"]}
        | {"extra_sets": {"test-real": ["test-real"]}},
        {"tr_splits": ["train-clean-100"], "dev_splits": ["dev-clean"]},
    ],
    ids=["its splits", "splits that it has not"],
)
def test_embedded_corpus(tmp_path, capsys, splits):
    prepare_librispeech(None, tmp_path, **splits)
    (line,) = capsys.readouterr().out.splitlines()
    assert "embedded mini corpus is used" in line and "train-mini" in line
    counts = {}
    for name, rows in read_prepared(tmp_path).items():
        assert all(row["wrd"] and row["sample_rate"] == 16000 for row in rows)
        counts[name] = (len(rows), round(sum(row["duration"] for row in rows)))
    assert counts == {
        "train": (120, 301),
        "valid": (24, 60),
        "test": (24, 62),
        "test-real": (7, 32),
    }


def test_data_folder_is_only_read_and_a_second_run_does_nothing(tree, tmp_path):
    before = state(tree)
    prepare(tree, tmp_path / "save")
    made = state(tmp_path / "save")
    manifests = {f"{name}.csv{end}" for name in ("train", "valid") for end in ("", ".json")}
    assert set(made) == manifests | {"sets.json"}
    prepare(tree, tmp_path / "save")
    assert state(tmp_path / "save") == made
    assert state(tree) == before


def test_rows_have_speaker_words_and_relative_paths(tree, tmp_path):
    prepare(tree, tmp_path / "save")
    rows = read_manifest(tmp_path / "save" / "train.csv", tree)
    assert len(rows) == 20
    assert rows[0]["ID"] == "7-1-train-a0000"
    assert rows[0]["spk_id"] == "7"
    assert rows[0]["wrd"] == "WORD 0"
    assert rows[0]["num_samples"] == 8000
    assert str(tmp_path) not in (tmp_path / "save" / "train.csv").read_text()
    assert str(tmp_path) not in (tmp_path / "save" / "train.csv.json").read_text()


def test_both_folders_can_be_moved(tree, tmp_path):
    prepare(tree, tmp_path / "save")
    shutil.move(tree, tmp_path / "moved")
    shutil.move(tmp_path / "save", tmp_path / "kept")
    rows = read_manifest(tmp_path / "kept" / "train.csv", tmp_path / "moved")
    assert all(Path(row["wav"]).is_file() for row in rows)
    made = state(tmp_path / "kept")
    prepare(tmp_path / "moved", tmp_path / "kept")
    again = state(tmp_path / "kept")
    assert {name for name in made if again[name] != made[name]} == {"sets.json"}
    assert read_prepared(tmp_path / "kept")["train"] == rows


def test_other_options_or_files_make_it_again(tree, tmp_path):
    save = tmp_path / "save"
    prepare(tree, save)

    def remade(**kwargs):
        before = state(save)["train.csv"], state(save)["train.csv.json"]
        prepare(tree, save, **kwargs)
        return (state(save)["train.csv"], state(save)["train.csv.json"]) != before

    assert not remade()
    assert remade(min_seconds=0.1)
    assert remade(tr_splits=["dev-a"], dev_splits=[])
    assert remade()
    write_clip(tree / "train-a" / "8" / "2" / "8-2-0000.flac")
    assert remade()
    words = tree / "train-a" / "7" / "1" / "7-1.trans.txt"
    words.write_text(words.read_text().replace("WORD 0", "WERD 0"))
    assert remade()
    assert "WERD 0" in (save / "train.csv").read_text()


@pytest.mark.parametrize("damage", ["{", "[]"])
def test_damaged_sidecar_is_refused(tree, tmp_path, damage):
    prepare(tree, tmp_path / "save")
    manifest, sidecar = tmp_path / "save" / "train.csv", tmp_path / "save" / "train.csv.json"
    whole = manifest.read_bytes()
    sidecar.write_text(damage)
    with pytest.raises(UserError, match="may have been changed by hand"):
        prepare(tree, tmp_path / "save")
    assert manifest.read_bytes() == whole
    sidecar.unlink()
    manifest.unlink()
    prepare(tree, tmp_path / "save")
    assert manifest.read_bytes() == whole
    assert json.loads(sidecar.read_text())["clips"] == 20


@pytest.mark.parametrize("change", ["cut", "edited", "slip"])
def test_changed_manifest_is_kept(tree, tmp_path, change):
    prepare(tree, tmp_path / "save")
    manifest = tmp_path / "save" / "train.csv"
    whole = manifest.read_bytes()
    changed = {"cut": whole[:100], "edited": whole.replace(b"WORD 1", b"WARD 1")}
    changed["slip"] = changed["edited"].replace(b"WORD 2", b"WO,RD 2", 1)
    manifest.write_bytes(changed[change])
    prepare(tree, tmp_path / "save")
    assert manifest.read_bytes() == changed[change]
    if change != "edited":
        with pytest.raises(UserError, match="train.csv, line .*correct it, or remove the file"):
            read_prepared(tmp_path / "save")


def test_skip_prep_touches_nothing(tmp_path):
    prepare("/no/such/folder", tmp_path / "save", skip_prep=True)
    assert not list(tmp_path.iterdir())


def test_libritts_tree_at_24_khz(tmp_path):
    folder = tmp_path / "LibriTTS" / "dev-clean" / "84" / "121123"
    for k in range(3):
        write_clip(folder / f"84_121123_00000{k}_000000.wav", rate=24000)
    (folder / "84_121123_000000_000000.normalized.txt").write_text("Go on, I\n say.\n")
    (folder / "84_121123_000000_000000.original.txt").write_text("not this")
    (folder / "84_121123_000001_000000.original.txt").write_text("Nº 1")
    (folder / "84_121123.trans.tsv").write_text("84_121123_000002_000000\tx\ty\n")
    prepare_librispeech(tmp_path / "LibriTTS", tmp_path / "save", te_splits=["dev-clean"])
    rows = read_manifest(tmp_path / "save" / "test.csv", tmp_path / "LibriTTS")
    assert [row["wrd"] for row in rows] == ["Go on, I say.", "Nº 1", ""]
    assert {row["sample_rate"] for row in rows} == {24000}
    assert rows[0]["duration"] == 0.5


def test_opus_clips_and_unicode_names(tmp_path):
    folder = tmp_path / "corpus" / "träin 語" / "спикер" / "1"
    write_clip(folder / "ö-1-0000.ogg", subtype="OPUS", format="OGG")
    (folder / "ö-1.trans.txt").write_text("ö-1-0000 ÄH\n", encoding="utf-8")
    prepare_librispeech(tmp_path / "corpus", tmp_path / "save", tr_splits=["träin 語"])
    (row,) = read_manifest(tmp_path / "save" / "train.csv", tmp_path / "corpus")
    assert (row["ID"], row["spk_id"], row["wrd"]) == ("ö-1-0000", "спикер", "ÄH")


def test_missing_transcripts_are_counted_not_dropped(tree, tmp_path, caplog):
    (tree / "train-a" / "7" / "1" / "7-1.trans.txt").unlink()
    with caplog.at_level(logging.WARNING):
        prepare(tree, tmp_path / "save")
    assert "10 of 20 clips have no transcript; kept" in caplog.text
    assert len(read_manifest(tmp_path / "save" / "train.csv", tree)) == 20
    sidecar = json.loads((tmp_path / "save" / "train.csv.json").read_text())
    assert sidecar["without_transcript"] == 10


def break_clips(folder: Path) -> dict[str, str]:
    """Broken files of each kind, and the text that the report must have."""
    folder.mkdir(parents=True)
    (folder / "0-empty.flac").touch()
    (folder / "0-text.flac").write_text("no audio" * 99)
    write_clip(folder / "0-cut.flac", 2.0)
    content = (folder / "0-cut.flac").read_bytes()
    (folder / "0-cut.flac").write_bytes(content[: len(content) // 2])
    write_clip(folder / "0-stereo.flac", shape=(2,))
    write_clip(folder / "0-short.flac", 0.01)
    return {
        "0-cut.flac": "truncated",
        "0-empty.flac": "0 bytes",
        "0-short.flac": "shorter than min_seconds",
        "0-stereo.flac": "2 channels",
        "0-text.flac": "not audio",
    }


def test_broken_clips_are_left_out_and_listed(tree, tmp_path, caplog):
    expected = break_clips(tree / "train-a" / "9" / "1")
    with caplog.at_level(logging.WARNING):
        prepare(tree, tmp_path / "save", max_broken_share=0.3)
    report = tmp_path / "save" / "train.skipped.csv"
    with report.open(newline="") as file:
        listed = {row["path"].rsplit("/")[-1]: row["reason"] for row in csv.DictReader(file)}
    assert listed.keys() == expected.keys()
    assert all(reason in listed[name] for name, reason in expected.items())
    assert len(read_manifest(tmp_path / "save" / "train.csv", tree)) == 20
    assert "5 of 25 clips are broken" in caplog.text
    shutil.rmtree(tree / "train-a" / "9")
    prepare(tree, tmp_path / "save")
    assert not report.exists()


def test_too_many_broken_clips_stop_before_anything_is_made(tree, tmp_path):
    break_clips(tree / "train-a" / "9" / "1")
    with pytest.raises(UserError, match="5 of 25 clips are broken, listed in .*train.skipped.csv"):
        prepare(tree, tmp_path / "save")
    assert [path.name for path in (tmp_path / "save").iterdir()] == ["train.skipped.csv"]


def test_hidden_and_other_files_are_skipped(tree, tmp_path):
    (tree / "train-a" / "7" / "1" / "._7-1-train-a0000.flac").write_bytes(b"finder")
    (tree / "train-a" / "7" / "readme.txt").write_text("x")
    write_clip(tree / "train-a" / "stray.flac")
    prepare(tree, tmp_path / "save")
    assert len(read_manifest(tmp_path / "save" / "train.csv", tree)) == 20


@pytest.mark.skipif(os.name == "nt", reason="platform: links need rights on Windows")
def test_linked_split_is_followed(tree, tmp_path):
    (tree / "linked").symlink_to(tree / "train-a")
    prepare_librispeech(tree, tmp_path / "save", te_splits=["linked"])
    assert len(read_manifest(tmp_path / "save" / "test.csv", tree)) == 20


@pytest.mark.skipif(os.name == "nt", reason="platform: links need rights on Windows")
def test_broken_link_is_listed(tree, tmp_path):
    (tree / "train-a" / "7" / "1" / "7-1-gone.flac").symlink_to(tmp_path / "gone.flac")
    prepare(tree, tmp_path / "save")
    assert "no such file" in (tmp_path / "save" / "train.skipped.csv").read_text()


def test_id_twice_is_refused(tree, tmp_path):
    write_clip(tree / "train-a" / "7" / "1" / "7-1-train-a0000.wav")
    with pytest.raises(UserError, match=r"ID '7-1-train-a0000' twice, .*\.flac and .*\.wav"):
        prepare(tree, tmp_path / "save")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tr_splits": ["train-b"]}, "no folder 'train-b'.*expected .*there are: dev-a, train-a"),
        ({"tr_splits": ["train-a", "train-a"]}, "'train-a' twice"),
        ({"tr_splits": "train-a"}, "is not a list"),
        ({"tr_splits": [], "dev_splits": []}, "name at least one split"),
        ({"extra_sets": {"valid": ["dev-a"]}}, "'valid' is the name of a standard set"),
        ({"channels": "left"}, "channels='left'"),
        ({"max_broken_share": 5}, "max_broken_share=5"),
        ({"min_seconds": -1}, "min_seconds=-1"),
    ],
)
def test_bad_options_are_refused(tree, tmp_path, kwargs, message):
    with pytest.raises(UserError, match=message) as error:
        prepare(tree, tmp_path / "save", **kwargs)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "save").exists()


def test_bad_folders_are_refused(tree, tmp_path):
    with pytest.raises(UserError, match="missing: no such folder"):
        prepare(tmp_path / "missing", tmp_path / "save")
    with pytest.raises(UserError, match="did you mean .*corpus"):
        prepare(tmp_path, tmp_path.parent / "save")
    with pytest.raises(UserError, match="is inside the data folder"):
        prepare(tree, tree / "save")
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match="no clips in empty"):
        prepare(tree, tmp_path / "save", tr_splits=["empty"])


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_line_ends_split_transcripts(tree, tmp_path, character):
    folder = tree / "train-a" / "7" / "1"
    text = f"\ufeff7-1-train-a0000 ONE{character}TWO\r\n\n7-1-train-a0001\tTHREE  FOUR \n"
    (folder / "7-1.trans.txt").write_bytes(text.encode())
    prepare(tree, tmp_path / "save")
    words = {row["ID"]: row["wrd"] for row in read_manifest(tmp_path / "save/train.csv", tree)}
    assert words["7-1-train-a0000"] == f"ONE{character}TWO"
    assert words["7-1-train-a0001"] == "THREE  FOUR"


@pytest.mark.parametrize("space", ["\t", "\u00a0", " ", "\t ", " \u00a0"])
def test_any_space_after_the_id(tree, tmp_path, space):
    folder = tree / "train-a" / "7" / "1"
    (folder / "7-1.trans.txt").write_text(f"7-1-train-a0000{space}ONE TWO\n", "utf-8")
    prepare(tree, tmp_path / "save")
    words = {row["ID"]: row["wrd"] for row in read_manifest(tmp_path / "save/train.csv", tree)}
    assert words["7-1-train-a0000"] == "ONE TWO"


def test_transcript_that_is_not_utf8_is_reported(tree, tmp_path):
    (tree / "train-a" / "7" / "1" / "7-1.trans.txt").write_bytes(b"7-1-train-a0000 \xff\xfe\n")
    with pytest.raises(UserError, match=r"7-1\.trans\.txt, line 1: not UTF-8"):
        prepare(tree, tmp_path / "save")


# -- one split shared out to all sets, for the probe of speakers -----------------------------------


def shared(root, save, **kwargs):
    splits = {"tr_splits": ["train-a", "dev-a"], "dev_splits": []}
    prepare(root, save, **{**splits, "shares": [0.8, 0.1, 0.1], **kwargs})
    return read_prepared(save)


def test_all_speakers_are_in_all_sets(tree, tmp_path):
    sets = shared(tree, tmp_path / "save")
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 32, "valid": 4, "test": 4}
    assert len({row["ID"] for rows in sets.values() for row in rows}) == 40
    for rows in sets.values():
        assert {row["spk_id"] for row in rows} == {"7", "8"}


def test_the_split_depends_on_its_seed_and_is_kept(tree, tmp_path):
    first = shared(tree, tmp_path / "a")["test"]
    before = state(tmp_path / "a")
    assert shared(tree, tmp_path / "a")["test"] == first and state(tmp_path / "a") == before
    assert shared(tree, tmp_path / "b")["test"] == first
    assert shared(tree, tmp_path / "a", split_seed=7)["test"] != first


def test_a_speaker_of_one_clip_is_trained_on(tree, tmp_path):
    write_clip(tree / "train-a" / "9" / "1" / "9-1-0000.flac")
    assert "9" in {row["spk_id"] for row in shared(tree, tmp_path / "save")["train"]}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"shares": [0.8, 0.2]}, "give three shares above 0"),
        ({"shares": [0.8, 0.1, 0.2]}, "give three shares above 0"),
        ({"shares": [0.9, 0.1, 0.0]}, "give three shares above 0"),
        ({"te_splits": ["dev-a"]}, "'test' names splits too"),
    ],
)
def test_wrong_shares_are_refused(tree, tmp_path, kwargs, message):
    with pytest.raises(UserError, match=message):
        shared(tree, tmp_path / "save", **kwargs)
