"""Put a codec into the package, and its figures into the docs.

    python docs/demo/publish.py --codec CODEC --name demo --evaluation results/resynthesis_demo
    python docs/demo/publish.py

The first command copies the codec's configuration and weights to focalcodec/models/NAME, the result
cards of an evaluation to cards/, and fills the tables of README.md, docs/ and the model cards. The
second one only fills the tables again. A table to fill follows a line

    <!-- figures of test-real: codec codec2-1300 - | kbps dwer_whisper_tiny_en -->

with the set, the codec of each column, and the key of each row; `-` leaves a column or a row as it
is.
"""

from __future__ import annotations

import argparse
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
from focalcodec.hub.checkpoints import CONFIG_NAME, WEIGHTS_NAME

ROOT = Path(__file__).parents[2]
CARDS = Path(__file__).parent / "cards"
MARK = re.compile(r"<!-- figures of (?P<set>\S+): (?P<codecs>[^|]+) \| (?P<rows>.+) -->")


def main(argv: Sequence[str] | None = None) -> None:
    """Copy what is given, then fill the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", type=Path, metavar="FOLDER", help="that focalcodec export made")
    parser.add_argument("--name", default="demo", help="of the codec in the package")
    parser.add_argument("--evaluation", type=Path, metavar="FOLDER", help="with its result cards")
    args = parser.parse_args(argv)
    if args.codec is not None:
        for file in (CONFIG_NAME, WEIGHTS_NAME):
            shutil.copyfile(args.codec / file, ROOT / "focalcodec/models" / args.name / file)
    if args.evaluation is not None:
        copy_evaluation(args.evaluation)
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = filled(old, str(page.relative_to(ROOT)))
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: filled")


def copy_evaluation(folder: Path) -> None:
    """Copy the result cards."""
    cards = sorted(folder.glob("*/*/card.json"))
    if not cards:
        raise UserError(f"{folder}: no SET/CODEC/card.json in it; give the output of evaluate.py")
    for card in cards:
        target = CARDS / card.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(card, target)


def pages() -> list[Path]:
    """Pages that may have tables to fill."""
    cards = ROOT.glob("focalcodec/models/*/README.md")
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(cards)]


def filled(text: str, page: str) -> str:
    """Text with the figures of its marked tables; `page` is for messages."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        mark = MARK.fullmatch(line)
        if mark is not None:
            rows, codecs = mark["rows"].split(), mark["codecs"].split()
            cards = [None if c == "-" else read_card(CARDS / mark["set"] / c) for c in codecs]
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
    return f"{text(found['value'])} [{text(found['low'])}, {text(found['high'])}]"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
