"""`focalcodec tokenize`: a whole corpus to the tokens that a speech language model reads."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from focalcodec.cli.options import (
    add_channels_option,
    add_model_options,
    add_window_option,
    load_model,
    positive_float,
    positive_int,
)
from focalcodec.device import set_process_device
from focalcodec.errors import UserError
from focalcodec.tokenize.plan import FORMATS, ModelIdentity, Shard, TokenizeOptions, TokenizePlan
from focalcodec.tokenize.run import tokenize_corpus
from focalcodec.tokenize.sources import open_corpus
from focalcodec.tokenize.vocabulary import TokenVocabulary
from focalcodec.tokenize.workspace import FAILED_NAME

EXAMPLES = """examples:
  focalcodec tokenize /data/LibriSpeech tokens
  focalcodec tokenize train.csv tokens --data_folder /data --format both --shard 0/64
"""
_DEFAULTS = TokenizeOptions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of audio, manifest (.csv), list of paths (.txt), Parquet, folder of"
        " datasets' save_to_disk, or dataset on the hub (owner/name or owner/name:configuration)",
    )
    parser.add_argument("out", metavar="OUT", help="folder for the tokens; a cut-off run goes on")
    add_model_options(parser)
    parser.add_argument(
        "--data_folder", help="$data_root of a manifest; what a list's paths are relative to"
    )
    parser.add_argument("--split", help="of a dataset that has several")
    add_channels_option(parser)
    add_window_option(parser)
    parser.add_argument(
        "--format",
        default="memmap",
        choices=[*FORMATS, "both"],
        help="what to write (default: %(default)s)",
    )
    parser.add_argument(
        "--offset", type=int, default=0, help="id of speech token 0, e.g. a text vocabulary's size"
    )
    parser.add_argument(
        "--special",
        default="bos,eos,pad",
        metavar="NAMES",
        help="special tokens, after the speech tokens, or at ids of your own (bos=1,eos=2); a clip"
        " is written between bos and eos where they are named (default: %(default)s; '' for none)",
    )
    _add_work_options(parser)


def _add_work_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how the work is shared out."""
    parser.add_argument(
        "--batch_seconds",
        type=positive_float,
        default=_DEFAULTS.batch_seconds,
        metavar="S",
        help="audio of a batch, padding included (default: %(default)g)",
    )
    parser.add_argument(
        "--part_clips",
        type=positive_int,
        default=_DEFAULTS.part_clips,
        metavar="N",
        help="clips that a process does at a time, and at most does again after a kill"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--read_threads",
        type=positive_int,
        default=4,
        metavar="N",
        help="that read audio while the model works (default: %(default)s)",
    )
    parser.add_argument(
        "--shard",
        metavar="INDEX/COUNT",
        help="which of how many processes this is; default what torchrun says, else 0/1",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove what OUT has of another corpus, model or options",
    )


def run(args: argparse.Namespace) -> int:
    """Tokenize; exit code 1 when some clips failed, of the process that joins the parts."""
    shard = Shard.parse(args.shard) if args.shard else Shard.from_environment(os.environ)
    formats = FORMATS if args.format == "both" else (args.format,)
    options = TokenizeOptions(
        args.channels, args.batch_seconds, args.window_seconds, args.part_clips, formats
    )
    special = parse_special(args.special)
    source = open_corpus(args.source, args.data_folder, args.split)
    set_process_device()
    codec, name, sha256 = load_model(args)
    model = ModelIdentity(name, sha256, args.precision)
    vocabulary = TokenVocabulary(len(codec.codebook), args.offset, special)
    plan = TokenizePlan(source, model, options, vocabulary)
    meta = tokenize_corpus(codec, plan, args.out, shard, args.read_threads, args.overwrite)
    if meta is None:
        print(f"{args.out}: this share is done; the last process joins all", file=sys.stderr)
        return 0
    hours = f"{meta['seconds'] / 3600:.2f} h"
    line = f"{args.out}: {meta['clips']} clips, {hours}, {meta['tokens']} tokens of {name}"
    if meta["failed"]:
        line += f"; {meta['failed']} failed, see {Path(args.out) / FAILED_NAME}"
    print(line, file=sys.stderr)
    return 1 if meta["failed"] else 0


def parse_special(text: str) -> Sequence[str] | dict[str, int]:
    """Special tokens from text.

    Raises
    ------
    UserError
        Neither names nor names with ids.

    Example
    -------
    >>> parse_special("bos,eos"), parse_special("eos=2"), parse_special("")
    (['bos', 'eos'], {'eos': 2}, [])
    """
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not any("=" in item for item in items):
        return items
    pairs = [item.partition("=")[::2] for item in items]
    names = {name for name, _ in pairs}
    if len(names) < len(pairs) or not all(name and index.isdecimal() for name, index in pairs):
        raise UserError(
            f"--special {text}: give names, or NAME=ID for each of them, e.g. bos=1,eos=2"
        )
    return {name: int(index) for name, index in pairs}
