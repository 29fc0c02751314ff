"""Files: written atomically, JSON of others, their hashes, and the suffixes of audio files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from focalcodec.errors import UserError, WriteError

MOST_JSON_BYTES = 2**28

# Suffixes of audio that libsndfile reads (no .mat, .raw or .htk), and that ffmpeg decodes.
AUDIO_SUFFIXES = (
    *(".aif", ".aifc", ".aiff", ".au", ".bwf", ".caf", ".flac", ".mp1", ".mp2", ".mp3", ".nist"),
    *(".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".voc", ".w64", ".wav", ".wave"),
    *(".aac", ".amr", ".m4a", ".mka", ".webm", ".wma"),
)

_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.EFBIG, errno.EIO),
)
LONGEST_NAME = 200  # bytes; file systems take 255, with the suffix


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Temporary path beside `path`; it replaces `path` when the block ends without an error.

    The folder is made if it is missing. The suffix stays, because it gives the format to writers of
    audio. If the block raises, `path` does not change and the temporary file is removed. Raises a
    `WriteError` if the disk is full or the folder can't be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        except WriteError as error:  # of a block that calls a writer of this package
            raise WriteError(str(error).replace(str(temporary), str(path))) from error
        finally:
            with suppress(NotADirectoryError):  # a file has the folder's name
                temporary.unlink(missing_ok=True)


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Append a line of ASCII text to a file: the whole line or, with a `WriteError`, nothing.

    An incomplete last line, from a process that was killed, is ended before.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            data = (b"" if file.read(1) in (b"", b"\n") else b"\n") + f"{line}\n".encode("ascii")
            try:
                while data:  # a disk that gets full takes a part first, and fails then
                    data = data[file.write(data) :]
            except OSError:
                file.truncate(end)
                raise


@contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise a `WriteError`, which names `path` and the free space, for an error of the disk."""
    path = Path(path)
    try:
        yield
    except Exception as error:
        reason = disk_problem(error, path)
        if not reason:
            raise
        raise WriteError(f"{path}: can't be written: {reason}") from error


def disk_problem(error: Exception, path: Path) -> str:
    """Problem and way out if the disk is the cause of an error while `path` is written, else ""."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    code = error.errno if isinstance(error, OSError) else None
    # safetensors, libsndfile and torch have errors of their own.
    by_library = re.search(r"os error \d|System error|PytorchStreamWriter|inline_con", str(error))
    if code in (errno.ENOSPC, errno.EDQUOT) or (by_library and free < 1 << 20):
        full = "the quota is reached" if code == errno.EDQUOT else "the disk is full"
        return (
            f"{full} ({free / 1e6:.1f} MB free in {folder}); free some space, then start the same"
            " command again"
        )
    if isinstance(error, OSError) and code in _REFUSED and _is_of(error.filename, path):
        return f"{error.strerror}; check its folder, or choose another one"
    return ""


def _is_of(name: str | os.PathLike[str] | None, path: Path) -> bool:
    """Whether an error is of `path`, its folders or its temporary file, not of a file it reads."""
    if name is None:
        return True
    found = Path(name)
    is_temporary = found.parent == path.parent and found.name.startswith(".")
    return is_temporary or found in (path, *path.parents)


def read_json(path: str | os.PathLike[str], advice: str = "copy it again") -> Any:
    """Content of a JSON file that may be of others, in UTF-8 with or without a byte-order mark.

    Raises a `UserError`, which ends with `advice`, if it can't be read, is not JSON, has hundreds
    of levels, or is larger than 256 MB.

    Example
    -------
    >>> read_json("no/such.json")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no/such.json: No such file or directory; copy it again
    """
    try:
        size = os.stat(path).st_size
        if size > MOST_JSON_BYTES:
            raise ValueError(f"{size} bytes, more than {MOST_JSON_BYTES}")
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {advice}") from error
    except RecursionError as error:
        raise UserError(f"{path}: not JSON (too many levels); {advice}") from error
    # ValueError: wrong bytes, wrong JSON, or a number of thousands of digits
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); {advice}") from error


def read_text(path: str | os.PathLike[str], errors: str = "strict") -> str:
    """Read a UTF-8 file, with or without a byte-order mark; its line ends stay as they are.

    `errors` is that of `bytes.decode`: "surrogateescape" keeps names of files that are not UTF-8.
    Raises `UserError` if the file can't be read, or is not UTF-8 text, as UTF-16 of PowerShell.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); copy it again") from error
    if b"\0" in content:
        raise UserError(f"{path}: not UTF-8 (it has NUL bytes, as UTF-16 has); save it as UTF-8")
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save it as UTF-8") from error


def split_lines(text: str) -> list[str]:
    r"""Lines of a text, which end in \n or \r\n; no other character ends a line.

    `str.splitlines` would also split at characters that names and transcripts may contain.

    Example
    -------
    >>> split_lines("a\u2028b\r\nc\x0b\n")
    ['a\u2028b', 'c\x0b']
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of an existing file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def safe_file_name(text: str) -> str:
    """Turn a text into a file name that every file system accepts.

    Example
    -------
    >>> safe_file_name("91/1/91-1-0000"), safe_file_name("opus:6")
    ('91_1_91-1-0000', 'opus-6')
    """
    name = re.sub(r"[^\w.-]", "_", text.replace(":", "-")).lstrip(".") or "_"
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{encoded[: LONGEST_NAME - 17].decode(errors='ignore')}-{digest}"


def distinct_file_names(texts: Iterable[str]) -> dict[str, str]:
    """Return a file name for each text, by `safe_file_name`, so that no two share a file.

    Some file systems ignore case, so names differ in more than case.

    Example
    -------
    >>> distinct_file_names(["a/b", "a_b", "A_b"])
    {'a/b': 'a_b', 'a_b': 'a_b_', 'A_b': 'A_b__'}
    """
    taken: set[str] = set()
    names = {}
    for text in texts:
        name = safe_file_name(text)
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        names[text] = name
    return names
