"""Preparation of emotional speech: four corpora in miniature, good and broken."""

from __future__ import annotations

import csv
import hashlib
import importlib
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from focalcodec.data.manifest import prepared_how, read_prepared
from focalcodec.errors import UserError

RECIPE = Path(__file__).parents[2] / "recipes" / "IEMOCAP"
LABELS = ["neu", "hap", "exc", "ang", "sad", "xxx", "fru"]  # one each for a speaker and dialog
DIALOGS = ("impro01", "script01_1")


@pytest.fixture(scope="module")
def recipe() -> Any:
    """The preparation, imported from its folder as in a user's run."""
    sys.path.insert(0, str(RECIPE))
    try:
        yield importlib.import_module("iemocap_prepare")
    finally:
        sys.path.remove(str(RECIPE))


@pytest.fixture
def prepare(recipe: Any, tmp_path: Path) -> Any:
    def run(root: Path | None, **options: Any) -> dict[str, list[dict[str, Any]]]:
        recipe.prepare_iemocap(root, tmp_path / "save", **options)
        return read_prepared(tmp_path / "save")

    return run


def write_wav(path: Path, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4], "little")
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, (rate // 4, channels)), rate)


def evaluation(root: Path, session: int = 1, dialog: str = "impro01") -> Path:
    name = f"Ses0{session}F_{dialog}"
    return root / f"Session{session}" / "dialog" / "EmoEvaluation" / f"{name}.txt"


def audio(root: Path, session: int = 1, speaker: str = "F", number: int = 0) -> Path:
    dialog = f"Ses0{session}F_impro01"
    place = root / f"Session{session}" / "sentences" / "wav" / dialog
    return place / f"{dialog}_{speaker}{number:03}.wav"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def iemocap(tmp_path: Path) -> Path:
    """Five sessions of two dialogs; the women wear the markers."""
    root = tmp_path / "data" / "IEMOCAP_full_release"
    for session in range(1, 6):
        for dialog in DIALOGS:
            path = evaluation(root, session, dialog)
            lines, texts = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
            for speaker in "FM":
                for number, label in enumerate(LABELS):
                    name = f"{path.stem}_{speaker}{number:03}"
                    write_wav(path.parents[2] / "sentences" / "wav" / path.stem / f"{name}.wav")
                    lines.append(f"[{number}.2901 - {number}.5]\t{name}\t{label}\t[2.5, 2.5, 2.5]")
                    lines += ["C-E1:\tOther;\t(so what)", ""]
                    texts.append(f"{name} [00{number}.2901-00{number}.5000]: Said {number}.")
            (path.parent / "Categorical").mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines), encoding="utf-8")
            judge = path.parent / "Categorical" / f"{path.stem}_e1_cat.txt"
            judge.write_text(f"{path.stem}_F000 :Anger; ()\n", encoding="utf-8")
            words = path.parents[1] / "transcriptions" / path.name
            words.parent.mkdir(exist_ok=True)
            words.write_text("\n".join(texts), encoding="utf-8")
    return root


