"""The table of ablations: one row for all seeds of a variant, with its cost, against a base.

The cards are those of `focalcodec eval` and the recipes' evaluate.py. Codecs whose names differ in
a number at the end, such as `conformer-1986` and `conformer-1987`, are the seeds of one row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from focalcodec.errors import UserError
from focalcodec.evaluation.card import FORMAT
from focalcodec.evaluation.intervals import Figure, figure, paired_difference
from focalcodec.evaluation.summary import (
    LEAST_CLIPS,
    column_title,
    interval_note,
    markdown,
    most_speakers,
    number,
    separate_judges,
)
from focalcodec.files import read_json

Card = Mapping[str, Any]
Scores = dict[str, list[float]]  # by clip: value and weight

_SEED = re.compile(r"(.+)-(\d+)")
_SECONDS = 4  # of the signal that operations are counted on
USAGE = {
    "usage_percent": "codes used, % ↑",
    "entropy_seen": "normalised entropy, % ↑",
}
COSTS = {
    "stage1_parameters": "parameters without encoder and decoder, M ↓",
    "stage1_gmac": "GMAC a second without encoder and decoder ↓",
    "parameters": "parameters, M ↓",
    "gmac": "GMAC a second ↓",
}


def read_cards(folders: Iterable[str | Path]) -> list[Card]:
    """Cards of evaluations below folders; a `UserError` if there are none."""
    cards: list[Card] = []
    names = [str(folder) for folder in folders]
    for folder in names:
        for path in sorted(Path(folder).expanduser().glob("**/card.json")):
            card = read_json(path, "evaluate again")
            if card.get("format") == FORMAT and "probe" not in card:
                cards.append(card)
    if not cards:
        raise UserError(
            f"{', '.join(names)}: no card.json of an evaluation in it; give the output folder of"
            " recipes/LibriSpeech/ablations.py, of evaluate.py or of focalcodec eval"
        )
    return list(separate_judges(cards))


def ablations(cards: Sequence[Card], base: str = "base") -> list[dict[str, Any]]:
    """Rows of each set, JSON-ready: figures over clips and seeds, and differences to the base.

    A clip's score is the mean over seeds; intervals are over speakers or clips. `seeds` are the
    figures of each seed, whose range shows what is chance in training.

    Parameters
    ----------
    cards : sequence of mapping
        Of one task; `read_cards`.
    base : str
        Row that the others are compared with, on the same clips.
    """
    sets: dict[str, dict[str, list[Card]]] = {}
    for card in cards:
        name = card["codec"]["name"]
        found = _SEED.fullmatch(name)
        rows = sets.setdefault(card["set"]["name"], {})
        rows.setdefault(found[1] if found else name, []).append(card)
    made: list[dict[str, Any]] = []
    costs: dict[str, dict[str, float]] = {}
    for rows in sets.values():
        first = next(iter(rows.values()))[0]
        scores = {row: clip_scores(some) for row, some in rows.items()}
        known, lines = scores.get(base, {}), []
        for row, some in rows.items():
            source = some[0]["codec"]["source"]
            if row not in costs:
                is_ours = bool(some[0].get("usage")) and Path(str(source)).is_dir()
                costs[row] = cost_of(source) if is_ours else {}
            lines.append(
                {
                    "row": row,
                    "seeds": [_seed(card) for card in some],
                    "kbps": some[0]["codec"]["kbps"],
                    "figures": _figures(scores[row], some),
                    "against": {} if row == base else _against(scores[row], known, some),
                    "usage": _usage(some),
                    "cost": costs[row],
                }
            )
        columns = {column["key"]: column for card in cards for column in card["columns"]}
        about = {**first["set"], "base": base, "columns": list(columns.values())}
        made.append({"set": about, "rows": lines})
    return made


def ablation_tables(sets: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of `ablations`: figures, then differences to the base that an interval shows."""
    parts = []
    for each in sets:
        about, rows = each["set"], each["rows"]
        columns = {column["key"]: column_title(column) for column in about["columns"]}
        kind = f", {about['kind']} speech" if about["kind"] else ""
        head = f"{about['name']}: {about['count']} clips, {about['seconds']:.1f} s{kind}"
        shown = {key: title for key, title in columns.items() if _any(rows, "figures", key)}
        usage = {key: title for key, title in USAGE.items() if _any(rows, "usage", key)}
        costs = {key: title for key, title in COSTS.items() if _any(rows, "cost", key)}
        headers = ["", "seeds", *shown.values(), *usage.values(), *costs.values()]
        lines = [
            [
                row["row"],
                str(len(row["seeds"])) if row["usage"] else "",
                *(_cell(row["figures"].get(key)) for key in shown),
                *(_cell(row["usage"].get(key)) for key in usage),
                *(number(row["cost"][key]) if key in row["cost"] else "" for key in costs),
            ]
            for row in rows
        ]
        speakers = most_speakers(found for row in rows for found in row["figures"].values())
        interval = interval_note(about["count"], speakers)
        note = f"mean over seeds [{interval}] (lowest to highest seed)"
        parts += [f"{head}; {note}", markdown(headers, lines)]
        differences = [
            [row["row"], *(_difference(row["against"].get(key)) for key in shown)]
            for row in rows
            if row["against"]
        ]
        if differences:
            text = f"{about['name']}: difference to {about['base']} on the same clips; * where the"
            parts += [f"{text} interval has no 0", markdown(["", *shown.values()], differences)]
    return "\n\n".join(parts)


