"""Columns of cards from several runs: figures of different judges never share one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_CHARACTERS = 12  # of a value, such as a hash, in a title


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
