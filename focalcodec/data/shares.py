"""Which clips of one folder are for training, which for validation and which for the test."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from focalcodec.data.manifest_builder import Row, part
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError

SETS = ("train", "valid", "test")
SPLIT_BY = ("auto", "speaker", "file")
_logger = logging.getLogger(__name__)
_SHORTEST_PART = 1.0  # seconds, of a part that is a set or the least of it

Group: TypeAlias = "tuple[str, str]"  # what its name is of, and the name


@dataclass(frozen=True)
class ShareOptions:
    """How clips are shared out.

    Parameters
    ----------
    split_by : {"auto", "speaker", "file"}
        What never is in two sets. "auto" takes speakers where there are so many that the smaller
        share is that of one speaker or more, else files.
    valid_share, test_share : float
        Of the seconds.
    seed : int
        Of the order.

    Raises
    ------
    UserError
        A value that is none.

    Example
    -------
    >>> ShareOptions(valid_share=0.5, test_share=0.5)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: valid_share=0.5, test_share=0.5: each must be above 0, and both \
together below 1
    """

    split_by: str = "auto"
    valid_share: float = 0.1
    test_share: float = 0.1
    seed: int = 1986

    def __post_init__(self) -> None:
        """Refuse values that are none before any file is looked at."""
        if self.split_by not in SPLIT_BY:
            raise UserError(f"split_by={self.split_by!r}: not one of {', '.join(SPLIT_BY)}")
        if not (self.smallest > 0 and self.valid_share + self.test_share < 1):
            raise UserError(
                f"valid_share={self.valid_share}, test_share={self.test_share}: each must be above"
                " 0, and both together below 1"
            )

    @property
    def smallest(self) -> float:
        """The smaller of both shares."""
        return min(self.valid_share, self.test_share)


def share_out(
    rows: Sequence[Row], copies: Mapping[str, str], options: ShareOptions, where: str
) -> tuple[dict[str, list[Row]], str]:
    """Share whole files out to the three sets.

    A hash of its name orders the groups: the same folder always gives the same sets, and files
    that are added later hardly move others.

    Parameters
    ----------
    rows : sequence of dict
        One a file, as `build_manifests` makes them.
    copies : mapping of str to str
        Files with the bytes of another one, from `first_copies`: never in two sets.
    options : ShareOptions
        How.
    where : str
        The folder, to be named.

    Returns
    -------
    sets : dict of str to list of dict
        "train", "valid" and "test", none of them empty. With fewer than three files these are
        parts of files: one stretch of time each.
    how : str
        What was split by and why, for people.

    Raises
    ------
    UserError
        Too few speakers, or too little audio.
    """
    # Copies count for nothing: a set of nothing else would be none.
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
    """What a row must stay together with; a file of no speaker stands for itself."""
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

    A copy is where the first of its kind is; if its speaker is elsewhere, it is left out. Speakers
    who share a file are not made one: a jingle or silence in all folders would make one of all.
    """
    homes = {row["wav"]: chosen.get(_group(row, by_speaker)) for row in rows}
    sets: dict[str, list[Row]] = {name: [] for name in SETS}
    left_out = 0
    for row in rows:
        wav = row["wav"]
        home = homes[copies.get(wav, wav)]
        assert home is not None  # of a first copy
        if homes[wav] in (None, home):
            sets[home].append(row)
        else:
            left_out += 1
    if left_out:
        _logger.warning(f"{where}: {left_out} copies left out, whose speakers are in other sets")
    return sets


def _fill(groups: Sequence[tuple[Group, float]], target: float, most: int) -> list[Group]:
    """Groups from the beginning whose seconds are nearest the target: one at least."""
    taken: list[Group] = []
    filled = 0.0
    for name, seconds in groups:
        if seconds > target:
            continue  # it would be the whole set; where it stays, others are heard too
        if len(taken) == most or abs(filled + seconds - target) >= abs(filled - target):
            break
        taken.append(name)
        filled += seconds
    return taken or [min(groups, key=lambda group: group[1])[0]]


def _by_time(rows: Sequence[Row], options: ShareOptions, where: str) -> dict[str, list[Row]]:
    """The beginning of each file for training, then validation, its end for the test."""
    sets: dict[str, list[Row]] = {name: [] for name in SETS}
    for row in rows:
        total, end = row["num_samples"], 1 - options.test_share
        edges = [0, *(round(total * x) for x in (end - options.valid_share, end)), total]
        if row["duration"] * options.smallest < _SHORTEST_PART:
            sets["train"].append(row)
            continue
        for name, start, stop in zip(SETS, edges, edges[1:], strict=False):
            sets[name].append(part(row, f"{row['ID']}_{name}", start, stop))
    if not sets["test"]:
        least = _SHORTEST_PART / options.smallest
        raise UserError(
            f"{where}: too little audio for three sets, {len(rows)} files, of which the longest"
            f" has {max(row['duration'] for row in rows):.1f} s; give 3 files, or one of"
            f" {least:g} s or more"
        )
    return sets
