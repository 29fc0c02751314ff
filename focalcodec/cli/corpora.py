"""`focalcodec prepare` and `tokenize`: make the sets of a recipe, or tokens, from a corpus."""

from __future__ import annotations

import argparse
import csv
import os
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from focalcodec.choices import TOKEN_FORMATS
from focalcodec.cli.main import DONE, SOME_FAILED, say
from focalcodec.cli.options import (
    add_batch_option,
    add_channels_option,
    add_model_options,
    add_window_option,
    positive_float,
    positive_int,
)
from focalcodec.data.corpus import OWN_OPTIONS, SPLIT_BY, PrepareOptions, ShareOptions
from focalcodec.errors import UserError
from focalcodec.tokenize.plan import TokenizeOptions

PREPARE_EXAMPLES = """examples:
  focalcodec prepare talks prepared
  focalcodec prepare radio prepared --split_by speaker --language de --test_share 0.05
"""
TOKENIZE_EXAMPLES = """examples:
  focalcodec tokenize /data/LibriSpeech tokens
  focalcodec tokenize train.csv tokens --data_folder /data --format both --shard 0/64
  focalcodec tokenize s3://bucket/speech s3://bucket/tokens --format parquet
"""
_SHARES = ShareOptions()
_TOKENIZE = TokenizeOptions()


