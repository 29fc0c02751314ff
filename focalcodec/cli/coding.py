"""`focalcodec encode`, `decode` and `resynth`: from recordings to token files and back."""

from __future__ import annotations

import argparse

from focalcodec.cli.models import choose_model
from focalcodec.cli.options import (
    add_audio_output_options,
    add_channels_option,
    add_job_options,
    add_model_options,
    add_table_option,
    add_window_option,
    audio_suffixes,
)
from focalcodec.cli.paths import TOKEN_SUFFIX, add_path_arguments, plan_jobs
from focalcodec.errors import UserError

ENCODE_EXAMPLES = """examples:
  focalcodec encode talk.mp3 talk.fct
  focalcodec encode "talks/**/*.flac" tokens/ --jobs 4
"""
DECODE_EXAMPLES = """examples:
  focalcodec decode talk.fct talk.wav
  focalcodec decode tokens/ audio/ --format flac --sample_rate original
"""
RESYNTH_EXAMPLES = """examples:
  focalcodec resynth my.wav out.wav
  focalcodec resynth talks/ resynthesized/ --sample_rate original --channels first
"""


# -- encode ----------------------------------------------------------------------------------------


def add_encode_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec encode`."""
    parser.epilog = ENCODE_EXAMPLES
    add_path_arguments(parser, "audio", "token")
    parser.add_argument(
        "--body",
        choices=("packed", "smallest"),
        default="packed",
        help="packed stores the bits as they are; smallest also tries a range coder, and needs the"
        " package constriction (default: %(default)s)",
    )
    add_table_option(parser, "for --body smallest")
    add_channels_option(parser)
    add_window_option(parser)
    add_job_options(parser)
    add_model_options(parser)


def run_encode(args: argparse.Namespace) -> int:
    """Encode recordings as token files."""
    if args.table is not None and args.body == "packed":
        raise UserError(f"--table {args.table}: packed tokens need no table; give --body smallest")
    jobs = plan_jobs(args.sources, args.out, writes=[TOKEN_SUFFIX])
    from focalcodec.cli.jobs import run_jobs
    from focalcodec.cli.recordings import encode, encode_setup

    return run_jobs(args, jobs, encode_setup, encode, prepare=choose_model)


# -- decode ----------------------------------------------------------------------------------------


def add_decode_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec decode`."""
    parser.epilog = DECODE_EXAMPLES
    add_path_arguments(parser, "token", "audio")
    parser.add_argument(
        "--any_model",
        action="store_true",
        help="also decode tokens of another model; unless the models are similar, this gives noise",
    )
    add_table_option(parser, "if encode had one")
    add_audio_output_options(parser)
    add_window_option(parser)
    add_job_options(parser)
    add_model_options(parser)


def run_decode(args: argparse.Namespace) -> int:
    """Decode token files."""
    writes = audio_suffixes(args.format)
    jobs = plan_jobs(args.sources, args.out, reads=[TOKEN_SUFFIX], writes=writes)
    from focalcodec.cli.jobs import run_jobs
    from focalcodec.cli.recordings import decode, decode_setup, token_seconds

    return run_jobs(args, jobs, decode_setup, decode, seconds=token_seconds)


# -- resynth ---------------------------------------------------------------------------------------


def add_resynth_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec resynth`."""
    parser.epilog = RESYNTH_EXAMPLES
    add_path_arguments(parser, "audio", "audio")
    add_channels_option(parser)
    add_audio_output_options(parser)
    add_window_option(parser)
    add_job_options(parser)
    add_model_options(parser)


def run_resynth(args: argparse.Namespace) -> int:
    """Encode recordings and decode them again."""
    jobs = plan_jobs(args.sources, args.out, writes=audio_suffixes(args.format))
    from focalcodec.cli.jobs import run_jobs
    from focalcodec.cli.recordings import resynth, resynth_setup

    return run_jobs(args, jobs, resynth_setup, resynth, prepare=choose_model)
