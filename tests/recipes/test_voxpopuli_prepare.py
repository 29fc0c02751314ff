"""VoxPopuli's preparation on good, odd and broken trees, and a run on the embedded corpus."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from focalcodec.audio import read_audio
from focalcodec.data.corpus import embedded_corpus
from focalcodec.data.manifest import read_prepared
from focalcodec.errors import UserError

RECIPE = Path(__file__).parents[2] / "recipes" / "VoxPopuli"
_spec = importlib.util.spec_from_file_location("voxpopuli_prepare", RECIPE / "voxpopuli_prepare.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
prepare_voxpopuli = _module.prepare_voxpopuli

HEADER = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender"
DAY = {"train": "20120110", "dev": "20130205", "test": "20140312"}  # each split has its sittings


def write_ogg(path: Path, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sig = np.random.default_rng(len(path.name)).normal(0, 0.1, int(seconds * 16000))
    soundfile.write(path, sig, 16000, format="OGG", subtype="VORBIS")


def clip_id(language: str, split: str, number: int) -> str:
    """ID like the real ones: recording, agenda item, language, time of day."""
    return f"{DAY[split]}-0900-PLENARY-3-{language}_{DAY[split]}-10-0{number}-00_{number}"


def tsv(root: Path, language: str = "de", split: str = "train") -> Path:
    return root / "transcribed_data" / language / f"asr_{split}.tsv"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """German, French and Lithuanian; unlabelled segments of German, a recording of Maltese."""
    root = tmp_path / "VoxPopuli"
    for language, train in (("de", 8), ("fr", 4), ("lt", 2)):
        for split, count in (("train", train), ("dev", 2), ("test", 2)):
            lines = [HEADER]
            for number in range(count):
                name = clip_id(language, split, number)
                write_ogg(tsv(root, language, split).parent / DAY[split][:4] / f"{name}.ogg")
                lines.append(f'{name}\tRaw "{number}.\traw {number}\t7{number}\t{split}\tfemale')
            tsv(root, language, split).write_text("\n".join(lines) + "\n", encoding="utf-8")
    segments = root / "unlabelled_data" / "de"
    for recording in ("20120110-0900-PLENARY", "20130205-0900-PLENARY", "20140312-0900-PLENARY-3"):
        for number in range(3):
            write_ogg(segments / recording[:4] / f"{recording}_de_{number}.ogg")
    (segments / "2012" / "notes.txt").write_text("not audio")
    for language in ("de", "mt"):
        name = f"20120110-0900-PLENARY_{language}.ogg"
        write_ogg(root / "raw_audios" / language / "2012" / name, seconds=2.5)
    return root


def prepare(root: Path | None, save: Path, **options) -> dict[str, list[dict]]:
    prepare_voxpopuli(root, save, **{"languages": ["de", "fr", "lt"], **options})
    return read_prepared(save)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def skipped(save: Path, name: str = "train") -> list[dict[str, str]]:
    with (save / f"{name}.skipped.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def edit(path: Path, change) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


# -- good trees ------------------------------------------------------------------------------------


def test_rows(root: Path, tmp_path: Path) -> None:
    before = contents(root)
    sets = prepare(root, tmp_path / "save")
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 14, "valid": 6, "test": 6}
    row = sets["train"][1]
    assert row["ID"] == clip_id("de", "train", 1)
    assert (row["language"], row["spk_id"], row["wrd"]) == ("de", "71", "raw 1")
    assert row["num_samples"] == 8000
    assert Counter(row["language"] for row in sets["train"]) == {"de": 8, "fr": 4, "lt": 2}
    assert str(root) not in (tmp_path / "save" / "train.csv").read_text()
    assert contents(root) == before, "the data folder is only read"


def test_chosen_languages_and_splits(root: Path, tmp_path: Path) -> None:
    sets = prepare(root, tmp_path, languages=["fr"], splits=["test"])
    assert {name: len(rows) for name, rows in sets.items()} == {"test": 2}
    assert {row["language"] for row in sets["test"]} == {"fr"}


def test_quotation_marks_and_tabs_are_kept(root: Path, tmp_path: Path) -> None:
    """A single quotation mark does not join the lines after it."""
    edit(tsv(root), lambda text: text.replace("\traw 0\t", '\t"raw 0\t'))
    rows = prepare(root, tmp_path)["train"]
    assert len(rows) == 14 and rows[0]["wrd"] == '"raw 0'


def test_raw_text_is_used_if_there_is_no_other(root: Path, tmp_path: Path) -> None:
    edit(tsv(root), lambda text: text.replace("\traw 0\t", "\t\t").replace("\n", "\r\n"))
    rows = prepare(root, tmp_path)["train"]
    assert rows[0]["wrd"] == 'Raw "0.' and rows[1]["wrd"] == "raw 1"


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_only_line_ends_split_the_table(root: Path, tmp_path: Path, character: str) -> None:
    edit(tsv(root), lambda text: text.replace("\traw 0\t", f"\traw{character}0\t"))
    rows = prepare(root, tmp_path)["train"]
    assert len(rows) == 14 and rows[0]["wrd"] == f"raw{character}0"


def test_more_columns_and_empty_lines(root: Path, tmp_path: Path) -> None:
    edit(tsv(root), lambda text: text.replace("\n", "\tTrue\n") + "\n\t\t\t\t\t\t\n\n")
    assert len(prepare(root, tmp_path)["train"]) == 14
    assert not (tmp_path / "train.skipped.csv").exists()


def test_embedded_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = prepare(None, tmp_path / "five", languages=["en", "es", "fr", "it", "ru"])
    assert {name: len(rows) for name, rows in sets.items()} == {
        "train": 50,
        "valid": 15,
        "test": 15,
    }
    assert all(row["wrd"] and row["spk_id"] and row["language"] for row in sets["test"])
    some = prepare(None, tmp_path / "some", languages=["de", "fr", "en"])
    assert {row["language"] for row in some["train"]} == {"en", "fr"}
    assert "embedded mini corpus is used, fr, en" in capsys.readouterr().out
    with pytest.raises(UserError, match="the embedded corpus has en, es, fr, it, ru"):
        prepare(None, tmp_path / "none", languages=["de"])


# -- unlabelled speech -----------------------------------------------------------------------------


def test_unlabelled_segments(root: Path, tmp_path: Path) -> None:
    """Two of three recordings contain dev and test clips, so they are left out."""
    sets = prepare(root, tmp_path, unlabelled=["de"])
    new = [row for row in sets["train"] if "/unlabelled_data/" in row["wav"]]
    assert [row["ID"] for row in new] == [f"20120110-0900-PLENARY_de_{n}" for n in range(3)]
    assert {(row["language"], row["wrd"]) for row in new} == {("de", "")}
    assert len(sets["train"]) == 17 and len(sets["valid"]) == len(sets["test"]) == 6


def test_recordings_of_other_languages_test_sets_are_kept(root: Path, tmp_path: Path) -> None:
    sets = prepare(root, tmp_path, languages=["fr", "lt"], unlabelled=["de"])
    assert sum("unlabelled_data" in row["wav"] for row in sets["train"]) == 9


def test_whole_recordings_are_cut(root: Path, tmp_path: Path) -> None:
    sets = prepare(root, tmp_path, unlabelled=["mt"], segment_seconds=1.0)
    rows = [row for row in sets["train"] if row["language"] == "mt"]
    assert len(rows) == 3
    assert [row["ID"] for row in rows] == [f"20120110-0900-PLENARY_mt_000{n}" for n in range(3)]
    assert rows[0]["start"] == 0 and rows[-1]["stop"] == 40000
    assert [row["start"] for row in rows[1:]] == [row["stop"] for row in rows[:-1]]
    assert all(row["duration"] <= 1.0 for row in rows)
    pieces = [
        read_audio(row["wav"], 16000, start=row["start"], frames=row["stop"] - row["start"])
        for row in rows
    ]
    assert sum(map(len, pieces)) == 40000


def test_other_unlabelled_speech_makes_it_again(root: Path, tmp_path: Path) -> None:
    assert len(prepare(root, tmp_path)["train"]) == 14
    assert len(prepare(root, tmp_path, unlabelled=["de"])["train"]) == 17
    write_ogg(root / "unlabelled_data" / "de" / "2012" / "20120111-0900-PLENARY_de_0.ogg")
    assert len(prepare(root, tmp_path, unlabelled=["de"])["train"]) == 18
    assert len(prepare(root, tmp_path)["train"]) == 14


# -- again, or not ---------------------------------------------------------------------------------


def test_second_time_does_nothing(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "save")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "save").glob("*.csv")}
    prepare(root, tmp_path / "save")
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_changed_tsv_makes_it_again(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path)
    edit(tsv(root, "fr", "dev"), lambda text: text.replace("raw 1", "other words"))
    assert "other words" in [row["wrd"] for row in prepare(root, tmp_path)["valid"]]
    edit(tsv(root, "fr"), lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    assert len(prepare(root, tmp_path)["train"]) == 13


def test_skip_prep_touches_nothing(tmp_path: Path) -> None:
    prepare_voxpopuli("/no/such/folder", tmp_path / "save", languages=["de"], skip_prep=True)
    assert not list(tmp_path.iterdir())


# -- broken clips: listed --------------------------------------------------------------------------


def first_line(text: str) -> str:
    return text.splitlines(keepends=True)[1]


BROKEN_LINES = {
    "duplicate": (lambda text: text + first_line(text), "line 10: ID .* is on line 2 already"),
    "cut": (lambda text: text[: text.rindex("\tfemale")], "line 9: more or fewer values than"),
    "tab": (lambda text: text.replace("raw 3", "raw\t3"), "line 5: more or fewer values than"),
    "no_id": (lambda text: text.replace(clip_id("de", "train", 2), ""), "line 4: no ID"),
    "no_audio": (lambda text: text.replace("_10-03-00_3", "_10-09-00_9"), "no such file"),
}


@pytest.mark.parametrize("name", BROKEN_LINES)
def test_broken_line_is_listed(root: Path, tmp_path: Path, name: str) -> None:
    change, told = BROKEN_LINES[name]
    if name == "no_audio":
        (root / "transcribed_data" / "de" / "2012" / f"{clip_id('de', 'train', 3)}.ogg").unlink()
    else:
        edit(tsv(root), change)
    rows = prepare(root, tmp_path, max_broken_share=0.1)["train"]
    assert len(rows) == (14 if name == "duplicate" else 13)
    (broken,) = skipped(tmp_path)
    assert re.search(told, broken["reason"]), broken["reason"]
    with pytest.raises(UserError, match=r"1 of \d+ clips are broken.*max_broken_share=0.05"):
        prepare(root, tmp_path / "strict")


@pytest.mark.parametrize("damage", ["empty", "header", "short", "noise"])
def test_broken_audio_is_listed(root: Path, tmp_path: Path, damage: str) -> None:
    path = root / "transcribed_data" / "fr" / "2012" / f"{clip_id('fr', 'train', 1)}.ogg"
    if damage == "short":
        write_ogg(path, seconds=0.01)
    else:
        content = {"empty": b"", "header": path.read_bytes()[:60], "noise": b"\xff" * 4000}
        path.write_bytes(content[damage])
    assert len(prepare(root, tmp_path, max_broken_share=0.1)["train"]) == 13
    (broken,) = skipped(tmp_path)
    assert broken["path"].endswith(path.name)


# -- broken corpora: one line ----------------------------------------------------------------------


def refusal(root: Path, tmp_path: Path, **options) -> str:
    with pytest.raises(UserError) as error:
        prepare(root, tmp_path / "save", **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_language(root: Path, tmp_path: Path) -> None:
    told = refusal(root, tmp_path, languages=["de", "fi"])
    assert "no folder 'fi'" in told and "did you mean" in told
    assert "there are: de, fr, lt" in told


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_missing_split(root: Path, tmp_path: Path, split: str) -> None:
    tsv(root, "lt", split).unlink()
    told = refusal(root, tmp_path)
    assert f"no asr_{split}.tsv" in told and "leave 'lt' out of languages" in told


@pytest.mark.parametrize("column", ["id", "raw_text", "normalized_text", "speaker_id"])
def test_missing_column(root: Path, tmp_path: Path, column: str) -> None:
    edit(tsv(root, "fr"), lambda text: text.replace(column, "other", 1))
    told = refusal(root, tmp_path)
    assert f"no column '{column}'" in told and "asr_train.tsv" in told


def test_empty_tsv(root: Path, tmp_path: Path) -> None:
    tsv(root, "fr", "dev").write_text("")
    assert "no column 'id'" in refusal(root, tmp_path)
    for language in ("de", "fr", "lt"):
        tsv(root, language, "dev").write_text(HEADER + "\n")
    assert "no clips in transcribed_data/de/asr_dev.tsv" in refusal(root, tmp_path)


def test_not_utf8(root: Path, tmp_path: Path) -> None:
    path = tsv(root, "fr")
    path.write_bytes(path.read_text().replace("raw 1", "r\u00e9p\u00e9t\u00e9").encode("latin-1"))
    told = refusal(root, tmp_path)
    assert f"{path}, line 3: not UTF-8" in told


def test_other_folder(root: Path, tmp_path: Path) -> None:
    assert "no folder transcribed_data" in refusal(root / "transcribed_data", tmp_path)
    assert "no such folder" in refusal(root / "nothing", tmp_path)


def test_one_id_in_two_languages(root: Path, tmp_path: Path) -> None:
    name = clip_id("de", "train", 0)
    write_ogg(root / "transcribed_data" / "fr" / "2012" / f"{name}.ogg")
    edit(tsv(root, "fr"), lambda text: text.replace(clip_id("fr", "train", 0), name))
    told = refusal(root, tmp_path)
    assert "twice" in told and "transcribed_data/fr" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"languages": "de"}, "languages: 'de' is not a list; write [de]"),
        ({"languages": []}, "languages: none"),
        ({"languages": ["de", "de"]}, "languages: 'de' twice"),
        ({"splits": ["train", "valid"]}, "splits: no 'valid'"),
        ({"unlabelled": ["el"]}, "unlabelled: no folder 'el'"),
        ({"unlabelled": ["el"]}, "there are: de, mt"),
        ({"unlabelled": ["mt"], "segment_seconds": None}, "has whole sittings; give a length"),
    ],
)
def test_wrong_options(root: Path, tmp_path: Path, options: dict, told: str) -> None:
    assert told in refusal(root, tmp_path, **options)


# -- a run -----------------------------------------------------------------------------------------


def test_figures_are_reported_for_each_language(tmp_path: Path) -> None:
    options = ["--debug", "--debug_epochs=1", "--sample_clips=0", "--languages=[en, it]"]
    options += ["--hidden_dims=[8, 8, 8]", "--reversed_hidden_dims=[8, 8, 8]"]
    done = subprocess.run(
        [sys.executable, "train.py", "hparams/focalcodec_50hz_mini.yaml"]
        + [f"--output_folder={tmp_path / 'run'}", *options],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = (tmp_path / "run" / "train_log.txt").read_text()
    assert "valid-en loss" in log and "valid-it loss" in log and "valid-fr" not in log
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {"test", "test-en", "test-it"} <= set(str(results).split("'"))


def test_embedded_corpus_agrees_with_the_readme() -> None:
    """50 training clips: the number for the schedules' steps in the mini YAMLs."""
    rows = [
        line
        for path in (embedded_corpus("VoxPopuli") / "transcribed_data").glob("*/asr_train.tsv")
        for line in path.read_text(encoding="utf-8").splitlines()[1:]
    ]
    assert len(rows) == 50
