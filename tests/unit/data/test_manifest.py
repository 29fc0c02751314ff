"""Manifests: written whole, read with clean errors, loadable by SpeechBrain's rules."""

from __future__ import annotations

import csv

import pytest

from focalcodec.data.manifest import COLUMNS, read_manifest, write_manifest
from focalcodec.errors import UserError


def clip(clip_id="a", **changes):
    row = dict.fromkeys(COLUMNS, "") | {"ID": clip_id, "duration": 1.5, "wav": f"{clip_id}.flac"}
    return {**row, "sample_rate": 16000, "num_samples": 24000, **changes}


def test_round_trip_with_odd_names(tmp_path):
    names = ["plain", "sp ace", 'com,ma"quote', "éß語", "line\nbreak", "bad\udcff"]
    for name in names:
        (tmp_path / f"{name}.flac").touch()
    write_manifest(
        tmp_path / "m.csv", [clip(name, wrd="Ünï, “x”", language="ru") for name in names]
    )
    rows = read_manifest(tmp_path / "m.csv", tmp_path)
    assert [row["ID"] for row in rows] == names
    assert rows[0] == {
        "ID": "plain",
        "duration": 1.5,
        "wav": f"{tmp_path}/plain.flac",
        "spk_id": "",
        "wrd": "Ünï, “x”",
        "sample_rate": 16000,
        "num_samples": 24000,
        "language": "ru",
    }


def test_columns_are_speechbrains(tmp_path):
    write_manifest(tmp_path / "m.csv", [clip()])
    with (tmp_path / "m.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert list(row)[:5] == ["ID", "duration", "wav", "spk_id", "wrd"]
    assert row["wav"] == "$data_root/a.flac"


def test_users_own_csv_with_three_columns(tmp_path):
    (tmp_path / "x.wav").touch()
    (tmp_path / "m.csv").write_text(f"ID,duration,wav\na,2,{tmp_path}/x.wav\n", "utf-8-sig")
    row = {"ID": "a", "duration": 2.0, "wav": f"{tmp_path}/x.wav", "spk_id": "", "wrd": ""}
    assert read_manifest(tmp_path / "m.csv", "/elsewhere") == [row]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such manifest"),
        ("", "no column 'ID'"),
        ("ID,duration,path\na,1,x\n", "no column 'wav'"),
        ("ID,duration,wav\n", "no clips"),
        ("ID,duration,wav\na,1,x\nb,1\n", "line 3: more or fewer values"),
        ("ID,duration,wav\na,1,x,y\n", "line 2: more or fewer values"),
        ("ID,duration,wav\na,long,x\n", "line 2: duration='long' is not a number"),
        ("ID,duration,wav\na,-1,x\n", "line 2: duration=-1.0"),
        ("ID,duration,wav\na,nan,x\n", "line 2: duration=nan"),
        ("ID,duration,wav,num_samples\na,1,x,1.5\n", "num_samples='1.5' is not a number"),
        ("ID,duration,wav\na,1,x\nb,1,y\na,1,z\n", "line 4: ID 'a' is on line 2 already"),
        ("ID,duration,wav\na,1,$data_root/x\n", "1 of 1 audio files are not there, first .*x"),
        ("ID,duration,wav\n" + "a" * 200000 + ",1,x\n", "not a CSV file"),
    ],
)
def test_broken_manifests_are_refused(tmp_path, content, message):
    path = tmp_path / "m.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        read_manifest(path, tmp_path)
    assert "m.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_writing_fails_whole(tmp_path):
    write_manifest(tmp_path / "m.csv", [clip()])
    before = (tmp_path / "m.csv").read_text()
    with pytest.raises(ValueError, match="unexpected"):
        write_manifest(tmp_path / "m.csv", [clip("b"), clip("c", unexpected=1)])
    assert (tmp_path / "m.csv").read_text() == before
    assert len(list(tmp_path.iterdir())) == 1
