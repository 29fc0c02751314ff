"""Cards of probes as one table: figures down, codecs across."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from focalcodec.errors import UserError
from focalcodec.evaluation.table import column_title, markdown, number
from focalcodec.probes.cards import CARD_NAME

Card = Mapping[str, Any]


def read_cards(folder: str | Path) -> list[dict[str, Any]]:
    """Cards of probes in a folder and those below it.

    Parameters
    ----------
    folder : str or path
        Of one run, or of many.

    Returns
    -------
    list of dict
        In the order of their paths.

    Raises
    ------
    UserError
        There are none, or one can't be read.

    Example
    -------
    >>> read_cards("no/such/folder")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no/such/folder: no card.json of a probe in it; give the folder of \
a run, or one above it
    """
    cards = []
    for path in sorted(Path(folder).expanduser().glob(f"**/{CARD_NAME}")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: not JSON ({error}); run its probe again") from error
        if "probe" in card:
            cards.append(card)
    if not cards:
        raise UserError(
            f"{folder}: no {CARD_NAME} of a probe in it; give the folder of a run, or one above it"
        )
    return cards


def probe_table(cards: Sequence[Card]) -> str:
    """Table in Markdown: a line for each figure of each probe and test set, a column a codec.

    Parameters
    ----------
    cards : sequence of mapping
        From `read_cards`; those that differ in their seed alone share a cell.

    Returns
    -------
    str
        Of one seed, the figure with its 95 % interval over clips; of several, their mean and
        range.
    """
    names, sets = _codec_names(cards), _set_names(cards)
    codecs = list(dict.fromkeys(names))
    lines: dict[tuple[str, str, str], dict[str, dict[int, Mapping[str, float]]]] = {}
    titles = {}
    for card, codec, name in zip(cards, names, sets, strict=True):
        for part, figures in _parts(card):
            for column in card["columns"]:
                key, place = column["key"], (card["probe"]["name"], f"{name}{part}")
                titles[key] = column_title(column)
                if key in figures:
                    cells = lines.setdefault((*place, key), {})
                    cells.setdefault(codec, {})[card["seed"]] = figures[key]
    rates = {codec: card["codec"]["kbps"] for card, codec in zip(cards, names, strict=True)}
    first = ["kbit/s", *("" if rates[c] is None else f"{rates[c]:.3g}" for c in codecs)]
    rows = [
        [f"{probe}, {where}: {titles[key]}", *(_cell(cells.get(codec)) for codec in codecs)]
        for (probe, where, key), cells in lines.items()
    ]
    seeds = max(len(found) for cells in lines.values() for found in cells.values())
    note = "[95 % interval over clips]" + ("; (lowest to highest of n seeds)" if seeds > 1 else "")
    return f"{markdown(['', *codecs], [first, *rows])}\n\n{note}"


def _parts(card: Card) -> list[tuple[str, Mapping[str, Any]]]:
    """Figures of a set, and of its groups by their names."""
    groups = [
        (f", {group}", figures)
        for split in card["splits"].values()
        for group, figures in split.items()
    ]
    return [("", card["figures"]), *groups]


def _set_names(cards: Sequence[Card]) -> list[str]:
    """Name of each card's set, with its hash where another set has the same name."""
    names = [(card["probe"]["name"], card["set"]["name"]) for card in cards]
    hashes: dict[tuple[str, str], set[str]] = {}
    for name, card in zip(names, cards, strict=True):
        hashes.setdefault(name, set()).add(card["set"]["sha256"])
    return [
        f"{name[1]} {card['set']['sha256'][:6]}" if len(hashes[name]) > 1 else name[1]
        for name, card in zip(names, cards, strict=True)
    ]


def _codec_names(cards: Sequence[Card]) -> list[str]:
    """Name of each card's codec, with what else tells it from the others."""
    hashes: dict[str, set[str]] = {}
    for card in cards:
        hashes.setdefault(card["codec"]["name"], set()).add(card["codec"]["weights_sha256"])
    names = []
    for card in cards:
        name, inputs = card["codec"]["name"], card["probe"]["inputs"]
        if len(hashes[name]) > 1:
            name += f" {card['codec']['weights_sha256'][:6]}"
        names.append(name if inputs == "toks" else f"{name}, {inputs}")
    return names


def _cell(seeds: Mapping[int, Mapping[str, float]] | None) -> str:
    if not seeds:
        return ""
    values = [figure["value"] for figure in seeds.values()]
    if len(values) == 1:
        (found,) = seeds.values()
        return f"{number(values[0])} [{number(found['low'])}, {number(found['high'])}]"
    low, high = number(min(values)), number(max(values))
    return f"{number(mean(values))} ({low} to {high}, n={len(values)})"