def clip_scores(cards: Sequence[Card]) -> dict[str, Scores]:
    """By column and clip: mean value and weight over cards, such as seeds, with the clip."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for card in cards:
        for clip in card["clips"]:
            for key, score in clip["scores"].items():
                found.setdefault(key, {}).setdefault(clip["id"], []).append(score)
    return {
        key: {
            clip: [mean(value for value, _ in scores), mean(weight for _, weight in scores)]
            for clip, scores in clips.items()
        }
        for key, clips in found.items()
    }


def scores_difference(scores: Scores, base: Scores, card: Card) -> Figure | None:
    """Paired difference on the clips that both have; None if these are too few for an interval.

    The card has the speakers of the clips, and says how intervals are drawn.
    """
    speakers = _speakers(card)
    shared = [clip for clip in scores if clip in base]
    first, second = (_sides([side[clip] for clip in shared]) for side in (scores, base))
    if len(shared) < LEAST_CLIPS or sum(first[1]) <= 0:
        return None
    draws, voices = (card["seed"], card["bootstrap_samples"]), [speakers[clip] for clip in shared]
    return paired_difference(first, second, *draws, speakers=voices)


@torch.no_grad()
def cost_of(source: str) -> dict[str, float]:
    """Parameters in millions, and 10^9 multiplications a second of audio, of a codec's folder."""
    from torch.utils.flop_counter import FlopCounterMode

    from focalcodec.codec import FocalCodec

    codec = FocalCodec.from_pretrained(source)
    inner: list[Any] = [codec.compressor, codec.quantizer, codec.decompressor]
    sig = 0.1 * torch.randn(1, _SECONDS * codec.sample_rate_input)
    feats, _ = codec.encoder(sig, lengths=torch.tensor([sig.shape[1]]))
    frames = torch.tensor([feats.shape[1]])
    with FlopCounterMode(display=False) as middle:
        lats, tokens = codec.compressor(feats, lengths=frames)
        _, codes = codec.quantizer(lats, lengths=tokens)
        codec.decompressor(codes, lengths=tokens)
    with FlopCounterMode(display=False) as ends:
        codec.encoder(sig, lengths=torch.tensor([sig.shape[1]]))
        codec.decoder(feats, lengths=frames)
    flops = middle.get_total_flops(), ends.get_total_flops()
    count = {
        "stage1_parameters": sum(p.numel() for part in inner for p in part.parameters()),
        "parameters": sum(p.numel() for p in codec.parameters()),
    }
    gmac = {"stage1_gmac": flops[0] / 2 / _SECONDS / 1e9, "gmac": sum(flops) / 2 / _SECONDS / 1e9}
    return {key: value / 1e6 for key, value in count.items()} | gmac


def _seed(card: Card) -> int | None:
    found = _SEED.fullmatch(card["codec"]["name"])
    return int(found[2]) if found else None


def _speakers(card: Card) -> dict[str, str]:
    return {clip["id"]: clip.get("speaker", "") for clip in card["clips"]}


def _figures(scores: Mapping[str, Scores], cards: Sequence[Card]) -> dict[str, Any]:
    card, made, speakers = cards[0], {}, _speakers(cards[0])
    for key, clips in scores.items():
        values, weights = zip(*clips.values(), strict=True)
        if sum(weights) > 0:
            voices = [speakers[clip] for clip in clips]
            whole = figure(
                values, weights, card["seed"], card["bootstrap_samples"], speakers=voices
            )
            seeds = [each["figures"][key]["value"] for each in cards if key in each["figures"]]
            made[key] = {**asdict(whole), "seeds": seeds}
    return made


def _against(
    scores: Mapping[str, Scores], base: Mapping[str, Scores], cards: Sequence[Card]
) -> dict[str, Any]:
    """Differences to the base, on the clips that both have."""
    made = {}
    for key in scores.keys() & base.keys():
        found = scores_difference(scores[key], base[key], cards[0])
        if found is not None:
            made[key] = asdict(found)
    return made


def _sides(scores: Sequence[list[float]]) -> tuple[list[float], list[float]]:
    return [value for value, _ in scores], [weight for _, weight in scores]


def _usage(cards: Sequence[Card]) -> dict[str, Any]:
    made = {}
    for key in USAGE:
        seeds = [card["usage"][key] for card in cards if card.get("usage")]
        if seeds:
            made[key] = {"value": mean(seeds), "seeds": seeds}
    return made


def _any(rows: Sequence[Mapping[str, Any]], part: str, key: str) -> bool:
    return any(key in row[part] for row in rows)


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    text = number(found["value"])
    if found.get("low", 0) != found.get("high", 0):
        text += f" [{number(found['low'])}, {number(found['high'])}]"
    seeds = found["seeds"]
    return f"{text} ({number(min(seeds))} to {number(max(seeds))})" if len(seeds) > 1 else text


def _difference(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    mark = " *" if found["low"] > 0 or found["high"] < 0 else ""
    value, low, high = (f"{found[name]:+.3g}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]{mark}"
