"""Cards as text: tables of the figures of a run, and the comparison of two cards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from focalcodec.errors import UserError
from focalcodec.evaluation.card import FORMAT, usage_figure
from focalcodec.evaluation.intervals import Figure, paired_difference
from focalcodec.evaluation.speed import read_speed
from focalcodec.files import read_json

FEW_CLIPS = 20
REAL, NOT_SHOWN = "real", "not shown"
LEAST_CLIPS = 2
_MOST_CHARACTERS = 12  # of a value, such as a hash, in a title
_ARROWS = {"lower": "↓", "higher": "↑", "none": ""}


# -- tables of a run -------------------------------------------------------------------------------


def card_tables(cards: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures and intervals of a run's cards as Markdown.

    Each set has a table, and so has each language of a set with several. Synthetic and real speech
    are different sets.
    """
    by_set: dict[str, list[Mapping[str, Any]]] = {}
    for card in cards:
        by_set.setdefault(card["set"]["name"], []).append(card)
    tables = []
    for name, some in by_set.items():
        about = some[0]["set"]
        rows = [(card, card["figures"]) for card in some]
        tables.append(
            _table(f"{name}: {about['count']} clips, {about['seconds']:.1f} s", about, rows)
        )
        for language in some[0]["splits"].get("language", {}):
            rows = [(card, card["splits"]["language"][language]) for card in some]
            counts = [figure["count"] for _, figures in rows for figure in figures.values()]
            if counts:  # none without judges
                part = {"count": max(counts), "kind": about["kind"]}
                tables.append(_table(f"{name}, {language}: {max(counts)} clips", part, rows))
    return "\n\n".join(tables)


def interval_note(clips: int, speakers: int = 0) -> str:
    """Return the note on intervals over these clips, or over speakers if there are any.

    Example
    -------
    >>> interval_note(36, speakers=11)
    '95 % intervals over 11 speakers, which are too narrow for so few'
    """
    few = ", which are too narrow for so few" if (speakers or clips) < FEW_CLIPS else ""
    return f"95 % intervals over {f'{speakers} speakers' if speakers else 'clips'}{few}"


def most_speakers(figures: Iterable[Mapping[str, Any]]) -> int:
    """Return the largest number of speakers that an interval is over; 0: all are over clips."""
    return max((figure.get("speakers", 0) for figure in figures), default=0)


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with padded columns.

    Example
    -------
    >>> print(markdown(["codec", "kbit/s"], [["opus:6", "5.9"]]))
    | codec  | kbit/s |
    |--------|--------|
    | opus:6 | 5.9    |
    """
    # A name may contain the sign that ends a cell.
    headers, *rows = ([cell.replace("|", "\\|") for cell in row] for row in (headers, *rows))
    columns = [[header, *cells] for header, *cells in zip(headers, *rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    lines = ["|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    padded = [
        "| " + " | ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)) + " |"
        for row in (headers, *rows)
    ]
    return "\n".join([padded[0], *lines, *padded[1:]])


def number(value: float) -> str:
    """Return a figure as text, with about three significant digits.

    Example
    -------
    >>> number(123.456), number(12.345), number(0.98765), number(-0.001), number(0.0)
    ('123.5', '12.3', '0.988', '-0.001', '0')
    """
    if value == 0:
        return "0"
    size = round(abs(value), 3)
    places = 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{places}f}"


def column_title(column: Mapping[str, str]) -> str:
    """Return a column's title with its unit and an arrow in the better direction.

    Example
    -------
    >>> column_title({"title": "dWER, Whisper base", "unit": "%", "better": "lower"})
    'dWER, Whisper base, % ↓'
    """
    unit = f", {column['unit']}" if column["unit"] else ""
    return f"{column['title']}{unit} {_ARROWS[column['better']]}".rstrip()


def _table(
    head: str,
    about: Mapping[str, Any],
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> str:
    """Return the table of the cards' figures, of a set or of one language of it."""
    columns = {column["key"]: column for card, _ in rows for column in card["columns"]}
    kind = f", {about['kind']} speech" if about["kind"] else ""
    lines = [["kbit/s", *(_rate(card["codec"]["kbps"]) for card, _ in rows)]]
    of_the_set = [card for card, figures in rows if figures is card["figures"]]
    for title, text in _SET_LINES.items():
        cells = [text(card) for card in of_the_set]
        if any(cells):
            lines.append([title, *cells])
    for key, column in columns.items():
        cells = [_interval(figures.get(key)) for _, figures in rows]
        if any(cells):  # a judge of other languages has no figure
            lines.append([column_title(column), *cells])
    headers = ["", *(card["codec"]["name"] for card, _ in rows)]
    note = _hallucinated(of_the_set, columns)
    speakers = most_speakers(figure for _, figures in rows for figure in figures.values())
    title = f"{head}{kind}; {interval_note(about['count'], speakers)}"
    return "\n\n".join(filter(None, [title, markdown(headers, lines), note]))