class TestIemocap:
    def test_sets_are_the_papers(self, iemocap: Path, prepare: Any) -> None:
        sets = prepare(iemocap)
        speakers = {name: {row["spk_id"] for row in rows} for name, rows in sets.items()}
        assert speakers["valid"] == {"Ses05F"} and speakers["test"] == {"Ses05M"}
        assert speakers["train"] == {f"Ses0{k}{g}" for k in range(1, 5) for g in "FM"}
        assert {name: len(rows) for name, rows in sets.items()} == {
            "train": 4 * 2 * 2 * 5,
            "valid": 2 * 5,
            "test": 2 * 5,
        }

    def test_excitement_is_happiness_and_other_labels_are_left_out(
        self, iemocap: Path, prepare: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            rows = prepare(iemocap)["valid"]
        counts = Counter(row["emotion"] for row in rows)
        assert counts == {"angry": 2, "happy": 4, "neutral": 2, "sad": 2}
        assert {row["gender"] for row in rows} == {"female"}
        assert rows[0]["wrd"] == "Said 0."
        assert "fru 2, xxx 2" in caplog.text

    def test_data_folder_is_only_read(self, iemocap: Path, prepare: Any) -> None:
        before = sorted(iemocap.rglob("*"))
        prepare(iemocap)
        assert sorted(iemocap.rglob("*")) == before

    @pytest.mark.parametrize("part", ["dialog/EmoEvaluation", "sentences/wav"])
    def test_missing_folder(self, iemocap: Path, prepare: Any, part: str) -> None:
        (iemocap / "Session3" / part).rename(iemocap / "elsewhere")
        with pytest.raises(UserError, match=f"no folder Session3/{part}"):
            prepare(iemocap)

    def test_folder_above(self, iemocap: Path, prepare: Any) -> None:
        with pytest.raises(UserError, match="did you mean .*IEMOCAP_full_release"):
            prepare(iemocap.parent)

    def test_missing_file_of_labels(self, iemocap: Path, prepare: Any, tmp_path: Path) -> None:
        evaluation(iemocap).unlink()
        with pytest.raises(UserError, match="Ses01F_impro01.txt: missing"):
            prepare(iemocap)
        assert len(prepare(iemocap, max_broken_share=0.5)["train"]) == 70
        assert len(skipped(tmp_path / "save")) == 2 * len(LABELS)

    @pytest.mark.parametrize(
        ("old", "new", "reason"),
        [
            ("F000\tneu", "F000\tglad", "label 'glad' is not one of ang"),
            ("F001\thap", "F000\thap", "Ses01F_impro01_F000 has a label already"),
            ("F000\tneu", "F099\tneu", "no sentences/wav/.../Ses01F_impro01_F099.wav"),
        ],
    )
    def test_broken_lines(
        self, iemocap: Path, prepare: Any, tmp_path: Path, old: str, new: str, reason: str
    ) -> None:
        edit(evaluation(iemocap), old, new)
        assert len(prepare(iemocap)["train"]) == 79
        (row,) = skipped(tmp_path / "save")
        assert reason in row["reason"]
        assert "Ses01F_impro01.txt, line " in row["reason"]

    def test_missing_audio_and_audio_without_a_label(
        self, iemocap: Path, prepare: Any, tmp_path: Path
    ) -> None:
        audio(iemocap, number=0).unlink()
        audio(iemocap, number=1).write_bytes(b"RIFF")
        assert len(prepare(iemocap)["train"]) == 78
        assert len(skipped(tmp_path / "save")) == 2

    def test_comments_need_not_be_utf8(self, iemocap: Path, prepare: Any) -> None:
        path = evaluation(iemocap)
        path.write_bytes(path.read_bytes().replace(b"so what", b"caf\xe9"))
        assert len(prepare(iemocap)["train"]) == 80

    def test_text_that_is_not_utf8_is_left_empty(
        self, iemocap: Path, prepare: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = evaluation(iemocap).parents[1] / "transcriptions" / "Ses01F_impro01.txt"
        path.write_bytes(path.read_bytes().replace(b"Said 0", b"Caf\xe9", 1))
        rows = {row["ID"]: row for row in prepare(iemocap)["train"]}
        assert rows["Ses01F_impro01_F000"]["wrd"] == ""
        assert rows["Ses01F_impro01_F001"]["wrd"] == "Said 1."
        assert f"{path}: not UTF-8" in caplog.text

    @pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x1c", "\r"])
    def test_only_line_ends_split_texts(self, iemocap: Path, prepare: Any, character: str) -> None:
        path = evaluation(iemocap).parents[1] / "transcriptions" / "Ses01F_impro01.txt"
        path.write_bytes(path.read_bytes().replace(b"Said 0", f"Said{character}0".encode(), 1))
        rows = {row["ID"]: row for row in prepare(iemocap)["train"]}
        assert rows["Ses01F_impro01_F000"]["wrd"] == f"Said{character}0."

    def test_without_transcripts(self, iemocap: Path, prepare: Any) -> None:
        for session in range(1, 6):
            folder = iemocap / f"Session{session}" / "dialog" / "transcriptions"
            folder.rename(iemocap / f"texts{session}")
        assert {row["wrd"] for row in prepare(iemocap)["train"]} == {""}

    def test_another_corpus(self, iemocap: Path, prepare: Any) -> None:
        with pytest.raises(UserError, match="corpus='savee': not one of iemocap, crema-d"):
            prepare(iemocap, corpus="savee")
        with pytest.raises(UserError, match="no wav/03a01Fa.wav"):
            prepare(iemocap, corpus="emodb")
        with pytest.raises(UserError, match="no folder AudioWAV"):
            prepare(iemocap, corpus="crema-d")
        with pytest.raises(UserError, match="no folder Actor_01"):
            prepare(iemocap, corpus="ravdess")


def skipped(save: Path, name: str = "train") -> list[dict[str, str]]:
    with (save / f"{name}.skipped.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def crema_d(tmp_path: Path) -> Path:
    root = tmp_path / "CREMA-D"
    for actor in range(1001, 1011):
        for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"):
            write_wav(root / "AudioWAV" / f"{actor}_IEO_{emotion}_HI.wav")
    lines = ["ActorID,Age,Sex,Race,Ethnicity", "1001,51,Male,Caucasian,Not Hispanic"]
    (root / "VideoDemographics.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def ravdess(tmp_path: Path) -> Path:
    root = tmp_path / "RAVDESS"
    for actor in range(1, 11):
        for emotion in range(1, 9):
            name = f"03-01-{emotion:02}-01-01-01-{actor:02}.wav"
            write_wav(root / f"Actor_{actor:02}" / name, rate=48000)
        write_wav(root / f"Actor_{actor:02}" / f"03-02-05-01-01-01-{actor:02}.wav")  # song
    return root


@pytest.fixture
def emodb(tmp_path: Path) -> Path:
    """The tree of the original distribution: audio and files of labels."""
    root = tmp_path / "EMO-DB"
    for actor in ("03", "08", "09", "10"):
        for letter in "WLEAFTN":
            write_wav(root / "wav" / f"{actor}a01{letter}a.wav")
            label = root / "lablaut" / f"{actor}a01{letter}a.lablaut"
            label.parent.mkdir(exist_ok=True)
            label.write_text("0.1 D\n")
    return root


class TestEmodb:
    def test_four_classes_of_the_distribution(self, emodb: Path, prepare: Any) -> None:
        sets = prepare(emodb, corpus="emodb", test_actor="03")
        rows = [row for some in sets.values() for row in some]
        counts = Counter(row["emotion"] for row in rows)
        assert counts == {"angry": 4, "happy": 4, "neutral": 4, "sad": 4}
        found = {row["ID"]: row for row in sets["test"]}
        assert {name: row["emotion"] for name, row in found.items()} == {
            "03a01Wa": "angry",
            "03a01Fa": "happy",
            "03a01Na": "neutral",
            "03a01Ta": "sad",
        }
        row = found["03a01Wa"]
        assert (row["gender"], row["wrd"]) == ("male", "Der Lappen liegt auf dem Eisschrank")

    def test_folders_of_classes(self, emodb: Path, prepare: Any, tmp_path: Path) -> None:
        names = {"W": "angry", "F": "happy", "N": "neutral", "T": "sad"}
        for path in sorted((emodb / "wav").iterdir()):
            place = tmp_path / "classes" / names.get(path.stem[5], "others") / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
        root = tmp_path / "classes"
        sets = prepare(root, corpus="emodb")
        assert sum(map(len, sets.values())) == 16
        (root / "sad" / "08a01Ta.wav").rename(root / "angry" / "08a01Ta.wav")
        with pytest.raises(UserError, match="letter T is sad, but the folder angry"):
            prepare(root, corpus="emodb")

    def test_other_names(self, emodb: Path, prepare: Any) -> None:
        write_wav(emodb / "wav" / "03a01Xa.wav")
        with pytest.raises(UserError, match="03a01Xa.wav: not named <actor><sentence>"):
            prepare(emodb, corpus="emodb", max_broken_share=0.0)

    @pytest.mark.parametrize(
        ("test", "valid"), [("03", "08"), (3, "08"), ("08", "09"), ("10", "03")]
    )
    def test_actors_are_left_out(
        self, emodb: Path, prepare: Any, test: str | int, valid: str
    ) -> None:
        sets = prepare(emodb, corpus="emodb", test_actor=test)
        actors = {name: {row["spk_id"] for row in rows} for name, rows in sets.items()}
        assert [int(name) for name in actors["test"]] == [int(test)]
        assert actors["valid"] == {valid}
        assert actors["train"] == {"03", "08", "09", "10"} - actors["test"] - actors["valid"]

    def test_unknown_actors(self, emodb: Path, iemocap: Path, prepare: Any) -> None:
        with pytest.raises(UserError, match="test_actor=04: the corpus has 03, 08, 09, 10"):
            prepare(emodb, corpus="emodb", test_actor="04")
        with pytest.raises(UserError, match="test_actor=03: IEMOCAP has a fixed split"):
            prepare(iemocap, test_actor="03")


class TestByActor:
    @pytest.mark.parametrize("corpus", ["crema-d", "ravdess"])
    def test_actors_are_in_one_set(self, request: Any, prepare: Any, corpus: str) -> None:
        root = request.getfixturevalue(corpus.replace("-", "_"))
        sets = prepare(root, corpus=corpus)
        actors = {name: {row["spk_id"] for row in rows} for name, rows in sets.items()}
        assert {name: len(some) for name, some in actors.items()} == {
            "train": 8,
            "valid": 1,
            "test": 1,
        }
        assert len(set.union(*actors.values())) == 10
        rows = [row for some in sets.values() for row in some]
        counts = Counter(row["emotion"] for row in rows)
        assert counts == {"angry": 10, "happy": 10, "neutral": 10, "sad": 10}

    def test_the_split_depends_on_its_seed_alone(self, crema_d: Path, prepare: Any) -> None:
        tests = set()
        for seed in (1, 1, 2, 3, 4):
            sets = prepare(crema_d, corpus="crema-d", split_seed=seed)
            tests.add((seed, sets["test"][0]["spk_id"]))
        assert len(tests) == 4 and len({actor for _, actor in tests}) > 1

    def test_columns_of_crema_d(self, crema_d: Path, prepare: Any, tmp_path: Path) -> None:
        rows = {
            row["ID"]: row for some in prepare(crema_d, corpus="crema-d").values() for row in some
        }
        assert rows["1001_IEO_ANG_HI"]["gender"] == "male"
        assert rows["1002_IEO_ANG_HI"]["gender"] == ""
        assert rows["1002_IEO_ANG_HI"]["wrd"] == "It's eleven o'clock"
        assert prepared_how(tmp_path / "save") == "by actor"

    def test_stereo_of_ravdess_is_mixed(self, ravdess: Path, prepare: Any) -> None:
        write_wav(ravdess / "Actor_01" / "03-01-05-02-01-01-01.wav", channels=2)
        sets = prepare(ravdess, corpus="ravdess")
        assert sum(len(rows) for rows in sets.values()) == 41
        assert {row["channels"] for row in sets["train"]} == {"mix"}

    def test_other_names(self, crema_d: Path, ravdess: Path, prepare: Any) -> None:
        write_wav(crema_d / "AudioWAV" / "take two.wav")
        with pytest.raises(UserError, match="not named <actor>_<sentence>_<emotion>_<level>.wav"):
            prepare(crema_d, corpus="crema-d", max_broken_share=0.0)
        write_wav(ravdess / "Actor_01" / "03-01-09-01-01-01-01.wav")
        with pytest.raises(UserError, match="its name is not seven numbers"):
            prepare(ravdess, corpus="ravdess", max_broken_share=0.0)

    def test_a_clip_twice(self, ravdess: Path, prepare: Any) -> None:
        write_wav(ravdess / "copy" / "Actor_01" / "03-01-05-01-01-01-01.wav")
        with pytest.raises(UserError, match="ID '03-01-05-01-01-01-01' twice"):
            prepare(ravdess, corpus="ravdess")

    def test_too_few_actors(self, crema_d: Path, prepare: Any) -> None:
        for path in (crema_d / "AudioWAV").glob("*.wav"):
            if not path.name.startswith(("1001", "1002")):
                path.unlink()
        with pytest.raises(UserError, match="2 speakers"):
            prepare(crema_d, corpus="crema-d")


def test_without_a_corpus_the_classes_are_toy_classes(
    prepare: Any, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys = sys.modules["toy_emotions"]
    splits = {"train": ["dev-mini"], "valid": ["dev-mini"], "test": ["test-real"]}
    monkeypatch.setattr(toys, "EMBEDDED_SPLITS", splits)
    monkeypatch.setattr(toys, "SETS", {"valid": "valid", "test-toy": "test"})
    sets = prepare(None)
    said = capsys.readouterr().out
    assert "embedded mini corpus is used" in said and "not emotions" in said
    assert {name: len(rows) for name, rows in sets.items()} == {"valid": 96, "test-toy": 28}
    for rows in sets.values():
        assert all(row["emotion"].startswith("toy_") for row in rows)
        assert len(set(Counter(row["emotion"] for row in rows).values())) == 1
    first = {
        row["emotion"]: row["num_samples"] for row in sets["test-toy"] if "91-1-0000" in row["ID"]
    }
    assert first["toy_fast"] < first["toy_high"] == first["toy_low"] < first["toy_slow"]
