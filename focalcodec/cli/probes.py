"""`focalcodec probes`: cards of probes as one table."""

from __future__ import annotations

import argparse

from focalcodec.cli.main import DONE
from focalcodec.probes.cards import probe_table, read_cards

EXAMPLES = """examples:
  focalcodec probes results
  focalcodec probes results/asr results/sid
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "folders", nargs="+", metavar="FOLDER", help="runs of probes, or folders above them"
    )


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    cards = [card for folder in args.folders for card in read_cards(folder)]
    print(probe_table(cards))
    return DONE
