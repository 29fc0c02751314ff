"""SOURCE... OUT: the files that are read, the paths of outputs, and errors before any work."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from focalcodec.cli.paths import Job, find_sources, open_source, open_target, plan_jobs
from focalcodec.data.corpus import walk_files
from focalcodec.errors import UserError
from focalcodec.tokenize.sources import folder_clips

TREE = ("a.wav", "b/a.FLAC", "b/c/d.mp3", "b/.hidden.wav", ".hidden/e.wav", "notes.txt")


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder `in` in the current folder, which gets the outputs."""
    for name in TREE:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)


def plan(*words: str, writes: tuple[str, ...] = (".fct",)) -> dict[str, str]:
    jobs = plan_jobs(words[:-1], words[-1], writes=writes)
    return {Path(str(s)).as_posix(): Path(str(t)).as_posix() for s, t in jobs}


def test_a_folder_keeps_its_tree() -> None:
    expected = {
        "in/a.wav": "out/a.fct",
        "in/b/a.FLAC": "out/b/a.fct",
        "in/b/c/d.mp3": "out/b/c/d.fct",
    }
    assert plan("in", "out") == plan("in/", "out/") == expected


def test_a_file_to_a_file_or_to_a_folder() -> None:
    assert plan("in/a.wav", "out.fct") == {"in/a.wav": "out.fct"}
    assert plan("in/a.wav", "out/") == {"in/a.wav": "out/a.fct"}
    assert plan("in/a.wav", "in/b") == {"in/a.wav": "in/b/a.fct"}
    assert plan("in/notes.txt", "out/") == {"in/notes.txt": "out/notes.fct"}, "a named file is read"


def test_several_files_go_to_a_folder() -> None:
    files = ("in/a.wav", "in/b/c/d.mp3")
    assert plan(*files, "out") == {"in/a.wav": "out/a.fct", "in/b/c/d.mp3": "out/d.fct"}


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("in/*.wav", ["a"]),
        ("in/**/*.mp3", ["b/c/d"]),
        ("in/**", ["a", "b/a", "b/c/d"]),
        ("*/b/*", ["in/b/a"]),
        ("in/[ab]*", ["a"]),
    ],
)
def test_patterns_keep_the_tree_below_their_fixed_part(pattern: str, expected: list[str]) -> None:
    assert list(plan(pattern, "out").values()) == [f"out/{stem}.fct" for stem in expected]


def test_a_file_named_like_a_pattern_is_that_file() -> None:
    Path("in/a[1].wav").touch()
    assert plan("in/a[1].wav", "out.fct") == {"in/a[1].wav": "out.fct"}


def test_standard_input_and_output() -> None:
    assert plan_jobs(["-"], "-") == [Job(None, None)]
    assert plan_jobs(["-"], "a.wav") == [Job(None, Path("a.wav"))]
    assert plan_jobs(["in/a.wav"], "-") == [Job(Path("in/a.wav"), None)]


def test_a_file_that_is_given_twice_is_one_job() -> None:
    assert len(plan_jobs(["in/a.wav", "in/a.wav", "in/*.wav"], "out")) == 1
    assert len(plan_jobs(["in/b/a.FLAC", "in/b"], "out")) == 2


def test_outputs_inside_the_source_are_not_sources() -> None:
    first = plan("in", "in/out", writes=(".wav",))
    for target in first.values():
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).touch()
    assert plan("in", "in/out", writes=(".wav",)) == first
    assert plan("in/**", "in/out", writes=(".wav",)) == first
    assert plan("in/out", "in", writes=(".fct",)) == {
        f"in/out/{name}.wav": f"in/{name}.fct" for name in ("a", "b/a", "b/c/d")
    }, "an OUT folder above its sources"


