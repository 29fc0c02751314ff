"""Mixtures on disk: the same bytes from any number of processes, never mixed with others."""

from __future__ import annotations

import csv
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile

from focalcodec.data.mixture_files import TreePart, write_mixtures
from focalcodec.data.mixtures import MixtureMaker
from focalcodec.errors import UserError
from tests.unit.data.voices import write_voices

MAKE = partial(MixtureMaker, num_speakers=2, reverb_share=0.5, rooms=2)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return write_voices(tmp_path_factory.mktemp("voices"), seconds=0.5)


@pytest.fixture(scope="module")
def tree(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by one process."""
    root = tmp_path_factory.mktemp("one") / "Libri2Mix"
    write_mixtures(TreePart(root, "dev"), MAKE, rows, seed=1)
    return root


def hashes(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_tree_is_librimixs(tree: Path, rows: list[dict[str, Any]]) -> None:
    for mode in ("min", "max"):
        folder = tree / "wav16k" / mode / "dev"
        names = ["mix_both", "mix_clean", "mix_single", "noise", "s1", "s2"]
        assert sorted(path.name for path in folder.iterdir()) == names
        ids = sorted(path.stem for path in (folder / "s1").iterdir())
        assert [clip.split("_")[0] for clip in ids] == [row["ID"] for row in rows]
        infos = [soundfile.info(folder / name / f"{ids[0]}.wav") for name in names]
        assert len({info.frames for info in infos}) == 1
        assert {(info.samplerate, info.subtype) for info in infos} == {(16000, "PCM_16")}
        parts = {n: soundfile.read(folder / n / f"{ids[0]}.wav", dtype="int16")[0] for n in names}
        rest = parts["mix_clean"].astype(int) - parts["s1"] - parts["s2"]
        assert abs(rest).max() <= 2, "rounding"


def test_metadata(tree: Path) -> None:
    folder = tree / "wav16k" / "max" / "metadata"
    with (folder / "mixture_dev_mix_both.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    columns = ["mixture_ID", "mixture_path", "source_1_path", "source_2_path", "noise_path"]
    assert list(lines[0]) == [*columns, "length"] and len(lines) == 6
    for line in lines:
        for column in columns[1:]:
            assert soundfile.info(tree / line[column]).frames == int(line["length"])
    with (folder / "mixture_dev_mix_single.csv").open(newline="") as file:
        assert "source_2_path" not in file.readline()


def test_two_processes_make_the_same(
    tree: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    write_mixtures(TreePart(tmp_path / "Libri2Mix", "dev"), MAKE, rows, seed=1, jobs=2)
    assert hashes(tmp_path / "Libri2Mix") == hashes(tree)


def test_resume_after_a_stop(
    tree: Path, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = TreePart(tmp_path / "Libri2Mix", "dev")
    write, calls = TreePart.write, []

    def stop(self: TreePart, maker: MixtureMaker, row: Any) -> dict[str, int]:
        calls.append(row)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return write(self, maker, row)

    monkeypatch.setattr(TreePart, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        write_mixtures(part, MAKE, rows, seed=1)
    monkeypatch.undo()
    some = hashes(part.root)
    assert 0 < len(some) < len(hashes(tree))
    kept = next(path for path in part.root.rglob("*.wav"))
    before = kept.stat().st_mtime_ns
    write_mixtures(part, MAKE, rows, seed=1)
    assert hashes(part.root) == hashes(tree) and kept.stat().st_mtime_ns == before
    monkeypatch.setattr(MixtureMaker, "sources", None)
    write_mixtures(part, MAKE, rows, seed=1)  # all files exist: nothing is mixed


def test_other_seed_clips_or_options_are_refused(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    part = TreePart(tmp_path / "Libri2Mix", "dev", ["min"], ["mix_both"])
    write_mixtures(part, MAKE, rows, seed=1)
    noise = partial(MAKE, snr_db=[0.0, 5.0])
    for message, arguments in {
        "seed=1, not 2": (MAKE, rows, 2),
        "snr_db=None": (noise, rows, 1),
        "clips=6": (MAKE, rows[:4], 1),
    }.items():
        with pytest.raises(UserError, match=f"dev.json: its mixtures were made with {message}"):
            write_mixtures(part, *arguments)
    before = hashes(part.root)
    write_mixtures(TreePart(part.root, "dev", ["min"], ["mix_clean"]), MAKE, rows, seed=1)
    after = hashes(part.root)
    assert before.items() < after.items(), "what else is wanted of the same mixtures is added"


def test_trees_of_unknown_origin_are_not_changed(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "wav16k" / "min" / "dev").mkdir(parents=True)
    with pytest.raises(UserError, match="of unknown origin"):
        write_mixtures(TreePart(tmp_path, "dev", ["min"]), MAKE, rows, seed=1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_clip_that_breaks_is_named(rows: list[dict[str, Any]], tmp_path: Path, jobs: int) -> None:
    gone = [*rows[:-1], rows[-1] | {"wav": str(tmp_path / "gone.flac")}]
    with pytest.raises(UserError, match=r"gone\.flac"):
        write_mixtures(TreePart(tmp_path / "tree", "dev"), MAKE, gone, seed=1, jobs=jobs)


@pytest.mark.parametrize(
    ("part", "jobs", "message"),
    [
        ({"modes": ["mean"]}, 1, "mode='mean'"),
        ({"mixtures": ["mix"]}, 1, "mixtures: 'mix'"),
        ({}, 0, "jobs=0"),
    ],
)
def test_wrong_options(
    rows: list[dict[str, Any]], tmp_path: Path, part: dict[str, Any], jobs: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_mixtures(TreePart(tmp_path, "dev", **part), MAKE, rows, seed=1, jobs=jobs)
