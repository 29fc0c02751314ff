"""`focalcodec convert`: recordings in the voice of another speaker."""

from __future__ import annotations

import argparse

from focalcodec.choices import FLOAT_DTYPES, SEARCHES
from focalcodec.cli.options import (
    add_audio_output_options,
    add_channels_option,
    add_job_options,
    add_model_options,
    add_window_option,
    audio_suffixes,
    positive_int,
)
from focalcodec.cli.paths import add_path_arguments, plan_jobs
from focalcodec.errors import UserError

EXAMPLES = """examples:
  focalcodec convert talk.wav converted.wav --reference anna/
  focalcodec convert talks/ converted/ --reference "anna/*.flac" --save_reference_set anna.set
  focalcodec convert talks/ converted/ --reference_set anna.set --jobs 4

Convert to a voice only with the consent of its owner.
"""


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `focalcodec convert`."""
    parser.epilog = EXAMPLES
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


def run_convert(args: argparse.Namespace) -> int:
    """Convert recordings."""
    if not args.reference and not args.reference_set:
        raise UserError("--reference: no voice is given; name recordings, or give --reference_set")
    if args.save_reference_set and not args.reference:
        raise UserError("--save_reference_set: nothing new to save; give --reference as well")
    jobs = plan_jobs(args.sources, args.out, writes=audio_suffixes(args.format))
    from focalcodec.cli.recordings import convert_jobs

    return convert_jobs(args, jobs)
