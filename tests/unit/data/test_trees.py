"""Corpora in known trees, and manifests, as sources of `focalcodec prepare`."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch

from focalcodec.audio import write_audio
from focalcodec.cli.main import main
from focalcodec.data.corpus import embedded_corpus, walk_files
from focalcodec.data.manifest import prepared_how, read_prepared
from focalcodec.data.own_folder import prepare_own
from focalcodec.data.trees import find_clips, find_labels
from focalcodec.errors import UserError


def clip(path: Path, seconds: float = 1.0) -> None:
    seed = sum(os.fsencode(path.name))
    sig = 0.1 * torch.randn(round(8000 * seconds), generator=torch.Generator().manual_seed(seed))
    write_audio(path, sig, 8000)


def rows_of(save: Path) -> list[dict]:
    return [row for rows in read_prepared(save).values() for row in rows]


@pytest.mark.parametrize("below", ["", "train-mini", "train-mini/11", "train-mini/11/1"])
def test_librispeech_from_any_of_its_folders(below: str) -> None:
    root = embedded_corpus("LibriSpeech") / below
    labels = find_labels(root, walk_files(root, ""))
    path = "train-mini/11/1/11-1-0000.flac".removeprefix(f"{below}/" if below else "")
    assert labels[path].spk_id == "11"
    assert labels[path].wrd == "IT REQUIRES VIGILANCE ON OUR PART"


def test_libritts_and_other_files_beside_it(tmp_path: Path) -> None:
    clip(tmp_path / "dev-clean/84/121/84_121_000.wav")
    (tmp_path / "dev-clean/84/121/84_121_000.normalized.txt").write_text("Go on.\n")
    (tmp_path / "dev-clean/84/121/84_121_000.original.txt").write_text("Go  ON")
    clip(tmp_path / "anna/a.wav")
    (tmp_path / "anna/a.txt").write_text("hello")
    clips = find_clips(tmp_path, walk_files(tmp_path, ""))
    found = [(clip.id, clip.spk_id, clip.wrd, clip.own_set) for clip in clips]
    assert found == [
        ("anna/a", "anna", "hello", ""),
        ("dev-clean/84/121/84_121_000", "84", "Go on.", "valid"),
    ]


def test_a_corpus_keeps_its_sets(tmp_path: Path) -> None:
    prepare_own(embedded_corpus("LibriSpeech"), tmp_path)
    sets = read_prepared(tmp_path)
    assert prepared_how(tmp_path) == "as in the corpus"
    for name, splits in {"train": {"train"}, "valid": {"dev"}, "test": {"test"}}.items():
        assert {row["ID"].split("-")[0] for row in sets[name]} == splits
    assert all(row["wrd"] and row["spk_id"] == row["ID"].split("/")[1] for row in rows_of(tmp_path))
    prepare_own(embedded_corpus("LibriSpeech") / "train-mini", tmp_path / "one")
    assert prepared_how(tmp_path / "one").startswith("by ")


def test_voxpopuli(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    for split, day in (("train", "20120110"), ("dev", "20130205"), ("test", "20140312")):
        name = f"{day}-0900-PLENARY-3-de_{day}-10-00_1"
        clip(root / "transcribed_data/de" / day[:4] / f"{name}.wav")
        wav = root / "transcribed_data/de" / day[:4] / f"{name}.wav"
        wav.rename(wav.with_suffix(".ogg"))
        table = f"id\traw_text\tnormalized_text\tspeaker_id\n{name}\tSo!\tso\t7\n"
        (root / "transcribed_data/de" / f"asr_{split}.tsv").write_text(table)
        clip(root / "unlabelled_data/de" / day[:4] / f"{day}-0900-PLENARY-3_de_0.wav")
        wav = root / "unlabelled_data/de" / day[:4] / f"{day}-0900-PLENARY-3_de_0.wav"
        wav.rename(wav.with_suffix(".ogg"))
    prepare_own(root, tmp_path / "save")
    sets = read_prepared(tmp_path / "save")
    # the recordings of dev and test are not training data
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 2, "valid": 1, "test": 1}
    assert {(x["language"], x["spk_id"], x["wrd"]) for x in sets["test"]} == {("de", "7", "so")}
    assert {(row["language"], row["spk_id"]) for row in sets["train"]} == {("de", "7"), ("de", "")}


def test_a_table_of_another_kind_is_no_voxpopuli(tmp_path: Path) -> None:
    clip(tmp_path / "a/1.wav")
    (tmp_path / "a/asr_test.tsv").write_text("path\tsentence\n1.wav\thi\n")
    assert [clip.spk_id for clip in find_clips(tmp_path, walk_files(tmp_path, ""))] == ["a"]


# -- manifests -------------------------------------------------------------------------------------


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Ten speakers with a clip of one second each; that of the first has ten."""
    for speaker in range(10):
        clip(tmp_path / "talks" / f"s{speaker}" / f"{speaker}.wav", 1.0 + 9 * (speaker == 0))
    return tmp_path / "talks"


