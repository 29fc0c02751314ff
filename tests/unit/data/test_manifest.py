"""Manifests: written atomically, errors in one line, readable by SpeechBrain."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import soundfile

from focalcodec.data.manifest import COLUMNS, read_manifest, write_manifest
from focalcodec.errors import UserError
from focalcodec.evaluation.sets import SetOptions, read_sets


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
        ("ID,duration,wav\na,1,$data_root/x\n", "1 of 1 audio files are missing, first .*x"),
        ("ID,duration,wav\n" + "a" * 200000 + ",1,x\n", "not a CSV file"),
        ("ID,duration,wav,start\na,1,x,0\n", "column start without stop"),
        ("ID,duration,wav,stop\na,1,x,9\n", "column stop without start"),
        ("ID,duration,wav,start,stop\na,1,x,,9\n", "start='' is not a number"),
        ("ID,duration,wav,start,stop\na,1,x,0.5,9\n", "start='0.5' is not a number"),
        ("ID,duration,wav,start,stop\na,1,x,-1,9\n", "start=-1; it must be 0 or more"),
        ("ID,duration,wav,start,stop\na,1,x,9,9\n", "start=9, stop=9 is no segment;"),
        (
            "ID,duration,wav,start,stop,num_samples\na,1,x,2,9,8\n",
            "start=2, stop=9 is no segment of 8 samples",
        ),
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


def test_a_failed_write_leaves_nothing(tmp_path):
    write_manifest(tmp_path / "m.csv", [clip()])
    before = (tmp_path / "m.csv").read_text()
    with pytest.raises(ValueError, match="unexpected"):
        write_manifest(tmp_path / "m.csv", [clip("b"), clip("c", unexpected=1)])
    assert (tmp_path / "m.csv").read_text() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_all_paths_are_below_the_data_root(tmp_path):
    for name in ("a.flac", "n.flac"):
        (tmp_path / name).touch()
    row = clip(noisy="$data_root/n.flac", s2="$data_root/s2.flac", note="in $data_root/x")
    write_manifest(tmp_path / "m.csv", [row])
    (read,) = read_manifest(tmp_path / "m.csv", tmp_path)
    assert read["wav"] == f"{tmp_path}/a.flac"
    assert read["noisy"] == f"{tmp_path}/n.flac"
    assert read["s2"] == f"{tmp_path}/s2.flac"
    assert read["note"] == "in $data_root/x"
    (tmp_path / "n.flac").unlink()
    with pytest.raises(UserError, match="1 of 2 audio files are missing, first .*n.flac"):
        read_manifest(tmp_path / "m.csv", tmp_path)


def test_segments_are_numbers(tmp_path):
    (tmp_path / "a.flac").touch()
    rows = [clip("a", start=0, stop=24000), clip("b", wav="a.flac", start=24000, stop=48000)]
    write_manifest(tmp_path / "m.csv", rows)
    read = read_manifest(tmp_path / "m.csv", tmp_path)
    assert [(row["start"], row["stop"]) for row in read] == [(0, 24000), (24000, 48000)]
    (tmp_path / "a.flac").unlink()
    with pytest.raises(UserError, match="1 of 1 audio files are missing"):
        read_manifest(tmp_path / "m.csv", tmp_path)


def test_segments_are_refused_where_whole_files_are_needed(tmp_path):
    write_manifest(tmp_path / "m.csv", [clip(start=0, stop=24000)])
    with pytest.raises(UserError, match="'a' is a part of a file, 0 to 24000; evaluate whole"):
        read_sets(tmp_path / "m.csv", SetOptions(data_folder=str(tmp_path)))


def test_evaluation_finds_noisy_files_below_the_data_folder(tmp_path):
    for name in ("a.flac", "n.flac"):
        soundfile.write(tmp_path / name, np.zeros(24000), 16000)
    write_manifest(tmp_path / "m.csv", [clip(noisy="$data_root/n.flac")])
    options = SetOptions(task="denoising", data_folder=str(tmp_path))
    (found,) = read_sets(tmp_path / "m.csv", options)
    assert found.clips[0].input == f"{tmp_path}/n.flac"
    assert found.clips[0].reference == f"{tmp_path}/a.flac"
    with pytest.raises(UserError, match="give --data_folder"):
        read_sets(tmp_path / "m.csv", SetOptions(task="denoising"))
