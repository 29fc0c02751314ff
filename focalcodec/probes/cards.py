"""Result cards of probes: one probe on one codec's tokens and one test set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from focalcodec.evaluation.card import FORMAT, figures, hardware, versions
from focalcodec.evaluation.folders import write_json

CARD_NAME = "card.json"
Row = Mapping[str, Any]


def make_card(
    about: Mapping[str, Any],
    clips: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Row],
    columns: Sequence[Mapping[str, Any]],
    judges: Sequence[Mapping[str, Any]] = (),
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """Card in the format of the evaluation's, with a part `probe`.

    Parameters
    ----------
    about : mapping
        `task`, `set` (name), `codec` (description), `probe` (what it is, JSON-ready), `seed`,
        `bootstrap_samples`, `device`, `command`, and `group_by` (a column or None).
    clips : mapping
        By ID, of each clip that was tested: id, scores, and `prediction` or judges' `transcripts`.
    rows : sequence of mapping
        Of the set's manifest.
    columns : sequence of mapping
        Key, title, unit, better and judge of each figure.
    judges : sequence of mapping
        See `describe_judge`.
    missing : sequence of str
        A line for each judge that is not installed.

    Returns
    -------
    dict
        JSON-ready.
    """
    known = [row for row in rows if row["ID"] in clips]
    seed, samples = about["seed"], about["bootstrap_samples"]
    told = [{"text": row.get("wrd", ""), **clips[row["ID"]]} for row in known]
    seen = {key for clip in told for key in clip["scores"]}
    every = [*columns, *(column for judge in judges for column in judge["columns"])]
    return {
        "format": FORMAT,
        "task": about["task"],
        "set": {
            "name": about["set"],
            "count": len(known),
            "seconds": round(sum(row["duration"] for row in known), 3),
            "sha256": _digest(known),
            "kind": _kind(known),
        },
        "codec": dict(about["codec"]),
        "probe": dict(about["probe"]),
        "columns": [column for column in every if column["key"] in seen],
        "judges": {judge["name"]: judge["describe"] for judge in judges},
        "missing": list(missing),
        "figures": figures(told, seed, samples),
        "splits": _splits(known, clips, about),
        "clips": told,
        "seed": seed,
        "bootstrap_samples": samples,
        "versions": versions(),
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
    """Figures of each group, where there are several."""
    column = about["group_by"]
    if column is None:
        return {}
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row.get(column, "")), []).append(clips[row["ID"]])
    if len(groups) < 2:
        return {}
    made = {
        name: figures(some, about["seed"], about["bootstrap_samples"])
        for name, some in sorted(groups.items())
    }
    return {column: made}


def _digest(rows: Sequence[Row]) -> str:
    """Hash of the list: of ids, lengths, speakers, texts, not of where the files lie."""
    about = [[row["ID"], row["duration"], row.get("spk_id"), row.get("wrd")] for row in rows]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _kind(rows: Sequence[Row]) -> str:
    kinds = {str(row.get("kind") or "") for row in rows}
    return kinds.pop() if len(kinds) == 1 else ""