def test_manifest_with_its_sets_json(talks: Path, tmp_path: Path) -> None:
    """Corrections in a manifest are kept, parts of files too."""
    assert main(["prepare", str(talks), str(tmp_path / "one"), "--segment_seconds", "5"]) == 0
    path = tmp_path / "one" / "train.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert any(int(row["start"]) for row in rows), "a part of a file"
    for row in rows:
        row["wrd"], row["mood"] = f"text of {row['ID']}", "calm"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert main(["prepare", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    before, after = read_prepared(tmp_path / "one"), read_prepared(tmp_path / "two")
    assert prepared_how(tmp_path / "two") == "as in the corpus"
    assert {name: [x["ID"] for x in some] for name, some in before.items()} == {
        name: [x["ID"] for x in some] for name, some in after.items()
    }
    expected = [(x["ID"], x["start"], x["stop"], x["wrd"]) for x in before["train"]]
    assert [(x["ID"], x["start"], x["stop"], x["wrd"]) for x in after["train"]] == expected
    # one manifest alone is split; the way of its column is kept
    assert main(["prepare", str(path), str(tmp_path / "three")]) == 0
    again = rows_of(tmp_path / "three")
    assert {x["ID"] for x in again} == {row["ID"] for row in rows}
    assert {x["mood"] for x in again} == {"calm"}


def test_manifest_of_others(talks: Path, tmp_path: Path, capsys) -> None:
    lines = ["ID,duration,wav"] + [f"{k},1,$data_root/s{k}/{k}.wav" for k in range(10)]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    words = ["prepare", str(tmp_path / "all.csv"), str(tmp_path / "out")]
    assert main(words) == 2
    assert "no sets.json beside it; give --data_folder" in capsys.readouterr().err
    assert main([*words, "--data_folder", str(talks)]) == 0
    assert sorted(row["ID"] for row in rows_of(tmp_path / "out")) == [str(k) for k in range(10)]
    (tmp_path / "all.csv").write_text("\n".join(lines).replace("$data_root", str(talks)))
    assert main(["prepare", str(tmp_path / "all.csv"), str(tmp_path / "absolute")]) == 0
    assert len(rows_of(tmp_path / "absolute")) == 10


def test_a_manifest_is_not_replaced_by_its_own_sets(talks: Path, tmp_path: Path) -> None:
    prepare_own(talks, tmp_path / "one")
    with pytest.raises(UserError, match=r"train.csv: in the output folder .*; give another"):
        prepare_own(tmp_path / "one" / "train.csv", tmp_path / "one")


def test_a_damaged_sidecar_does_not_allow_to_replace_a_manifest(talks, tmp_path) -> None:
    prepare_own(talks, tmp_path / "one")
    (tmp_path / "one" / "test.csv.json").write_text("{")
    with pytest.raises(UserError, match="test.csv may have been changed by hand"):
        prepare_own(talks, tmp_path / "one", language="de")
    prepare_own(talks, tmp_path / "one", language="de", overwrite=True)