def _hallucinated(
    cards: Sequence[Mapping[str, Any]], columns: Mapping[str, Mapping[str, str]]
) -> str:
    """Return a note on clips with more errors than words.

    A recogniser that invents words in a few clips can dominate the figure of a set.
    """
    found = []
    for key, column in columns.items():
        for card in cards if key.startswith("dwer_") else ():
            values = [clip["scores"][key][0] for clip in card["clips"] if key in clip["scores"]]
            over = sum(value > 100 for value in values)
            if over:
                name = card["codec"]["name"]
                found.append(f"{name}: {over} of {len(values)} by {column['judge']}")
    return f"Clips with a dWER over 100 %, see transcripts.csv: {'; '.join(found)}" if found else ""


def _rate(kbps: float | None) -> str:
    return "" if kbps is None else f"{kbps:.3g}"


def _used(card: Mapping[str, Any]) -> str:
    """Return the codes used, in % of the reachable; "" for a card of an older version."""
    found = usage_figure(card["usage"], "usage_reachable")
    return _interval(vars(found) if found else None)


def _real_time_factor(card: Mapping[str, Any], part: str) -> str:
    factor = read_speed(card).get(f"{part}_real_time_factor")
    return "" if factor is None else f"{factor:.3g}"


def _interval(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    value, low, high = (number(found[name]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if low != high else value


# Lines of a set; a language of the set has none.
_SET_LINES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "codes used, % of the reachable ↑": _used,
    "encoding, real-time factor ↓": partial(_real_time_factor, part="encode"),
    "decoding, real-time factor ↓": partial(_real_time_factor, part="decode"),
}


# -- comparison of two cards -----------------------------------------------------------------------


class Difference(NamedTuple):
    """A column of two cards: both figures over the shared clips, and their difference."""

    column: Mapping[str, str]
    first: float
    second: float
    difference: Figure
    """First - second."""

    @property
    def verdict(self) -> str:
        """`REAL` if the interval does not contain 0."""
        shown = self.difference.low > 0 or self.difference.high < 0
        return REAL if shown else NOT_SHOWN


class Comparison(NamedTuple):
    """Differences of the shared columns, and notes on skipped clips and columns."""

    differences: list[Difference]
    notes: list[str]


def read_card(path: str | Path) -> dict[str, Any]:
    """Read a result card from `card.json`, or from the folder of a codec in a run.

    UserError if there is none, or the file is not a card.
    """
    file = Path(path).expanduser()
    file = file / "card.json" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"{path}: no such card; give OUT/SET/CODEC/card.json")
    card = read_json(file, "evaluate again")
    try:
        if card["format"] != FORMAT:
            raise UserError(f"{path}: a card of format {card['format']}, not {FORMAT}")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a result card ({error!r}); evaluate again") from error
    return card


def compare_cards(first: Mapping[str, Any], second: Mapping[str, Any]) -> Comparison:
    """Compare two cards, column by column, on the clips that both have.

    Columns of the same judge in the same version are compared, by a paired bootstrap.

    Raises
    ------
    UserError
        Different tasks or kinds of speech, no shared clips, or no shared columns.
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
        # A judge may have skipped a clip, for example in another language.
        both = [i for i in shared if all(key in part[i]["scores"] for part in rows)]
        sides = [_sums([part[i]["scores"][key] for i in both]) for part in rows]
        if len(both) < LEAST_CLIPS or not all(sum(weights) for _, weights in sides):
            other.append(f"{column['title']}: not on the same clips")
            continue
        speakers = [rows[0][i].get("speaker", "") for i in both]
        draws = first["seed"], first["bootstrap_samples"]
        difference = paired_difference(sides[0], sides[1], *draws, speakers=speakers)
        differences.append(Difference(column, _ratio(sides[0]), _ratio(sides[1]), difference))
    if not differences:
        raise UserError(
            "no column of the same judge in both cards: " + "; ".join(other or ["none"])
        )
    return Comparison(differences, [*notes, *(f"not compared: {line}" for line in other)])


def comparison_text(
    first: Mapping[str, Any], second: Mapping[str, Any], comparison: Comparison
) -> str:
    """Return a comparison as Markdown, as the command prints it."""
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
    found = [each.difference for each in comparison.differences]
    note = interval_note(min(f.count for f in found), max(f.speakers for f in found))
    lines = [f"{about['name']}, {first['task']}; paired bootstrap, {note}"]
    return "\n".join([*lines, *comparison.notes, "", markdown(headers, rows)])


def _shared_columns(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> tuple[list[Mapping[str, str]], list[str]]:
    """Return the columns of the same judge in both cards, and why others are skipped."""
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


# -- cards of several runs -------------------------------------------------------------------------


def separate_judges(cards: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return cards in which columns have the same key only if they have the same judge.

    Runs at different times may have one judge in two versions, with other weights or settings. The
    column of the first card keeps its key; a column of another judge gets a new key, and a title
    that says what differs.

    Example
    -------
    >>> column = {"key": "wer", "title": "WER", "judge": "Ear"}
    >>> card = {"columns": [column], "figures": {}, "clips": []}
    >>> cards = [{**card, "judges": {"Ear": {"version": version}}} for version in "12"]
    >>> [card["columns"][0]["title"] for card in separate_judges(cards)]
    ['WER', 'WER (version 2)']
    """
    versions: dict[str, list[Any]] = {}
    return [_renamed(card, versions) for card in cards]


def _renamed(card: Mapping[str, Any], versions: dict[str, list[Any]]) -> dict[str, Any]:
    keys: dict[str, str] = {}
    columns = []
    for column in card.get("columns") or ():
        key, judge = column["key"], column.get("judge")
        about = (judge, (card.get("judges") or {}).get(judge))
        known = versions.setdefault(key, [])
        if about not in known:
            known.append(about)
        place = known.index(about)
        if place:
            keys[key] = f"{key}_{place + 1}"
            title = f"{column['title']} ({_difference(known[0], about)})"
            column = {**column, "key": keys[key], "title": title}
        columns.append(column)
    if not keys:
        return dict(card)

    def rename(figures: Mapping[str, Any]) -> dict[str, Any]:
        return {keys.get(key, key): figure for key, figure in figures.items()}

    return {
        **card,
        "columns": columns,
        "figures": rename(card["figures"]),
        "splits": {
            split: {name: rename(figures) for name, figures in groups.items()}
            for split, groups in (card.get("splits") or {}).items()
        },
        "clips": [{**clip, "scores": rename(clip["scores"])} for clip in card["clips"]],
    }


def _difference(first: tuple[Any, Any], second: tuple[Any, Any]) -> str:
    """Describe what a judge has that the first has not, in a few words."""
    if first[0] != second[0]:
        return str(second[0])
    before, after = (each or {} for each in (first[1], second[1]))
    changed = [key for key in after if after[key] != before.get(key)]
    if not changed:
        return "another version"
    text = after[changed[0]]
    text = text if isinstance(text, str) else json.dumps(text)
    return f"{changed[0].replace('_', ' ')} {text[:_MOST_CHARACTERS]}"
