"""LibriMix's preparation on its tree, on LibriSpeech's, and on broken ones."""

from __future__ import annotations

import csv
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from focalcodec.audio import read_audio
from focalcodec.data.dataset import AudioDataset
from focalcodec.data.manifest import prepared_root, read_manifest, read_prepared
from focalcodec.data.mixture_files import ToDisk
from focalcodec.data.mixtures import MixtureMaker
from focalcodec.errors import UserError
from tests.recipes.librimix import PAIRS, load, write_librispeech, write_mixture, write_tree
from tests.unit.data.voices import voice, write_voices

prepare_librimix = load("librimix_prepare").prepare_librimix
SPLITS = {
    "tr_splits": ["train-clean-100", "train-clean-360"],
    "dev_splits": ["dev-clean"],
    "te_splits": ["test-clean"],
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Libri2Mix, mode min."""
    return write_tree(tmp_path / "corpus", modes=("min",))


def prepare(data: Path, save: Path, **options: Any) -> dict[str, list[dict[str, Any]]]:
    prepare_librimix(data, save, **{**SPLITS, "num_speakers": 2, **options})
    return read_prepared(save)


# -- LibriMix --------------------------------------------------------------------------------------


def test_rows_are_mixtures(tree: Path, tmp_path: Path) -> None:
    sets = prepare(tree, tmp_path / "save")
    assert {name: len(rows) for name, rows in sets.items()} == {"train": 3, "valid": 1, "test": 2}
    row = sets["train"][0]
    name, folder = "103-1240-0000_1034-121119-0049", tree / "wav16k" / "min" / "train-100"
    assert row["ID"] == name and row["spk_id"] == "103_1034" and row["wrd"] == ""
    assert row["wav"] == str(folder / "mix_clean" / f"{name}.wav")
    assert row["noisy"] == str(folder / "mix_both" / f"{name}.wav")
    for kind in ("s1", "s2", "noise"):
        assert row[kind] == str(folder / kind / f"{name}.wav")
    text = (tmp_path / "save" / "train.csv").read_text()
    assert "$data_root/wav16k/min/train-100/mix_both" in text and str(tmp_path) not in text
    item = AudioDataset(sets["train"], 16000)[0]
    assert item is not None and len(item["sig"]) == len(item["mixture"]["sig"]) == 9600
    noise = item["mixture"]["sig"] - item["sig"]
    assert torch.allclose(noise, read_audio(row["noise"], 16000), atol=1e-4)


def test_folder_above_and_moved_folders(tree: Path, tmp_path: Path) -> None:
    sets = prepare(tree.parent, tmp_path / "save")
    made = (tmp_path / "save" / "train.csv").read_bytes()
    shutil.move(tree.parent, tmp_path / "moved")
    assert prepare(tmp_path / "moved", tmp_path / "save").keys() == sets.keys()
    assert (tmp_path / "save" / "train.csv").read_bytes() == made
    assert prepared_root(tmp_path / "save") == tmp_path / "moved" / "Libri2Mix"


@pytest.mark.parametrize(
    ("options", "noisy", "wav", "columns"),
    [
        ({}, "mix_both", "mix_clean", {"s1", "s2", "noise"}),
        ({"target": "s1"}, "mix_both", "s1", {"s1", "s2", "noise"}),
        ({"mixture": "mix_single"}, "mix_single", "s1", {"s1", "s2", "noise"}),
        ({"mixture": "mix_clean"}, "mix_clean", "mix_clean", {"s1", "s2"}),
        ({"mixture": "mix_clean", "target": "s1"}, "mix_clean", "s1", {"s1", "s2"}),
    ],
)
def test_input_and_target(
    tree: Path, tmp_path: Path, options: dict[str, str], noisy: str, wav: str, columns: set[str]
) -> None:
    row = prepare(tree, tmp_path / "save", **options)["test"][0]
    assert f"/{noisy}/" in row["noisy"] and f"/{wav}/" in row["wav"]
    assert row.keys() & {"s1", "s2", "s3", "noise"} == columns


def test_other_options_make_it_again(tree: Path, tmp_path: Path) -> None:
    prepare(tree, tmp_path / "save")
    made = (tmp_path / "save" / "test.csv").stat().st_mtime_ns
    prepare(tree, tmp_path / "save")
    assert (tmp_path / "save" / "test.csv").stat().st_mtime_ns == made
    prepare(tree, tmp_path / "save", target="s1")
    assert (tmp_path / "save" / "test.csv").stat().st_mtime_ns != made


def test_only_whole_clips_have_transcripts(tmp_path: Path) -> None:
    tree, speech = write_tree(tmp_path), write_librispeech(tmp_path / "LibriSpeech")
    options: dict[str, Any] = {"librispeech_folder": speech, "target": "s1"}
    row = prepare(tree, tmp_path / "a", mode="max", **options)["train"][0]
    assert row["wrd"] == "WORDS OF 103-1240-0000" and row["spk_id"] == "103"
    assert prepare(tree, tmp_path / "b", mode="min", **options)["train"][0]["wrd"] == "", "cut"
    assert prepare(tree, tmp_path / "c", mode="max")["train"][0]["wrd"] == "", "two speakers"
    one = write_tree(tmp_path / "one", num_speakers=1)
    rows = prepare(one, tmp_path / "d", num_speakers=1, librispeech_folder=speech)["test"]
    assert [row["wrd"] for row in rows] == ["WORDS OF 61-70968-0000", "WORDS OF 61-70968-0001"]
    assert rows[0]["spk_id"] == "61" and "/mix_single/" in rows[0]["noisy"]


def test_three_speakers(tmp_path: Path) -> None:
    root = tmp_path / "Libri3Mix" / "wav16k" / "max" / "test"
    write_mixture(root, "61-70968-0000_8455-210777-0012_121-121726-0003", 3)
    options: dict[str, Any] = {"tr_splits": [], "dev_splits": [], "mode": "max"}
    (row,) = prepare(tmp_path, tmp_path.parent / "save", num_speakers=3, **options)["test"]
    assert row["spk_id"] == "61_8455_121" and row["s3"].endswith("0003.wav")
    shutil.rmtree(root / "s3")
    (row,) = prepare(tmp_path, tmp_path.parent / "save", num_speakers=3, **options)["test"]
    assert "s3" not in row and "s2" in row, "sources may be left out"


# -- broken trees ----------------------------------------------------------------------------------


def told(data: Path, save: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        prepare(data, save, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_folders_name_the_existing_ones(tree: Path, tmp_path: Path) -> None:
    save = tmp_path / "save"
    assert "is inside the data folder" in told(tree, tree / "save")
    assert "no folder wav16k/max; there are: min" in told(tree, save, mode="max")
    line = told(tree, save, tr_splits=["train-clean-500"])
    assert "no folder wav16k/min/train-clean-500" not in line
    assert "no folder wav16k/min/train-500; there are: dev, metadata, test, train-100" in line
    shutil.rmtree(tree / "wav16k" / "min" / "dev" / "mix_both")
    line = told(tree, save)
    assert "no folder wav16k/min/dev/mix_both; there are: mix_clean, mix_single, noise, s1" in line
    assert "no such folder" in told(tmp_path / "nowhere", save)


def test_other_trees(tree: Path, tmp_path: Path) -> None:
    save = tmp_path / "save"
    assert "Libri2Mix: not Libri1Mix; set num_speakers=2" in told(tree, save, num_speakers=1)
    line = told(tree.parent, save, num_speakers=3)
    assert "no folder Libri3Mix; there are: Libri2Mix" in line
    slow = write_tree(tmp_path / "slow", modes=("min",), rate=8000)
    for folder in (slow, slow.parent):
        assert "has wav8k, but no wav16k; generate LibriMix at 16 kHz" in told(folder, save)


def damage(tree: Path, kind: str) -> tuple[Path, str]:
    """Damage one of the two test mixtures; return the file and the text of the error."""
    folder, name = tree / "wav16k" / "min" / "test", f"{'_'.join(PAIRS['test'][0])}.wav"
    if kind == "s1 without its mix":
        (folder / "mix_both" / name).unlink()
        return folder / "mix_both" / name, "missing, although its mix_clean exists"
    if kind == "mix without its s2":
        (folder / "s2" / name).unlink()
        return folder / "s2" / name, "missing, although its mix_clean exists"
    if kind == "shorter":
        soundfile.write(folder / "mix_both" / name, voice(0.5, 0), 16000)
        return folder / "mix_both" / name, "8000 samples, but its mix_clean has 9600"
    if kind == "no samples":
        soundfile.write(folder / "noise" / name, [], 16000)
        return folder / "noise" / name, "no samples"
    (folder / "noise" / name).write_bytes(b"")
    return folder / "noise" / name, "0 bytes"


DAMAGE = ["s1 without its mix", "mix without its s2", "shorter", "no samples", "no bytes"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_broken_mixtures(tree: Path, tmp_path: Path, kind: str) -> None:
    path, reason = damage(tree, kind)
    line = told(tree, tmp_path / "save")
    assert "1 of 2 clips are broken" in line and str(path) in line, line
    rows = prepare(tree, tmp_path / "save", max_broken_share=0.5)["test"]
    assert len(rows) == 1
    with (tmp_path / "save" / "test.skipped.csv").open(newline="") as file:
        (skipped,) = csv.DictReader(file)
    assert reason in skipped["reason"]


def test_id_twice(tree: Path, tmp_path: Path) -> None:
    name = "_".join(PAIRS["train-100"][0])
    write_mixture(tree / "wav16k" / "min" / "train-360", name, 2)
    assert f"ID {name!r} twice" in told(tree, tmp_path / "save")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_speakers": 0}, "num_speakers=0"),
        ({"mixture": "mix_noisy"}, "mixture='mix_noisy'"),
        ({"mode": "mid"}, "mode='mid'"),
        ({"te_splits": "test-clean"}, "is not a list"),
        ({"to_disk": ToDisk(MixtureMaker, folder="out")}, "this is LibriMix"),
        ({"librispeech_folder": "no/speech"}, "librispeech_folder no/speech: no such folder"),
    ],
)
def test_wrong_options(tree: Path, tmp_path: Path, options: dict[str, Any], line: str) -> None:
    assert line in told(tree, tmp_path / "save", **options)


# -- LibriSpeech -----------------------------------------------------------------------------------


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    for split in ("train-clean-100", "dev-clean", "test-clean"):
        write_voices(tmp_path / "LibriSpeech", split, clips=1, seconds=0.6)
    return tmp_path / "LibriSpeech"


def test_clean_clips_to_mix_on_the_fly(speech: Path, tmp_path: Path) -> None:
    sets = prepare(speech, tmp_path / "save", tr_splits=["train-clean-100"])
    assert [rows[0]["noise_split"] for rows in sets.values()] == ["tr", "cv", "tt"]
    row = sets["train"][0]
    assert row["ID"] == "1-5-0000" and "noisy" not in row and row["wrd"] == "WORDS OF 1-5-0000"
    maker = MixtureMaker(sets["train"], 16000, seed=0, num_speakers=2)
    item = AudioDataset(sets["train"], 16000, mixer=maker)[0, 3]
    assert item is not None and len(item["sig"]) == len(item["mixture"]["sig"])
    assert not item["sig"].equal(item["mixture"]["sig"])


def test_embedded_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_librimix(None, tmp_path, **SPLITS)
    assert capsys.readouterr().out.count("embedded mini corpus is used") == 1
    sets = {name: len(rows) for name, rows in read_prepared(tmp_path).items()}
    assert sets == {"train": 120, "valid": 24, "test": 24, "test-real": 7}


def test_mixtures_to_disk(speech: Path, tmp_path: Path) -> None:
    save = tmp_path / "save"
    options: dict[str, Any] = {
        "tr_splits": [],
        "dev_splits": [],
        "te_splits": ["test-clean"],
        "num_speakers": 1,
        "to_disk": ToDisk(partial(MixtureMaker, num_speakers=1, babble_share=0.0)),
    }
    rows = prepare(speech, save, **options)["test"]
    assert len(rows) == 3 and rows[0]["wrd"] == "WORDS OF 1-5-0000" and rows[0]["spk_id"] == "1"
    root = save / "mixtures" / "Libri1Mix" / "wav16k" / "min" / "test"
    assert rows[0]["noisy"] == str(root / "mix_single" / "1-5-0000.wav")
    assert sorted(path.name for path in root.iterdir()) == ["mix_single", "noise", "s1"]
    clean = read_manifest(save / "clean" / "test.csv", speech)
    mixed = MixtureMaker(clean, 16000, 1986, babble_share=0.0)(clean[0], 0)
    assert torch.allclose(read_audio(rows[0]["noisy"], 16000), mixed.noisy, atol=1e-4), (
        "as on the fly"
    )
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.wav")}
    prepare(speech, save, **options)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.wav")} == before


def test_skip_prep(tmp_path: Path) -> None:
    prepare_librimix("no/where", tmp_path / "save", skip_prep=True)
    assert not (tmp_path / "save").exists()
