"""Cards as tables of text: one table a set, so that synthetic and real speech never share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FEW_CLIPS = 20
_ARROWS = {"lower": "↓", "higher": "↑", "none": ""}


def card_tables(cards: Sequence[Mapping[str, Any]]) -> str:
    """Tables of the figures with their intervals, in Markdown.

    Parameters
    ----------
    cards : sequence of mapping
        Of a run.

    Returns
    -------
    str
        A heading and a table for each set, and for each language of a set that has several.
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


def interval_note(clips: int) -> str:
    """What is to be said of intervals over so many clips.

    Example
    -------
    >>> interval_note(7)
    '95 % intervals over clips, which are too narrow for so few'
    """
    few = ", which are too narrow for so few" if clips < FEW_CLIPS else ""
    return f"95 % intervals over clips{few}"


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Table with columns of even width.

    Example
    -------
    >>> print(markdown(["codec", "kbit/s"], [["opus:6", "5.9"]]))
    | codec  | kbit/s |
    |--------|--------|
    | opus:6 | 5.9    |
    """
    columns = [[header, *cells] for header, *cells in zip(headers, *rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    lines = ["|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    padded = [
        "| " + " | ".join(x.ljust(w) for x, w in zip(row, widths, strict=True)) + " |"
        for row in (headers, *rows)
    ]
    return "\n".join([padded[0], *lines, *padded[1:]])


def number(value: float) -> str:
    """Figure with three places that matter.

    Example
    -------
    >>> number(123.456), number(12.345), number(0.98765), number(-0.001)
    ('123.5', '12.3', '0.988', '-0.001')
    """
    size = round(abs(value), 3)
    places = 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{places}f}"


def column_title(column: Mapping[str, str]) -> str:
    """Title with unit and the better direction.

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
    """Table of the cards' figures: those of a set, or of a part of it."""
    columns = {column["key"]: column for card, _ in rows for column in card["columns"]}
    kind = f", {about['kind']} speech" if about["kind"] else ""
    lines = [["kbit/s", *(_rate(card["codec"]["kbps"]) for card, _ in rows)]]
    used = [_used(card, figures) for card, figures in rows]
    if any(used):
        lines.append(["codes used, % of the reachable ↑", *used])
    for key, column in columns.items():
        cells = [_interval(figures.get(key)) for _, figures in rows]
        if any(cells):  # not where a judge knows other languages only
            lines.append([column_title(column), *cells])
    headers = ["", *(card["codec"]["name"] for card, _ in rows)]
    note = _dreamt([card for card, figures in rows if figures is card["figures"]], columns)
    title = f"{head}{kind}; {interval_note(about['count'])}"
    return "\n\n".join(filter(None, [title, markdown(headers, lines), note]))


def _dreamt(cards: Sequence[Mapping[str, Any]], columns: Mapping[str, Mapping[str, str]]) -> str:
    """Clips with more errors than words: a recogniser that dreams can make a set's figure alone."""
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


def _used(card: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Codes used of the reachable, where the figures are those of the whole set."""
    usage = card["usage"] if figures is card["figures"] else None
    if not usage or "usage_reachable" not in usage:  # of a version that did not measure it
        return ""
    interval = usage["intervals"].get("usage_reachable")
    if interval is None:
        return number(usage["usage_reachable"])
    low, high = interval
    return _interval({"value": usage["usage_reachable"], "low": low, "high": high})


def _interval(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{number(found['value'])} [{number(found['low'])}, {number(found['high'])}]"
