"""Put a codec into the package, and its figures into the docs.

    python docs/demo/publish.py --name demo --codec CODEC
    python docs/demo/publish.py --name demo --evaluation recipes/Demo/results/resynthesis_demo
    python docs/demo/publish.py

The first command copies the codec's configuration and weights to focalcodec/models/NAME; a new name
also gets the model card of CODEC. The second one copies the result cards of an evaluation by
resynthesis_demo.yaml to cards/SET/, where `codec` is called NAME and `vocoder` NAME-decoder. All
three fill the tables of README.md, docs/, recipes/ and the model cards. A table to fill follows

    <!-- figures of test-real: demo codec2-1300 - | kbps dwer_whisper_tiny_en -->

with the set, the result card of each column, and the key of each row; `-` leaves a column or a row
as it is. A column whose card is not there is left too, and named.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from focalcodec.errors import UserError
from focalcodec.evaluation.card import usage_figure
from focalcodec.evaluation.summary import number, read_card
from focalcodec.hub import DEMO, NAMES
from focalcodec.hub.checkpoints import CONFIG_NAME, WEIGHTS_NAME
from focalcodec.hub.publish import TRANSFORMERS

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "focalcodec/models"  # of this tree, also if another one is installed
CARDS = Path(__file__).parent / "cards"
LARGEST = 12_000_000
"""Bytes of the weights of a codec in the package."""
CARD_SHA256 = re.compile(r"(SHA-256 of `model.safetensors`:\s+`)[0-9a-f]{64}`")
MARK = re.compile(r"<!-- figures of (?P<set>\S+): (?P<codecs>[^|]+) \| (?P<rows>.+) -->")


def main(argv: Sequence[str] | None = None) -> None:
    """Copy what is given, then fill the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", type=Path, metavar="FOLDER", help="that focalcodec export made")
    parser.add_argument(
        "--name", default=DEMO, choices=NAMES, help="of the codec in the package (default: demo)"
    )
    parser.add_argument("--evaluation", type=Path, metavar="FOLDER", help="with its result cards")
    args = parser.parse_args(argv)
    if args.codec is not None:
        copy_codec(args.codec, MODELS / args.name)
    if args.evaluation is not None:
        copy_evaluation(args.evaluation, args.name)
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = filled(old, str(page.relative_to(ROOT)))
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: filled")


def copy_codec(folder: Path, target: Path) -> None:
    """Copy configuration and weights, and what a model card needs."""
    weights, card = folder / WEIGHTS_NAME, target / "README.md"
    needed = [CONFIG_NAME, WEIGHTS_NAME] + ([] if card.is_file() else [card.name])
    for name in needed:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name} there; give a folder that focalcodec export made")
    if weights.stat().st_size > LARGEST:
        raise UserError(
            f"{weights}: {weights.stat().st_size} bytes, at most {LARGEST} in the package; export"
            " the codec with --dtype float16"
        )
    target.mkdir(exist_ok=True)
    for name in needed[1:]:
        shutil.copyfile(folder / name, target / name)
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    # no keys for AutoModel: the code that they name is not in the package
    kept = {key: value for key, value in config.items() if key not in TRANSFORMERS}
    kept.pop("sampling_rate", None)
    (target / CONFIG_NAME).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    text = card.read_text(encoding="utf-8")
    card.write_text(CARD_SHA256.sub(rf"\g<1>{sha256}`", text), encoding="utf-8")


def copy_evaluation(folder: Path, name: str) -> None:
    """Copy the result cards."""
    names = {"codec": name, "vocoder": f"{name}-decoder"}
    cards = sorted(folder.glob("*/*/card.json"))
    if not cards:
        raise UserError(f"{folder}: no SET/CODEC/card.json in it; give the output of evaluate.py")
    for card in cards:
        set_name, codec, file = card.relative_to(folder).parts
        target = CARDS / set_name / names.get(codec, codec) / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(card, target)


def pages() -> list[Path]:
    """Pages that may have tables to fill."""
    patterns = ("README.md", "docs/*.md", "focalcodec/models/*/README.md", "recipes/*/README.md")
    return [page for pattern in patterns for page in sorted(ROOT.glob(pattern))]


def filled(text: str, page: str) -> str:
    """Text with the figures of its marked tables; `page` is for messages."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        mark = MARK.fullmatch(line)
        if mark is not None:
            rows, codecs = mark["rows"].split(), mark["codecs"].split()
            cards = [card_of(mark["set"], codec, f"{page}: line {at + 1}") for codec in codecs]
            table = list(table_after(lines, at))
            if len(table) != len(rows) or any(row.count("|") != len(cards) + 2 for _, row in table):
                raise UserError(
                    f"{page}: line {at + 1}: the table after it needs {len(rows)} rows of"
                    f" {len(cards)} columns besides the first"
                )
            for (place, row), key in zip(table, rows, strict=True):
                if key != "-":
                    lines[place] = filled_row(row, cards, key)
    return "\n".join(lines)


def card_of(set_name: str, codec: str, where: str) -> dict[str, Any] | None:
    """Result card of a column, or None if the column stays as it is."""
    folder = CARDS / set_name / codec
    if codec != "-" and not folder.is_dir():
        print(f"{where}: no result card {set_name}/{codec}; its column stays as it is")
    return read_card(folder) if folder.is_dir() and codec != "-" else None


def table_after(lines: Sequence[str], at: int) -> Iterator[tuple[int, str]]:
    """Numbers and texts of the rows, without the heading, of the table after a line."""
    place = next(i for i in range(at + 1, len(lines)) if lines[i].startswith("|")) + 2
    while place < len(lines) and lines[place].startswith("|"):
        yield place, lines[place]
        place += 1


def filled_row(row: str, cards: Sequence[dict[str, Any] | None], key: str) -> str:
    """A row with the figures of the cards; its first cell stays."""
    title, *cells = row.strip("|").split("|")
    made = [
        cell.strip() if card is None else cell_of(card, key)
        for card, cell in zip(cards, cells, strict=True)
    ]
    return f"|{title}| " + " | ".join(made) + " |"


def cell_of(card: dict[str, Any], key: str) -> str:
    """A figure with its interval, percentages with one decimal; empty if the card has none."""
    if key == "kbps":
        return "" if card["codec"]["kbps"] is None else f"{card['codec']['kbps']:.3g}"
    if key == "usage":
        whole = usage_figure(card["usage"], "usage_reachable")
        found, unit = None if whole is None else asdict(whole), "%"
    else:
        found = card["figures"].get(key)
        unit = next((c["unit"] for c in card["columns"] if c["key"] == key), "")
    if found is None:
        return ""
    text = (lambda x: f"{x:.1f}") if unit == "%" else number
    shown, low, high = (text(found[key]) for key in ("value", "low", "high"))
    if low == shown == high:  # of the original compared with itself
        return shown
    return f"{shown} [{low}, {high}]"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
