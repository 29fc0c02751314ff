"""From found clips to manifests: segments, when manifests are made again, broken trees."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.audio import read_audio
from focalcodec.data.clips import read_clip
from focalcodec.data.corpus import FoundClip, FoundFile, PrepareOptions, SetSource, walk_files
from focalcodec.data.manifest import is_prepared, prepared_names, prepared_root, read_prepared
from focalcodec.data.prepare import prepare_sets
from focalcodec.data.randomness import clip_generator
from focalcodec.errors import UserError
from focalcodec.files import AUDIO_SUFFIXES

posix_only = pytest.mark.skipif(os.name == "nt", reason="platform: not with Windows' file system")


def write_clip(path: Path, seconds: float = 0.5, rate: int = 8000, **kwargs) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sig = 0.1 * np.random.default_rng(len(path.name)).normal(size=round(seconds * rate))
    soundfile.write(path, sig, rate, **kwargs)


def find(data_root: Path, files: list[FoundFile]) -> list[FoundClip]:
    """Every audio file is a clip by its name."""
    paths = [file.path for file in files if file.path.endswith(AUDIO_SUFFIXES)]
    return [FoundClip(Path(path).stem, path, wrd="YES") for path in paths]


def prepare(root: Path, save: Path, find=find, details=None, skip_prep=False, **options) -> None:
    sets = {"train": SetSource([""], find, details or {})}
    prepare_sets(root, save, sets, PrepareOptions(**options), skip_prep)


def rows_of(root: Path, save: Path, **options) -> list[dict]:
    prepare(root, save, **options)
    return read_prepared(save)["train"]


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())
    }


@pytest.fixture
def root(tmp_path):
    """Three short clips."""
    for name in "abc":
        write_clip(tmp_path / "corpus" / f"{name}.wav")
    return tmp_path / "corpus"


# -- segments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [8000, 22050])
def test_segments_are_equal_and_cover_the_file(tmp_path, kind, rate):
    write_clip(tmp_path / "corpus" / f"long.{kind}", 7.3, rate)
    rows = rows_of(tmp_path / "corpus", tmp_path / "save", segment_seconds=2.0)
    assert [row["ID"] for row in rows] == [f"long_{place:04d}" for place in range(4)]
    assert rows[0]["start"] == 0 and rows[-1]["stop"] == round(7.3 * rate)
    assert all(one["stop"] == two["start"] for one, two in zip(rows, rows[1:], strict=False))
    samples = [row["num_samples"] for row in rows]
    assert max(samples) - min(samples) <= 1
    for row in rows:
        assert row["num_samples"] == row["stop"] - row["start"] <= 2 * rate
        assert row["duration"] == pytest.approx(row["num_samples"] / rate, abs=1e-6)
        assert row["wrd"] == ""  # the transcript is of the whole
    parts = [read_clip(row["wav"], rate, (row["start"], row["stop"])) for row in rows]
    assert torch.cat(parts).equal(read_audio(rows[0]["wav"], rate))


@pytest.mark.parametrize("samples", [16000, 16001, 31999, 32000, 32001, 48001])
def test_no_segment_is_short(tmp_path, samples):
    write_clip(tmp_path / "corpus" / "a.wav", samples / 8000)
    rows = rows_of(tmp_path / "corpus", tmp_path / "save", segment_seconds=2.0)
    assert len(rows) == -(-samples // 16000)
    assert all(min(samples, 8000) <= row["num_samples"] <= 16000 for row in rows)


def test_whole_files_beside_segments_have_the_same_columns(root, tmp_path):
    write_clip(root / "long.flac", 3.0)
    rows = rows_of(root, tmp_path / "save", segment_seconds=2.0)
    assert [(row["ID"], row["start"], row["stop"], row["wrd"]) for row in rows] == [
        *((name, 0, 4000, "YES") for name in "abc"),
        *(("long_0000", 0, 12000, ""), ("long_0001", 12000, 24000, "")),
    ]


@pytest.mark.parametrize("limit", [None, 1.0, 30.0])
def test_without_long_files_a_manifest_is_of_whole_files(root, tmp_path, limit):
    rows = rows_of(root, tmp_path / "save", segment_seconds=limit)
    assert [row["ID"] for row in rows] == ["a", "b", "c"]
    assert not any("start" in row or "stop" in row for row in rows)


def test_a_file_can_have_the_name_of_a_segment(tmp_path):
    for name in ("a", "a_", "a_0000", "a__0001"):
        write_clip(tmp_path / "corpus" / f"{name}.wav", 3.0 if name in ("a", "a_") else 0.5)
    rows = rows_of(tmp_path / "corpus", tmp_path / "save", segment_seconds=2.0)
    ids = [row["ID"] for row in rows]
    assert len(ids) == len(set(ids)) == 6 and {"a_0000", "a__0001"} < set(ids)
    of_file = {row["ID"]: Path(row["wav"]).stem for row in rows}
    assert of_file["a_0000"] == "a_0000" and of_file["a__0001"] == "a__0001"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segment_seconds": 0}, "segment_seconds=0: give 1 or more"),
        ({"segment_seconds": -5.0}, "segment_seconds=-5.0"),
        ({"segment_seconds": float("nan")}, "segment_seconds=nan"),
        ({"segment_seconds": 3.0, "min_seconds": 2.0}, "segment_seconds=3.0: give 4 or more"),
    ],
)
def test_segments_that_could_be_too_short_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        PrepareOptions(**options)


# -- manifests that are kept or made again ---------------------------------------------------------


def test_unchanged_manifests_are_not_written_again(root, tmp_path):
    save = tmp_path / "save"
    prepare(root, save, details={"languages": ("de", "fr")})
    before = state(save)
    assert list(before) == ["sets.json", "train.csv", "train.csv.json"]
    prepare(root, save, details={"languages": ["de", "fr"]})
    assert state(save) == before
    prepare(root, save, details={"languages": ["de"]})
    assert state(save)["train.csv.json"] != before["train.csv.json"]


def correct(manifest: Path) -> bytes:
    """Correct a transcript by hand."""
    manifest.write_bytes(manifest.read_bytes().replace(b",YES,", b",NO,", 1))
    return manifest.read_bytes()


def test_a_correction_by_hand_is_kept(root, tmp_path, caplog):
    prepare(root, tmp_path / "save")
    corrected = correct(tmp_path / "save" / "train.csv")
    assert [row["wrd"] for row in rows_of(root, tmp_path / "save")] == ["NO", "YES", "YES"]
    assert "train.csv: changed after it was made; kept" in caplog.text
    (tmp_path / "save" / "sets.json").unlink()
    prepare(root, tmp_path / "save")
    assert (tmp_path / "save" / "train.csv").read_bytes() == corrected


@pytest.mark.parametrize("change", ["option", "file"])
def test_a_correction_by_hand_is_never_made_again(root, tmp_path, change):
    save = tmp_path / "save"
    prepare(root, save)
    correct(save / "train.csv")
    before = state(save)
    if change == "file":
        write_clip(root / "d.wav")
    with pytest.raises(UserError, match=r"save/train.csv: changed by hand .* remove it") as error:
        prepare(root, save, min_seconds=0.1)
    assert state(save) == before and "skip_prep" not in str(error.value)
    (save / "train.csv").unlink()
    assert {row["wrd"] for row in rows_of(root, save, min_seconds=0.1)} == {"YES"}


def test_a_manifest_of_somebody_else_is_kept(root, tmp_path):
    (tmp_path / "save").mkdir()
    (tmp_path / "save" / "train.csv").write_text("mine")
    with pytest.raises(UserError, match="save/train.csv: not made by a preparation"):
        prepare(root, tmp_path / "save")
    assert (tmp_path / "save" / "train.csv").read_text() == "mine"


def test_a_set_that_is_not_named_any_more_is_not_read(root, tmp_path):
    source = SetSource([""], find)
    for names in (["train", "test"], ["train"]):
        prepare_sets(root, tmp_path / "save", dict.fromkeys(names, source), PrepareOptions())
        assert prepared_names(tmp_path / "save") == list(read_prepared(tmp_path / "save")) == names


def test_skip_prep_touches_nothing(tmp_path):
    prepare(tmp_path / "no", tmp_path / "save", skip_prep=True)
    assert not (tmp_path / "save").exists()


def test_moved_corpus_is_found_again(root, tmp_path):
    save, moved = tmp_path / "save", tmp_path / "moved"
    prepare(root, save)
    manifest = state(save)["train.csv"]
    shutil.move(root, moved)
    with pytest.raises(UserError, match=r"3 of 3 audio files are missing, first .*a\.wav"):
        read_prepared(save)
    prepare(moved, save)
    assert prepared_root(save) == moved and len(read_prepared(save)["train"]) == 3
    assert state(save)["train.csv"] == manifest


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"data_root": "x"}', '{"data_root": "x", "sets": 3}']
)
def test_damaged_list_of_sets_is_named(root, tmp_path, text):
    prepare(root, tmp_path / "save")
    whole = (tmp_path / "save" / "sets.json").read_text()
    (tmp_path / "save" / "sets.json").write_text(text)
    with pytest.raises(UserError, match=r"sets\.json: .*prepare again") as error:
        read_prepared(tmp_path / "save")
    assert "\n" not in str(error.value)
    prepare(root, tmp_path / "save")
    assert (tmp_path / "save" / "sets.json").read_text() == whole


def test_unprepared_folder_is_an_error(tmp_path):
    assert not is_prepared(tmp_path) and not is_prepared(tmp_path / "no")
    for reader in (read_prepared, prepared_names, prepared_root):
        with pytest.raises(UserError, match="run the preparation"):
            reader(tmp_path)


# -- odd and broken trees --------------------------------------------------------------------------


def test_known_problems_are_listed_and_counted(root, tmp_path):
    def with_problem(data_root, files):
        problem = FoundClip("list.tsv:3", "list.tsv", problem="line 3: ID 'a' is on line 2 already")
        return [*find(data_root, files), problem]

    with pytest.raises(UserError, match="1 of 4 clips are broken.*line 3: ID 'a'"):
        prepare(root, tmp_path / "save", with_problem, max_broken_share=0.2)
    prepare(root, tmp_path / "save", with_problem, max_broken_share=0.25)
    assert len(read_prepared(tmp_path / "save")["train"]) == 3
    listed = (tmp_path / "save" / "train.skipped.csv").read_text()
    assert listed == "path,reason\nlist.tsv,line 3: ID 'a' is on line 2 already\n"


def test_further_columns_and_their_paths(root, tmp_path):
    def with_noisy(data_root, files):
        return [
            FoundClip(clip.id, clip.wav, extra={"language": "de", "noisy": "$data_root/c.wav"})
            for clip in find(data_root, files)
        ]

    rows = rows_of(root, tmp_path / "save", find=with_noisy)
    assert {(row["language"], row["noisy"]) for row in rows} == {("de", str(root / "c.wav"))}
    assert str(root) not in (tmp_path / "save" / "train.csv").read_text()


@posix_only
@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9",
        "語 ü".encode(),
        b'a,b "c"',
        b"two\nlines",
        b"$data_root",
        b"re\rturn",
        "\u2028 \x85\x0b\x0c\x1c".encode(),
    ],
)
def test_any_file_name_survives(tmp_path, name):
    root = tmp_path / "corpus"
    write_clip(root / "a.wav")
    try:
        os.rename(root / "a.wav", os.path.join(os.fsencode(root), name + b".wav"))
    except OSError:
        pytest.skip("platform: this file system takes no such name")
    (row,) = rows_of(root, tmp_path / "save")
    assert os.fsencode(row["wav"]).endswith(name + b".wav") and Path(row["wav"]).is_file()
    assert os.fsencode(row["ID"]) == name
    assert clip_generator(0, 1, row["ID"]).initial_seed() > 0
    before = state(tmp_path / "save")
    prepare(root, tmp_path / "save")
    assert state(tmp_path / "save") == before


@posix_only
def test_folder_that_is_linked_into_itself_is_walked_once(root, tmp_path):
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "up").symlink_to(root)
    (root / "deep" / "self").symlink_to(root / "deep")
    (tmp_path / "elsewhere").mkdir()
    write_clip(tmp_path / "elsewhere" / "d.wav")
    (root / "deep" / "aside").symlink_to(tmp_path / "elsewhere")
    found = [file.path for file in walk_files(root, "")]
    assert found == ["a.wav", "b.wav", "c.wav", "deep/aside/d.wav"]
    assert [file.path for file in walk_files(root, "deep")] == ["deep/aside/d.wav"]


def test_manifests_are_not_written_into_the_corpus(root):
    with pytest.raises(UserError, match="is inside the data folder"):
        prepare(root, root / "save")
    assert not (root / "save").exists()


def test_a_manifest_with_a_damaged_sidecar_may_have_been_changed(root, tmp_path):
    prepare(root, tmp_path / "save")
    whole = (tmp_path / "save" / "train.csv").read_bytes()
    sidecar = tmp_path / "save" / "train.csv.json"
    manifest = tmp_path / "save" / "train.csv"
    for damaged in ("", "[]"):
        sidecar.write_text(damaged)
        manifest.write_bytes(whole[:50])
        with pytest.raises(UserError, match=r"train.csv.json: damaged, .* remove both"):
            prepare(root, tmp_path / "save")
        assert manifest.read_bytes() == whole[:50]
        sidecar.unlink()
        manifest.unlink()
        prepare(root, tmp_path / "save")
        assert manifest.read_bytes() == whole
    sidecar.write_text(json.dumps({"key": {}}))  # of a version that kept no hash
    manifest.write_bytes(whole[:50])
    prepare(root, tmp_path / "save")
    assert manifest.read_bytes() == whole