@pytest.mark.parametrize(
    "words, message",
    [
        (("gone.wav", "out.fct"), "gone.wav: no such file or folder"),
        (("in/*.ogg", "out"), r"in/\*.ogg: gives no files that end in"),
        (("in/.hidden", "-"), "standard output takes one file"),
        (("-", "in"), "standard input has no name"),
        (("-", "in/a.wav", "out"), "must be the only source"),
        (("in/a.wav", "in/b/a.FLAC", "in/notes.txt"), "a file, but there are several sources"),
        (("in/a.wav", "b.wav"), r"b.wav: give OUT a name that ends in \.fct"),
        (
            ("in/a.wav", "in/b/a.FLAC", "out"),
            r"in/a.wav, in/b/a.FLAC: both have the output",
        ),
    ],
)
def test_errors_before_any_work(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(*words)


def test_a_source_is_never_an_output() -> None:
    Path("in/a.flac").touch()
    Path("in/a.wav").unlink()
    assert plan("in/a.flac", "in/", writes=(".wav",)) == {"in/a.flac": "in/a.wav"}
    for words in (("in", "in"), ("in/a.flac", "in/a.flac")):
        with pytest.raises(UserError, match="both a source and an output"):
            plan(*words, writes=(".flac",))


def test_a_folder_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    for source in ("in", "in/**/*.wav"):
        with pytest.raises(UserError, match="^in: this folder can't be read"):
            find_sources([source])


@pytest.fixture
def linked() -> set[str]:
    """Links of all kinds; the files of `in` that are to be found."""
    Path("store/deep").mkdir(parents=True)
    Path("store/deep/s.wav").touch()
    links = {
        **{"in/spk": "../store", "in/b/self": ".", "in/b/up": "..", "in/above": "../.."},
        **{"in/b/c/to_d": "../../d", "in/again": "../store/deep", "in/x.wav": "x.wav"},
    }
    Path("in/d").mkdir()
    Path("in/d/e.wav").touch()
    Path("in/d/to_c").symlink_to("../b/c")
    for link, target in links.items():
        Path(link).symlink_to(target)
    os.mkfifo("in/pipe.wav")
    return {"a.wav", "b/a.FLAC", "b/c/d.mp3", "d/e.wav", "again/s.wav", "x.wav"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="platform: no links and pipes")
def test_links_are_followed_and_each_file_comes_once(linked: set[str]) -> None:
    for source in ("in", "in/**", "in/**/*.*", "i*/**"):
        found = find_sources([source])
        below = {file.below.as_posix().removeprefix("in/") for file in found}
        assert below == linked and len(found) == len(linked), source
    assert {clip.location.partition("/")[2] for clip in folder_clips(Path("in"))} == linked
    files = walk_files(Path("in"), "")
    assert {file.path for file in files} == linked | {"notes.txt"}, "prepare and recipes"
    assert plan("in/**/e.wav", "out") == {"in/d/e.wav": "out/d/e.fct"}
    assert find_sources(["in/x.wav*"]) == [(Path("in/x.wav"), Path("x.wav"))]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="platform: no pipes")
def test_a_pipe_has_a_way_out() -> None:
    os.mkfifo("pipe.wav")
    with pytest.raises(UserError, match="^pipe.wav: a pipe or device; .* give -$"):
        plan("pipe.wav", "out.fct")


def test_a_linked_folder_is_like_any_other() -> None:
    Path("store").mkdir()
    Path("store/s.wav").touch()
    Path("in/spk").symlink_to("../store")
    for source in ("in", "in/**/*.wav"):
        assert plan(source, "out")["in/spk/s.wav"] == "out/spk/s.fct"
    assert plan("in/*/*.wav", "out") == {"in/spk/s.wav": "out/spk/s.fct"}


def test_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"abc")))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=sent, isatty=lambda: False))
    with open_source(None) as source, open_target(None) as target:
        assert isinstance(source, io.BytesIO) and isinstance(target, io.BytesIO)
        assert source.seek(1) == 1 and source.read() == b"bc"
        target.write(b"def")
        assert sent.getvalue() == b"", "nothing is sent before the end"
    assert sent.getvalue() == b"def"
    with pytest.raises(RuntimeError), open_target(None) as target:
        target.write(b"half")  # type: ignore[union-attr]
        raise RuntimeError
    assert sent.getvalue() == b"def"
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=sent, isatty=lambda: True))
    with pytest.raises(UserError, match="terminal"), open_target(None):
        pass
