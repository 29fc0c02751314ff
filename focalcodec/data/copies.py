"""Which files of a corpus have the same bytes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

from focalcodec.files import file_sha256

_PEEK = 4096  # bytes of the middle, which differ in all but true copies and silence


def first_copies(
    data_root: str | Path, paths: Sequence[str], num_threads: int = 8
) -> dict[str, str]:
    """Find files with the same bytes.

    Sizes are compared first, then some bytes of the middle, and hashes only of files that are
    alike in both: a corpus of different recordings is not read.

    Parameters
    ----------
    data_root : str or path
        Folder.
    paths : sequence of str
        Readable files below it.
    num_threads : int
        Threads that read.

    Returns
    -------
    dict of str to str
        For each further copy, the first of them by name.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, content in (("a", b"same"), ("b", b"different"), ("c", b"same")):
    ...         _ = Path(folder, name).write_bytes(content)
    ...     first_copies(folder, ["c", "b", "a"])
    {'c': 'a'}
    """
    root = Path(data_root)
    alike = [sorted(paths)]
    with ThreadPool(num_threads) as pool:
        for look in (_size, _middle, file_sha256):
            alike = [same for some in alike for same in _alike(pool, root, some, look)]
    return {path: same[0] for same in alike for path in same[1:]}


def _alike(
    pool: ThreadPool, root: Path, paths: Sequence[str], look: Callable[[Path], Hashable]
) -> Iterable[list[str]]:
    """Paths with the same look, where there are several."""
    found = defaultdict(list)
    looks = pool.imap(look, (root / path for path in paths), chunksize=16)
    for path, value in zip(paths, looks, strict=True):
        found[value].append(path)
    return [same for same in found.values() if len(same) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _middle(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size // 2 - _PEEK // 2))
        return hashlib.sha256(file.read(_PEEK)).digest()
