"""A folder of audio, or manifests of it, split into sets for training, validation and test."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, TypeAlias

from focalcodec.data.corpus import (
    OWN_OPTIONS,
    FoundClip,
    FoundFile,
    PrepareOptions,
    SetSource,
    ShareOptions,
    check_data_folder,
)
from focalcodec.data.manifest import (
    COLUMNS,
    DATA_ROOT,
    SETS_NAME,
    find_manifests,
    prepared_how,
    read_manifest,
    root_of_manifest,
    write_sets,
)
from focalcodec.data.prepare import Row, build_manifests, segment_row
from focalcodec.data.randomness import stable_seed
from focalcodec.data.trees import OWN_SETS, find_clips
from focalcodec.errors import UserError
from focalcodec.files import file_sha256

REPORT_NAME = "skipped.csv"
_logger = logging.getLogger(__name__)


def prepare_own(
    folder: str | Path,
    save_folder: str | Path,
    skip_prep: bool = False,
    max_broken_share: float = 0.05,
    options: PrepareOptions = OWN_OPTIONS,
    shares: ShareOptions | None = None,
    language: str = "",
    overwrite: bool = False,
    data_folder: str | Path | None = None,
) -> None:
    """Make `train.csv`, `valid.csv`, `test.csv` and `sets.json` for any folder of audio.

    Manifests of the same files and options are kept. `skipped.csv` lists broken files. The sets of
    LibriSpeech, LibriTTS, VoxPopuli and of manifests stay as they are, if there are all three.

    Parameters
    ----------
    folder, save_folder : str or path
        Any tree with audio files, a manifest, or a folder of manifests; folder for the new ones.
    skip_prep : bool
        Return at once: the manifests exist.
    max_broken_share : float
        A larger share of broken files stops the preparation; that of `options` is not used.
    options, shares : PrepareOptions, ShareOptions
        Which files to accept; how they are split into sets.
    language, overwrite : str, bool
        ISO 639-1, written as a column; make manifests again that a person changed.
    data_folder : str or path, optional
        Replaces `$data_root` in a manifest; default: the data root in the `sets.json` beside it.

    Raises
    ------
    UserError
        No such folder, too little audio, too many broken files, or a manifest changed by hand.
    """
    if skip_prep:
        return
    shares = shares or ShareOptions()
    save = Path(save_folder).expanduser()
    root, found = _open_source(folder, save, language, data_folder)
    source, own_sets = _with_own_sets(found, asdict(shares))
    how = _how_before(save)

    def share(rows: list[Row]) -> dict[str, list[Row]]:
        nonlocal how
        if shares.split_by == "auto" and {own_sets[row["ID"]] for row in rows} >= set(SETS):
            sets, how = _as_in_corpus(rows, own_sets), "as in the corpus"
        else:
            sets, how = share_out(rows, _find_copies(root, rows), shares, str(root))
        # If the preparation stops after this line, the folder counts as not prepared.
        (save / SETS_NAME).unlink(missing_ok=True)
        return sets

    accepted, report = replace(options, max_broken_share=max_broken_share), save / REPORT_NAME
    more = {"remake": how is None, "overwrite": overwrite}
    manifests = [save / f"{name}.csv" for name in SETS]
    build_manifests(manifests, root, source, accepted, share, report, **more)
    write_sets(save, root, SETS, how or "")


def _with_own_sets(
    found: SetSource, details: Mapping[str, Any]
) -> tuple[SetSource, dict[str, str]]:
    """Source with further details, and the corpus' set of each clip, once they are found."""
    own_sets: dict[str, str] = {}

    def find(root: Path, files: list[FoundFile]) -> list[FoundClip]:
        clips = found.find(root, files)
        own_sets.update({clip.id: clip.own_set for clip in clips})
        return clips

    return replace(found, find=find, details={**details, **found.details}), own_sets


