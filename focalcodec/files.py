"""Files: written atomically, their hashes, and the suffixes of audio files."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Suffixes of audio that libsndfile reads: no .mat, .raw or .htk.
AUDIO_SUFFIXES = (
    *(".aif", ".aifc", ".aiff", ".au", ".bwf", ".caf", ".flac", ".mp1", ".mp2", ".mp3", ".nist"),
    *(".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".voc", ".w64", ".wav", ".wave"),
)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Temporary path beside `path`; it replaces `path` when the block ends without an error.

    The folder is made if it is missing. The suffix stays, because it gives the format to writers of
    audio. If the block raises, `path` does not change and the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    return re.sub(r"[^\w.-]", "_", text.replace(":", "-")).lstrip(".") or "_"
