"""Files are written whole or not at all, and an error of the disk is one line."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors import SafetensorError

from focalcodec import files
from focalcodec.audio import write_audio
from focalcodec.errors import WriteError
from focalcodec.files import append_line, atomic_path, safe_file_name

FULL = OSError(errno.ENOSPC, "No space left on device")
Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_names_file_and_space(tmp_path) -> None:
    path = tmp_path / "a" / "card.json"
    with pytest.raises(WriteError) as caught, atomic_path(path):
        raise FULL
    line = str(caught.value)
    assert line.startswith(f"{path}: can't be written: the disk is full (")
    assert "MB free in" in line and "the same command" in line and "\n" not in line
    assert list(path.parent.iterdir()) == []
    with pytest.raises(WriteError, match="the quota is reached"), atomic_path(path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(WriteError, match="card.json: can't"), atomic_path(path) as temporary:
        with atomic_path(temporary):
            raise FULL


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
        soundfile.LibsndfileError(2),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_library_that_finds_the_disk_full(error, tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.flac"
    with pytest.raises(type(error)), atomic_path(path):  # there is space: it is another error
        raise error
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: Usage(9**9, 9**9, 4096))
    with pytest.raises(WriteError, match=r"a\.flac: .*the disk is full \(0\.0 MB free"):
        with atomic_path(path):
            raise error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="platform: no /dev/full")
def test_writers_of_this_package_on_a_full_disk(tmp_path, monkeypatch) -> None:
    """The real libraries' errors: their temporary file is a device without space."""
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: Usage(9**9, 9**9, 4096))
    monkeypatch.setattr(Path, "with_name", lambda self, name: tmp_path / f"full{self.suffix}")

    def full(suffix: str) -> Path:
        (tmp_path / f"full{suffix}").symlink_to("/dev/full")
        return tmp_path / f"out{suffix}"

    with pytest.raises(WriteError, match="the disk is full"):
        write_audio(full(".wav"), torch.zeros(99999), 16000)
    with pytest.raises(WriteError, match="the disk is full"):
        with atomic_path(full(".txt")) as path:
            path.write_text("a")
    with pytest.raises(WriteError, match="the disk is full"):
        with atomic_path(full(".pt")) as path:
            torch.save({"a": torch.zeros(99999)}, path)


def test_a_folder_that_can_not_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file/b.txt: can't be written: Not a dir|File exists"):
        with atomic_path(tmp_path / "file" / "b.txt") as path:
            path.write_text("")
    (tmp_path / "dir" / "c.txt").mkdir(parents=True)
    with pytest.raises(WriteError, match="c.txt: can't be written: Is a directory; check"):
        with atomic_path(tmp_path / "dir" / "c.txt") as path:
            path.write_text("")
    assert [path.name for path in (tmp_path / "dir").iterdir()] == ["c.txt"]
    refused = OSError(errno.EROFS, "Read-only file system", str(tmp_path))
    with pytest.raises(WriteError, match="d.txt: can't be written: Read-only file system"):
        with atomic_path(tmp_path / "d.txt"):
            raise refused


def test_the_error_of_another_file_stays(tmp_path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "input").read_bytes()
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a"):
        raise OSError(errno.EACCES, "Permission denied", str(tmp_path / "input"))


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    path = tmp_path / "new" / "records.jsonl"
    append_line(path, '{"id": 1}')
    path.write_bytes(path.read_bytes() + b'{"id": ')  # a process that was killed
    append_line(path, '{"id": 2}')
    assert path.read_text() == '{"id": 1}\n{"id": \n{"id": 2}\n'
    before, real_open = path.read_bytes(), Path.open

    class Full:
        """Takes five bytes, then the disk is full."""

        def __init__(self, file) -> None:
            self.file, self.taken = file, False

        def __enter__(self):
            return self

        def __exit__(self, *error) -> None:
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            if self.taken:
                raise FULL
            self.taken = True
            return self.file.write(data[:5])

    monkeypatch.setattr(Path, "open", lambda *args, **options: Full(real_open(*args, **options)))
    with pytest.raises(WriteError, match="records.jsonl: .*the disk is full"):
        append_line(path, '{"id": 3}')
    assert path.read_bytes() == before


def test_temporary_files_are_removed(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a.txt") as path:
        path.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_names_of_files_fit_every_file_system() -> None:
    long = [f"{'ü/' * 150}{end}" for end in "ab"]
    names = [safe_file_name(text) for text in long]
    assert all(len(name.encode()) <= 200 for name in names) and names[0] != names[1]
    assert safe_file_name("a" * 200) == "a" * 200, "names of earlier runs stay"