def _open_source(
    folder: str | Path, save_folder: str | Path, language: str, data_folder: str | Path | None
) -> tuple[Path, SetSource]:
    """Data root, absolute because the manifests are used from other folders, and its clips."""
    manifests = find_manifests(folder)
    details = {"language": language}
    if not manifests:
        root = Path(folder).expanduser().absolute()
        if not root.is_dir():
            raise UserError(f"{folder}: no such folder or manifest; give a folder of audio")
        check_data_folder(folder, save_folder)
        find = partial(find_clips, language=language)
        return root, SetSource([""], find, details)
    for path in manifests.values():
        if path.parent.resolve() == Path(save_folder).expanduser().resolve():
            raise UserError(f"{path}: in the output folder {save_folder}; give another folder")
    rows = {name: read_manifest(path, DATA_ROOT, False) for name, path in manifests.items()}
    first = next(iter(manifests.values()))
    every = [row for some in rows.values() for row in some]
    root = _manifest_root(first, every, data_folder)
    more = set(every[0]).intersection(*every) - {*COLUMNS, "start", "stop", "channels"}
    columns = [name for name in every[0] if name in more]
    clips = [_row_clip(root, name, row, columns) for name, some in rows.items() for row in some]
    if language:
        clips = [replace(clip, extra={**clip.extra, "language": language}) for clip in clips]
    digest = hashlib.sha256(repr([(clip, _status(root / clip.wav)) for clip in clips]).encode())
    return root, SetSource([], lambda *_: clips, {**details, "manifests": digest.hexdigest()})


def _manifest_root(manifest: Path, rows: Sequence[Row], data_folder: str | Path | None) -> Path:
    """Absolute data root of a manifest's rows."""
    given = root_of_manifest(manifest, data_folder)
    if given is not None:
        return Path(given).absolute()
    if any(row["wav"].startswith(DATA_ROOT) for row in rows):
        raise UserError(
            f"{manifest}: paths begin with {DATA_ROOT}, and there is no {SETS_NAME} beside it;"
            " give --data_folder"
        )
    return Path(os.path.commonpath([Path(row["wav"]).absolute().parent for row in rows]))


def _row_clip(root: Path, name: str, row: Row, columns: Sequence[str]) -> FoundClip:
    """Clip of a manifest's row, in the set `name`, with these further columns."""
    wav = row["wav"].removeprefix(f"{DATA_ROOT}/")
    if wav == row["wav"]:
        wav = os.path.relpath(Path(wav).absolute(), root)
    span = (row["start"], row["stop"]) if "start" in row else None
    own = name if name in SETS else OWN_SETS.get(name.split("-")[0], "")
    extra = {name: row[name] for name in columns}
    return FoundClip(row["ID"], wav, row["spk_id"], row["wrd"], extra, span=span, own_set=own)


def _status(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _as_in_corpus(rows: Sequence[Row], own_sets: Mapping[str, str]) -> dict[str, list[Row]]:
    """Rows of each set of the corpus; a clip without a set is for training."""
    sets: dict[str, list[Row]] = {name: [] for name in SETS}
    for row in rows:
        sets[own_sets[row["ID"]] or "train"].append(row)
    return sets


def _find_copies(root: Path, rows: Sequence[Row]) -> dict[str, str]:
    copies = first_copies(root, sorted({row["wav"] for row in rows}))
    for copy, first in list(copies.items())[:1]:
        _logger.warning(
            f"{root}: {len(copies)} files have the same bytes as another one, such as {copy} and"
            f" {first}; copies are kept in one set"
        )
    return copies


def _how_before(save: Path) -> str | None:
    """How a folder's clips were split; None if it is not prepared, or only in part."""
    try:
        return prepared_how(save)
    except UserError:
        return None


# -- sets ------------------------------------------------------------------------------------------


SETS = ("train", "valid", "test")
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
        how += f", since speakers are under {needed}: {speakers}"
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
        inside = [0, *(round(total * x) for x in (end - options.valid_share, end)), total]
        edges = [row.get("start", 0) + edge for edge in inside]
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