# -- prepare ---------------------------------------------------------------------------------------


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec prepare`."""
    parser.epilog = PREPARE_EXAMPLES
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="folder of audio: LibriSpeech, LibriTTS, VoxPopuli, or any tree, in which the first"
        " subfolder is the speaker, and CLIP.txt next to a clip its transcript; or a manifest"
        " (.csv), or a folder of manifests with its sets.json",
    )
    parser.add_argument(
        "out", metavar="OUT", help="output folder for train.csv, valid.csv and test.csv"
    )
    parser.add_argument(
        "--split_by",
        choices=SPLIT_BY,
        default=_SHARES.split_by,
        help="keep each speaker, or each file, in one set; auto keeps the sets of a corpus that has"
        " all three, else takes speakers if there are enough, else files (default: %(default)s)",
    )
    for name, share in (("valid", _SHARES.valid_share), ("test", _SHARES.test_share)):
        parser.add_argument(
            f"--{name}_share",
            type=float,
            default=share,
            metavar="X",
            help=f"share of the audio in the {name} set, 0 to 1 (default: %(default)s)",
        )
    parser.add_argument(
        "--seed", type=int, default=_SHARES.seed, help="seed of the split (default: %(default)s)"
    )
    parser.add_argument(
        "--language", default="", metavar="XX", help="language of all clips, such as de (optional)"
    )
    parser.add_argument(
        "--data_folder", help="folder that replaces $data_root in a manifest (default: sets.json's)"
    )
    add_channels_option(parser)
    _add_clip_limits(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="also replace manifests that were changed by hand"
    )


def _add_clip_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--segment_seconds",
        type=positive_float,
        default=OWN_OPTIONS.segment_seconds,
        metavar="S",
        help="cut longer files into equal segments of at most this length (default: %(default)g)",
    )
    parser.add_argument(
        "--min_seconds",
        type=float,
        default=OWN_OPTIONS.min_seconds,
        metavar="S",
        help="count shorter files as broken (default: %(default)s)",
    )
    parser.add_argument(
        "--max_broken_share",
        type=float,
        default=OWN_OPTIONS.max_broken_share,
        metavar="X",
        help="fail if a larger share of the files is broken (default: %(default)s)",
    )


def run_prepare(args: argparse.Namespace) -> int:
    """Prepare a folder, and print a table of its sets and the next command."""
    from focalcodec.data.manifest import prepared_how, read_prepared
    from focalcodec.data.own_folder import REPORT_NAME, prepare_own
    from focalcodec.data.prepare import EditedError

    shares = ShareOptions(args.split_by, args.valid_share, args.test_share, args.seed)
    options = PrepareOptions(
        channels=args.channels, min_seconds=args.min_seconds, segment_seconds=args.segment_seconds
    )
    broken = args.max_broken_share
    try:
        prepare_own(
            *(args.folder, args.out, False, broken, options, shares),
            *(args.language, args.overwrite, args.data_folder),
        )
    except EditedError as error:
        raise UserError(f"{error}, or give --overwrite") from error
    out = Path(args.out).expanduser().absolute()
    sets = read_prepared(out)
    print(f"{'set':<6}{'clips':>9}{'speakers':>10}{'minutes':>10}")
    for name, rows in sets.items():
        speakers = len({row["spk_id"] for row in rows} - {""})
        print(f"{name:<6}{len(rows):>9}{speakers:>10}{_seconds(rows) / 60:>10.1f}")
    print(f"split {prepared_how(out)}")
    if (out / REPORT_NAME).is_file():
        with (out / REPORT_NAME).open(encoding="utf-8", errors="replace", newline="") as file:
            count = sum(1 for _ in csv.DictReader(file))
        print(f"broken, left out: {count}, listed in {out / REPORT_NAME}")
    print("next, in recipes/LibriSpeech or another recipe:")
    print(f"  python train.py hparams/finetune_50hz.yaml --own_data {shlex.quote(str(out))}")
    clips = [row for rows in sets.values() for row in rows]
    names = ", ".join(f"{name}.csv" for name in sets)
    print(f"{out}: {len(clips)} clips, {_seconds(clips):.2f} s of audio in {names}")
    return DONE


def _seconds(rows: Iterable[Mapping[str, Any]]) -> float:
    return sum(row["duration"] for row in rows)


# -- tokenize --------------------------------------------------------------------------------------


def add_tokenize_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec tokenize`."""
    parser.epilog = TOKENIZE_EXAMPLES
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of audio, manifest (.csv) or folder of manifests, list of paths (.txt), tar"
        " files of WebDataset, Parquet files, a URL of one of these (s3://, gs://, hf://), folder"
        " of save_to_disk of the library datasets, or dataset on the hub (OWNER/NAME or"
        " OWNER/NAME:CONFIGURATION)",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        help="output folder, or a URL with --format parquet; the same command resumes a stopped run"
        " in it",
    )
    add_model_options(parser)
    parser.add_argument(
        "--data_folder",
        help="folder that replaces $data_root in a manifest (default: that of sets.json beside it),"
        " or contains the paths of a list",
    )
    parser.add_argument(
        "--split", help="split of a dataset, needed if it has several; set of a folder of manifests"
    )
    add_channels_option(parser)
    add_window_option(parser)
    parser.add_argument(
        "--format",
        default="memmap",
        choices=[*TOKEN_FORMATS, "both"],
        help="file format of the tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--offset",
        type=int,
        default=0,
        help="id of speech token 0, such as the size of a text vocabulary (default: %(default)s)",
    )
    parser.add_argument(
        "--special",
        default="bos,eos,pad",
        metavar="NAMES",
        help="special tokens: names, which get the ids after the speech tokens, or names with ids"
        " (bos=1,eos=2); bos and eos enclose each clip; '' for none (default: %(default)s)",
    )
    _add_shard_options(parser)


def _add_shard_options(parser: argparse.ArgumentParser) -> None:
    add_batch_option(parser, _TOKENIZE.batch_seconds)
    parser.add_argument(
        "--part_clips",
        type=positive_int,
        default=_TOKENIZE.part_clips,
        metavar="N",
        help="clips per part; a process that is killed loses at most one part"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--read_threads",
        type=positive_int,
        default=4,
        metavar="N",
        help="threads that read audio while the model computes (default: %(default)s)",
    )
    parser.add_argument(
        "--shard",
        metavar="INDEX/COUNT",
        help="index of this process and number of processes (default: from torchrun, else 0/1)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove tokens in OUT that were made from another corpus, model or options",
    )


def run_tokenize(args: argparse.Namespace) -> int:
    """Tokenize; the process that joins the parts returns 1 if some clips failed."""
    from focalcodec.cli.models import load_model
    from focalcodec.precision import set_process_device
    from focalcodec.processes import Shard
    from focalcodec.tokenize.plan import ModelIdentity, TokenizePlan
    from focalcodec.tokenize.run import FAILED_NAME, PLAN_NAME, tokenize_corpus
    from focalcodec.tokenize.sources import open_corpus
    from focalcodec.tokenize.store import TokenVocabulary
    from focalcodec.tokenize.urls import is_url

    shard = Shard.parse(args.shard) if args.shard else Shard.from_environment(os.environ)
    formats = TOKEN_FORMATS if args.format == "both" else (args.format,)
    options = TokenizeOptions(
        args.channels, args.batch_seconds, args.window_seconds, args.part_clips, formats
    )
    special = parse_special(args.special)
    source = open_corpus(args.source, args.data_folder, args.split)
    set_process_device()
    codec, name, sha256 = load_model(args)
    model = ModelIdentity(name, sha256, args.precision)
    vocabulary = TokenVocabulary(codec.vocab_size, args.offset, special)
    plan = TokenizePlan(source, model, options, vocabulary)
    resumed = is_url(args.out) or (Path(args.out) / PLAN_NAME).exists()
    start = time.perf_counter()
    meta = tokenize_corpus(codec, plan, args.out, shard, args.read_threads, args.overwrite)
    if meta is None:
        say(f"{args.out}: this share is done; the last process joins all")
        return DONE
    line = f"{args.out}: {meta['clips']} clips, {meta['tokens']} tokens of {name}"
    seconds, bits = meta["seconds"], meta["tokens"] * codec.bits_per_token
    if seconds:
        length = f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds:.2f} s"
        line += f", {length} of audio, {bits / seconds / 1000:.3g} kbit/s"
    if seconds and shard.count == 1 and not resumed:
        line += f", real-time factor {(time.perf_counter() - start) / seconds:.3g}"
    if meta["failed"]:
        line += f"; {meta['failed']} failed, see {args.out.rstrip('/')}/{FAILED_NAME}"
    say(line)
    return SOME_FAILED if meta["failed"] else DONE


def parse_special(text: str) -> Sequence[str] | dict[str, int]:
    """Parse --special: names, or names with ids; `UserError` for another text.

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
