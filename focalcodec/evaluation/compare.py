"""Which differences between two cards are real: a paired bootstrap over the clips of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from focalcodec.errors import UserError
from focalcodec.evaluation.bootstrap import Figure, paired_difference
from focalcodec.evaluation.card import FORMAT
from focalcodec.evaluation.table import column_title, interval_note, markdown, number

REAL, NOT_SHOWN = "real", "not shown"
LEAST_CLIPS = 2


class Difference(NamedTuple):
    """A column of two cards: both figures, over the shared clips, and first - second."""

    column: Mapping[str, str]
    first: float
    second: float
    difference: Figure

    @property
    def verdict(self) -> str:
        """Real when the interval leaves out 0."""
        shown = self.difference.low > 0 or self.difference.high < 0
        return REAL if shown else NOT_SHOWN


class Comparison(NamedTuple):
    """Differences of the shared columns, and what is to be said of clips and columns."""

    differences: list[Difference]
    notes: list[str]


def read_card(path: str | Path) -> dict[str, Any]:
    """Read a result card.

    Parameters
    ----------
    path : str or path
        `card.json`, or the folder of a codec in a run.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    UserError
        Not there, or not a card.

    Example
    -------
    >>> read_card("no/card.json")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no/card.json: no such card; give OUT/SET/CODEC/card.json
    """
    file = Path(path).expanduser()
    file = file / "card.json" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"{path}: no such card; give OUT/SET/CODEC/card.json")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise UserError(f"{path}: a card of format {card['format']}, not {FORMAT}")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a result card ({error!r}); evaluate again") from error
    return card


def compare_cards(first: Mapping[str, Any], second: Mapping[str, Any]) -> Comparison:
    """Compare two cards, column by column, on the clips that both have.

    Columns are compared only where both are of the same judge in the same version.

    Parameters
    ----------
    first, second : mapping
        Cards of one task.

    Returns
    -------
    Comparison
        At least one column.

    Raises
    ------
    UserError
        Other tasks or kinds of speech, no shared clips or no shared columns.
    """
    if first["task"] != second["task"]:
        raise UserError(f"cards of {first['task']} and of {second['task']}; compare one task")
    kinds = [card["set"]["kind"] for card in (first, second)]
    if kinds[0] != kinds[1]:
        raise UserError(f"cards of {kinds[0] or 'unknown'} and {kinds[1] or 'unknown'} speech")
    rows = [{(clip["id"], clip["sha256"]): clip for clip in c["clips"]} for c in (first, second)]
    shared = [key for key in rows[0] if key in rows[1]]
    if len(shared) < LEAST_CLIPS:
        raise UserError(
            f"cards of {first['set']['name']} and {second['set']['name']}: {len(shared)} clips are"
            " the same; evaluate both codecs on one set"
        )
    notes = []
    if first["set"]["sha256"] != second["set"]["sha256"]:
        counts = f"{len(rows[0])} and {len(rows[1])}"
        notes.append(f"other clips: only the {len(shared)} that both have, of {counts}")
    columns, other = _shared_columns(first, second)
    differences = []
    for column in columns:
        key = column["key"]
        both = [i for i in shared if all(key in part[i]["scores"] for part in rows)]
        sides = [_sums([part[i]["scores"][key] for i in both]) for part in rows]
        if len(both) < LEAST_CLIPS or not all(sum(weights) for _, weights in sides):
            other.append(f"{column['title']}: not on the same clips")
            continue
        difference = paired_difference(
            sides[0], sides[1], first["seed"], first["bootstrap_samples"]
        )
        differences.append(Difference(column, _ratio(sides[0]), _ratio(sides[1]), difference))
    if not differences:
        raise UserError(
            "no column of the same judge in both cards: " + "; ".join(other or ["none"])
        )
    return Comparison(differences, [*notes, *(f"not compared: {line}" for line in other)])


def comparison_text(
    first: Mapping[str, Any], second: Mapping[str, Any], comparison: Comparison
) -> str:
    """Comparison as it is printed, in Markdown."""
    names = [first["codec"]["name"], second["codec"]["name"]]
    if names[0] == names[1]:
        names = [f"{names[0]} (first)", f"{names[1]} (second)"]
    rows = []
    for column, a, b, difference in comparison.differences:
        interval = (
            f"{number(difference.value)} [{number(difference.low)}, {number(difference.high)}]"
        )
        verdict = Difference(column, a, b, difference).verdict
        better = ""
        if verdict == REAL and column["better"] != "none":
            better = names[(difference.value < 0) == (column["better"] == "higher")]
        rows.append([column_title(column), number(a), number(b), interval, verdict, better])
    headers = ["", *names, "difference", "it is", "better"]
    about = first["set"]
    clips = min(difference.difference.count for difference in comparison.differences)
    lines = [f"{about['name']}, {first['task']}; paired bootstrap, {interval_note(clips)}"]
    return "\n".join([*lines, *comparison.notes, "", markdown(headers, rows)])


def _shared_columns(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[list[Mapping[str, str]], list[str]]:
    """Columns of one judge in both cards, and why others are left out."""
    theirs = {column["key"]: column for column in second["columns"]}
    shared, other = [], []
    for column in first["columns"]:
        judges = [column["judge"], theirs.get(column["key"], {}).get("judge")]
        if judges[1] is None:
            other.append(f"{column['title']}: only in the first")
        elif first["judges"].get(judges[0]) != second["judges"].get(judges[1]):
            other.append(f"{column['title']}: judges of different versions or settings")
        else:
            shared.append(column)
    mine = {column["key"] for column in first["columns"]}
    other += [f"{c['title']}: only in the second" for key, c in theirs.items() if key not in mine]
    return shared, other


def _sums(scores: list[list[float]]) -> tuple[list[float], list[float]]:
    return [value for value, _ in scores], [weight for _, weight in scores]


def _ratio(side: tuple[list[float], list[float]]) -> float:
    values, weights = side
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
