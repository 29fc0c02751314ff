"""Split the clips of one folder into sets for training, validation and test."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TypeAlias

from focalcodec.data.corpus import ShareOptions
from focalcodec.data.prepare import Row, segment_row
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError
from focalcodec.files import file_sha256

SETS = ("train", "valid", "test")
_logger = logging.getLogger(__name__)
_SHORTEST_PART = 1.0  # seconds, of the smallest set that is part of a file
_PEEK = 4096  # bytes in the middle; they are equal only in true copies and in silence

Group: TypeAlias = "tuple[str, str]"  # ("speaker" or "file", name)


def share_out(
    rows: Sequence[Row], copies: Mapping[str, str], options: ShareOptions, where: str
) -> tuple[dict[str, list[Row]], str]:
    """Split whole files (rows of `build_manifests`) into the sets train, valid and test.

    Groups (speakers or files) are ordered by a hash of their name: the same folder always gives
    the same sets, and files that are added later move few others. Files with the same bytes as
    another file, `copies` from `first_copies`, are never in two sets. With fewer than three files
    the sets are parts of files: one stretch of time each.

    Returns the rows of each set, none of them empty, and how they were split, for people. Raises
    `UserError`, which names the folder `where`, for too few speakers or too little audio.
    """
    # Copies do not count, because a set must not have copies only.
    firsts = [row for row in rows if row["wav"] not in copies]
    speakers = len({row["spk_id"] for row in firsts} - {""})
    needed = math.ceil(1 / options.smallest)
    by_speaker = options.split_by == "speaker" or (
        options.split_by == "auto" and speakers >= needed
    )
    count = len({_group(row, by_speaker) for row in firsts})
    if by_speaker and count < len(SETS):
        raise UserError(
            f"{where}: {count} speakers (first folders below it) with files of their own, three"
            " sets need 3; take split_by=file"
        )
    if count < len(SETS):
        return _by_time(rows, options, where), f"by time, since files are under 3: {count}"
    how = f"by speaker, {speakers} of them" if by_speaker else "by file"
    if speakers and options.split_by == "auto" and not by_speaker:
        how += f", since speakers (first folders) are under {needed}: {speakers}"
    chosen = _choose(firsts, options, by_speaker)
    return _place(rows, copies, chosen, by_speaker, where), how


def _group(row: Row, by_speaker: bool) -> Group:
    """Group that must stay together: the speaker, or the file if there is no speaker."""
    return ("speaker", row["spk_id"]) if by_speaker and row["spk_id"] else ("file", row["wav"])


def _choose(rows: Sequence[Row], options: ShareOptions, by_speaker: bool) -> dict[Group, str]:
    """Set of each group."""
    seconds: dict[Group, float] = defaultdict(float)
    for row in rows:
        seconds[_group(row, by_speaker)] += row["duration"]
    left = sorted(seconds, key=lambda group: (stable_seed(options.seed, *group), group))
    chosen = dict.fromkeys(left, "train")
    total = sum(seconds.values())
    for name, share, later in (("test", options.test_share, 2), ("valid", options.valid_share, 1)):
        groups = [(group, seconds[group]) for group in left]
        chosen.update(dict.fromkeys(_fill(groups, share * total, len(left) - later), name))
        left = [group for group in left if chosen[group] == "train"]
    return chosen


def _place(
    rows: Sequence[Row],
    copies: Mapping[str, str],
    chosen: Mapping[Group, str],
    by_speaker: bool,
    where: str,
) -> dict[str, list[Row]]:
    """Rows of each set.

    A copy is put into the set of the first file with the same bytes. If the speaker of the copy is
    in another set, the copy is left out. Speakers with a common file are not put into one set: a
    jingle in all folders would join all speakers.
    """
    set_of = {row["wav"]: chosen.get(_group(row, by_speaker)) for row in rows}
    sets: dict[str, list[Row]] = {name: [] for name in SETS}
    left_out = 0
    for row in rows:
        wav = row["wav"]
        name = set_of[copies.get(wav, wav)]
        assert name is not None  # the first of its copies has a set
        if set_of[wav] in (None, name):
            sets[name].append(row)
        else:
            left_out += 1
    if left_out:
        _logger.warning(
            f"{where}: {left_out} copies left out, because their speakers are in other sets"
        )
    return sets


def _fill(groups: Sequence[tuple[Group, float]], target: float, most: int) -> list[Group]:
    """First groups with a sum of seconds nearest to the target; at least one, at most `most`."""
    selected: list[Group] = []
    filled = 0.0
    for name, seconds in groups:
        if seconds > target:
            continue  # it would be the whole set; without it the set has several groups
        if len(selected) == most or abs(filled + seconds - target) >= abs(filled - target):
            break
        selected.append(name)
        filled += seconds
    return selected or [min(groups, key=lambda group: group[1])[0]]


def _by_time(rows: Sequence[Row], options: ShareOptions, where: str) -> dict[str, list[Row]]:
    """Cut each file into three parts: training, validation, and the end for the test."""
    sets: dict[str, list[Row]] = {name: [] for name in SETS}
    for row in rows:
        total, end = row["num_samples"], 1 - options.test_share
        edges = [0, *(round(total * x) for x in (end - options.valid_share, end)), total]
        if row["duration"] * options.smallest < _SHORTEST_PART:
            sets["train"].append(row)
            continue
        for name, start, stop in zip(SETS, edges, edges[1:], strict=False):
            sets[name].append(segment_row(row, f"{row['ID']}_{name}", start, stop))
    if not sets["test"]:
        least = _SHORTEST_PART / options.smallest
        raise UserError(
            f"{where}: too little audio for three sets, {len(rows)} files, of which the longest"
            f" has {max(row['duration'] for row in rows):.1f} s; give 3 files, or one of"
            f" {least:g} s or more"
        )
    return sets


# -- files with the same bytes ---------------------------------------------------------------------


def first_copies(
    data_root: str | Path, paths: Sequence[str], num_threads: int = 8
) -> dict[str, str]:
    """Find files below a folder with the same bytes: for each further copy, the first by name.

    Sizes are compared first, then some bytes of the middle; only files that agree in both are
    hashed. So little of a corpus of different recordings is read.

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
    """Groups of two or more paths with the same key."""
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
