"""`focalcodec prepare`: any folder of audio to the sets that every recipe trains on."""

from __future__ import annotations

import argparse
import csv
import shlex
from pathlib import Path

from focalcodec.cli.main import DONE
from focalcodec.cli.options import add_channels_option, positive_float
from focalcodec.data.corpus import PrepareOptions
from focalcodec.data.manifest import prepared_how, read_prepared
from focalcodec.data.own_folder import OWN_OPTIONS, REPORT_NAME, prepare_own
from focalcodec.data.shares import SPLIT_BY, ShareOptions

EXAMPLES = """examples:
  focalcodec prepare talks prepared
  focalcodec prepare radio prepared --split_by speaker --language de --test_share 0.05
"""
_SHARES = ShareOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="audio in any tree; the first folder below it is the speaker, <clip>.txt beside a"
        " clip its transcript",
    )
    parser.add_argument("out", metavar="OUT", help="gets train.csv, valid.csv and test.csv")
    parser.add_argument(
        "--split_by",
        choices=SPLIT_BY,
        default=_SHARES.split_by,
        help="what is never in two sets; auto takes speakers where they are many, else files"
        " (default: %(default)s)",
    )
    for name, share in (("valid", _SHARES.valid_share), ("test", _SHARES.test_share)):
        parser.add_argument(
            f"--{name}_share",
            type=float,
            default=share,
            metavar="X",
            help="of the seconds (default: %(default)s)",
        )
    parser.add_argument(
        "--seed", type=int, default=_SHARES.seed, help="of the sets (default: %(default)s)"
    )
    parser.add_argument(
        "--language", default="", metavar="XX", help="of all clips, e.g. de; makes a column of it"
    )
    add_channels_option(parser)
    _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Add what decides which clips are accepted, and how long they are."""
    parser.add_argument(
        "--segment_seconds",
        type=positive_float,
        default=OWN_OPTIONS.segment_seconds,
        metavar="S",
        help="longer files are cut into equal parts of at most this length (default: %(default)g)",
    )
    parser.add_argument(
        "--min_seconds",
        type=float,
        default=OWN_OPTIONS.min_seconds,
        metavar="S",
        help="shorter files count as broken (default: %(default)s)",
    )
    parser.add_argument(
        "--max_broken_share",
        type=float,
        default=OWN_OPTIONS.max_broken_share,
        metavar="X",
        help="more broken files than this share are refused (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Prepare, and show what came of it."""
    shares = ShareOptions(args.split_by, args.valid_share, args.test_share, args.seed)
    options = PrepareOptions(
        channels=args.channels, min_seconds=args.min_seconds, segment_seconds=args.segment_seconds
    )
    broken = args.max_broken_share
    prepare_own(args.folder, args.out, False, broken, options, shares, args.language)
    out = Path(args.out).expanduser().absolute()
    print(f"{'set':<6}{'clips':>9}{'speakers':>10}{'minutes':>10}")
    for name, rows in read_prepared(out).items():
        speakers = len({row["spk_id"] for row in rows} - {""})
        minutes = sum(row["duration"] for row in rows) / 60
        print(f"{name:<6}{len(rows):>9}{speakers:>10}{minutes:>10.1f}")
    print(f"split {prepared_how(out)}")
    if (out / REPORT_NAME).is_file():
        with (out / REPORT_NAME).open(encoding="utf-8", errors="replace", newline="") as file:
            count = sum(1 for _ in csv.DictReader(file))
        print(f"broken, left out: {count}, listed in {_shown(str(out / REPORT_NAME))}")
    print("next, in recipes/LibriSpeech or another recipe:")
    own = _shown(shlex.quote(str(out)))
    print(f"  python train.py hparams/finetune_50hz.yaml --own_data {own}")
    return DONE


def _shown(path: str) -> str:
    """A path as a terminal can show it, also if it is not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()
