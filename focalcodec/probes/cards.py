"""Result cards of probes (one probe on one codec and one test set), and a table of many cards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean
from typing import Any

from focalcodec.errors import UserError
from focalcodec.evaluation import write_json
from focalcodec.evaluation.card import FORMAT, figures, hardware, software_versions
from focalcodec.evaluation.summary import column_title, markdown, number, separate_judges
from focalcodec.files import read_json

CARD_NAME = "card.json"
Row = Mapping[str, Any]
Card = Mapping[str, Any]


def make_card(
    about: Mapping[str, Any],
    clips: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Row],
    columns: Sequence[Mapping[str, Any]],
    judges: Sequence[Mapping[str, Any]] = (),
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a JSON-ready card in the format of the evaluation's cards, with a part `probe`.

    Parameters
    ----------
    about : mapping
        `task`, `set` (name), `codec` (description), `probe` (description, JSON-ready), `seed`,
        `bootstrap_samples`, `device`, `command`, `group_by` (a column or None), and optionally
        `chance` (figures of a guess).
    clips : mapping
        Entry of each tested clip by its ID: id, scores, and `prediction` or judges' `transcripts`.
    rows : sequence of mapping
        Manifest rows of the set.
    columns : sequence of mapping
        Key, title, unit, better and judge of each figure of the probe.
    judges : sequence of mapping
        Results of `describe_judge`.
    missing : sequence of str
        A line for each judge that is not installed.
    """
    tested = [row for row in rows if row["ID"] in clips]
    seed, samples = about["seed"], about["bootstrap_samples"]
    results = [{"text": row.get("wrd", ""), **clips[row["ID"]]} for row in tested]
    scored = {key for clip in results for key in clip["scores"]}
    every = [*columns, *(column for judge in judges for column in judge["columns"])]
    return {
        "format": FORMAT,
        "task": about["task"],
        "set": {
            "name": about["set"],
            "count": len(tested),
            "seconds": round(sum(row["duration"] for row in tested), 3),
            "sha256": _digest(tested),
            "kind": _kind(tested),
        },
        "codec": dict(about["codec"]),
        "probe": dict(about["probe"]),
        "columns": [column for column in every if column["key"] in scored],
        "judges": {judge["name"]: judge["describe"] for judge in judges},
        "missing": list(missing),
        "figures": figures(results, seed, samples),
        "chance": dict(about.get("chance", {})),
        "splits": _splits(tested, clips, about),
        "clips": results,
        "seed": seed,
        "bootstrap_samples": samples,
        "versions": software_versions(),
        "hardware": hardware(about["device"]),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": about["command"],
    }


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write a card into the folder of its set."""
    write_json(folder / CARD_NAME, dict(card))


def _splits(
    rows: Sequence[Row], clips: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of each group, if there is more than one."""
    column = about["group_by"]
    if column is None:
        return {}
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get(column, "")), []).append(clips[row["ID"]])
    if len(groups) < 2:
        return {}
    seed, samples = about["seed"], about["bootstrap_samples"]
    return {column: {name: figures(of, seed, samples) for name, of in sorted(groups.items())}}


def _digest(rows: Sequence[Row]) -> str:
    """Hash the list of clips by IDs, durations, speakers and texts, not by the files' places."""
    about = [[row["ID"], row["duration"], row.get("spk_id"), row.get("wrd")] for row in rows]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _kind(rows: Sequence[Row]) -> str:
    kinds = {str(row.get("kind") or "") for row in rows}
    return kinds.pop() if len(kinds) == 1 else ""


def read_cards(folder: str | Path) -> list[dict[str, Any]]:
    """Return the cards of probes below a folder, which holds one run or many, ordered by path.

    Raises
    ------
    UserError
        There are no cards, or one can't be read.

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
        card = read_json(path, "run its probe again")
        if "probe" in card:
            cards.append(card)
    if not cards:
        raise UserError(
            f"{folder}: no {CARD_NAME} of a probe in it; give the folder of a run, or one above it"
        )
    return cards


def probe_table(cards: Sequence[Card]) -> str:
    """Return a Markdown table: a line for each figure, probe and test set, a column for each codec.

    Cards that differ only in their seed share a cell. A cell of one seed has the figure with its
    95 % interval over clips, a cell of several seeds their mean and range. Figures of a judge in
    two versions have a line for each. The last column has the figures of a guess, if there are any.
    """
    cards = separate_judges(cards)
    names, sets = _codec_names(cards), _set_names(cards)
    codecs = list(dict.fromkeys(names))
    lines: dict[tuple[str, str, str], dict[str, dict[int, Mapping[str, float]]]] = {}
    titles, chances = {}, {}  # of lines
    for card, codec, name in zip(cards, names, sets, strict=True):
        for part, known in _parts(card):
            for column in card["columns"]:
                key, place = column["key"], (card["probe"]["name"], f"{name}{part}")
                titles[key] = column_title(column)
                if not part and key in card.get("chance", {}):  # an early card has none
                    chances[place + (key,)] = number(card["chance"][key])
                if key in known:
                    cells = lines.setdefault((*place, key), {})
                    cells.setdefault(codec, {})[card["seed"]] = known[key]
    rates = {codec: card["codec"]["kbps"] for card, codec in zip(cards, names, strict=True)}
    first = ["kbit/s", *("" if rates[c] is None else f"{rates[c]:.3g}" for c in codecs)]
    rows = [
        [f"{probe}, {where}: {titles[key]}", *(_cell(cells.get(codec)) for codec in codecs)]
        for (probe, where, key), cells in lines.items()
    ]
    headers = ["", *codecs]
    if chances:
        headers.append("chance")
        first.append("")
        rows = [[*row, chances.get(line, "")] for row, line in zip(rows, lines, strict=True)]
    seeds = max(len(found) for cells in lines.values() for found in cells.values())
    note = "[95 % interval over clips]" + ("; (lowest to highest of n seeds)" if seeds > 1 else "")
    return f"{markdown(headers, [first, *rows])}\n\n{note}"


def _parts(card: Card) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the figures of a set ("") and of its groups (", name")."""
    groups = [
        (f", {group}", known) for split in card["splits"].values() for group, known in split.items()
    ]
    return [("", card["figures"]), *groups]


def _set_names(cards: Sequence[Card]) -> list[str]:
    """Return the name of each card's set, with its hash if other sets have the same name."""
    # Sets of different probes may have one name but other clips (with a text, with a label).
    names = [(card["probe"]["name"], card["set"]["name"]) for card in cards]
    hashes: dict[tuple[str, str], set[str]] = {}
    for name, card in zip(names, cards, strict=True):
        hashes.setdefault(name, set()).add(card["set"]["sha256"])
    return [
        f"{name[1]} {card['set']['sha256'][:6]}" if len(hashes[name]) > 1 else name[1]
        for name, card in zip(names, cards, strict=True)
    ]


def _codec_names(cards: Sequence[Card]) -> list[str]:
    """Return the name of each card's codec, with hash and inputs where these are needed."""
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
