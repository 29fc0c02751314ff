"""`focalcodec encode`, `decode`, `resynth` and `convert`: recordings, token files and back."""

from __future__ import annotations

import argparse
from pathlib import Path

from focalcodec.choices import FLOAT_DTYPES, SEARCHES
from focalcodec.cli.models import choose_model
from focalcodec.cli.options import (
    add_audio_output_options,
    add_channels_option,
    add_job_options,
    add_model_options,
    add_runtime_option,
    add_table_option,
    add_window_option,
    audio_suffixes,
    positive_int,
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
        choices=("packed", "smallest", "runs"),
        help="packed stores the bits as they are; smallest also tries a range coder, and needs the"
        " package constriction; runs stores equal neighbours once, with a length (default: packed,"
        " with --merge runs)",
    )
    parser.add_argument(
        "--merge",
        type=float,
        metavar="COSINE",
        help="similar neighbours above this cosine, such as 0.5, get one token: fewer bits, at a"
        " variable rate (default: none are merged)",
    )
    add_table_option(parser, "for --body smallest")
    add_channels_option(parser)
    add_window_option(parser)
    add_job_options(parser)
    add_model_options(parser)
    add_runtime_option(parser)


def run_encode(args: argparse.Namespace) -> int:
    """Encode recordings as token files."""
    args.body = args.body or ("packed" if args.merge is None else "runs")
    if args.table is not None and args.body != "smallest":
        raise UserError(
            f"--table {args.table}: {args.body} tokens need no table; give --body smallest"
        )
    jobs = plan_jobs(args.sources, args.out, writes=[TOKEN_SUFFIX])
    from focalcodec.cli.jobs import run_jobs

    if args.runtime == "onnx":
        from focalcodec.cli import onnx_recordings as onnx

        return run_jobs(args, jobs, onnx.setup, onnx.encode)
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
    add_runtime_option(parser)


def run_decode(args: argparse.Namespace) -> int:
    """Decode token files."""
    writes = audio_suffixes(args.format)
    jobs = plan_jobs(args.sources, args.out, reads=[TOKEN_SUFFIX], writes=writes)
    from focalcodec.cli.jobs import run_jobs

    if args.runtime == "onnx":
        from focalcodec.cli import onnx_recordings as onnx

        return run_jobs(args, jobs, onnx.setup, onnx.decode, seconds=_token_seconds)
    from focalcodec.cli.recordings import decode, decode_setup

    return run_jobs(args, jobs, decode_setup, decode, seconds=_token_seconds)


def _token_seconds(path: Path) -> float:
    """Duration of a token file."""
    from focalcodec.fct import TokenReader

    with TokenReader(path) as reader:
        return reader.header.seconds


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
    add_runtime_option(parser)


def run_resynth(args: argparse.Namespace) -> int:
    """Encode recordings and decode them again."""
    jobs = plan_jobs(args.sources, args.out, writes=audio_suffixes(args.format))
    from focalcodec.cli.jobs import run_jobs

    if args.runtime == "onnx":
        from focalcodec.cli import onnx_recordings as onnx

        return run_jobs(args, jobs, onnx.setup, onnx.resynth)
    from focalcodec.cli.recordings import resynth, resynth_setup

    return run_jobs(args, jobs, resynth_setup, resynth, prepare=choose_model)


# -- convert ---------------------------------------------------------------------------------------


CONVERT_EXAMPLES = """examples:
  focalcodec convert talk.wav converted.wav --reference anna/
  focalcodec convert talks/ converted/ --reference "anna/*.flac" --save_reference_set anna.set
  focalcodec convert talks/ converted/ --reference_set anna.set --jobs 4

Convert to a voice only with the consent of its owner.
"""


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec convert`."""
    parser.epilog = CONVERT_EXAMPLES
    add_path_arguments(parser, "audio", "audio")
    group = parser.add_argument_group("voice")
    group.add_argument(
        "--reference",
        nargs="+",
        metavar="SOURCE",
        help="recordings of the wanted voice: files, folders, patterns in quotes; after OUT",
    )
    group.add_argument(
        "--reference_set",
        metavar="FILE",
        help="reference set from --save_reference_set; with --reference, both are used",
    )
    group.add_argument(
        "--save_reference_set", metavar="FILE", help="save the reference set for other runs"
    )
    group.add_argument(
        "--reference_dtype",
        choices=FLOAT_DTYPES,
        default="float16",
        help="data type of the reference set; float16 takes half the space (default: %(default)s)",
    )
    group.add_argument(
        "--k",
        type=positive_int,
        default=4,
        help="each frame is replaced by the mean of its k nearest reference frames"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--search",
        choices=SEARCHES,
        default="exact",
        help="search for nearest frames; faiss is approximate, and faster for hours of reference"
        " audio (default: %(default)s)",
    )
    add_audio_output_options(parser)
    add_channels_option(parser)
    add_window_option(parser)
    add_job_options(parser)
    add_model_options(parser)
    add_runtime_option(parser)


def run_convert(args: argparse.Namespace) -> int:
    """Convert recordings."""
    if not args.reference and not args.reference_set:
        raise UserError("--reference: no voice is given; name recordings, or give --reference_set")
    if args.save_reference_set and not args.reference:
        raise UserError("--save_reference_set: nothing new to save; give --reference as well")
    jobs = plan_jobs(args.sources, args.out, writes=audio_suffixes(args.format))
    if args.runtime == "onnx":
        from focalcodec.cli import onnx_recordings as onnx
        from focalcodec.cli.jobs import run_jobs

        return run_jobs(args, jobs, onnx.setup, onnx.resynth)
    from focalcodec.cli.recordings import convert_jobs

    return convert_jobs(args, jobs)
