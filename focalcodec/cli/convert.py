"""`focalcodec convert`: recordings in the voice of another speaker."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from focalcodec.cli.coding import decode_recording, encode_recording
from focalcodec.cli.jobs import run_jobs
from focalcodec.cli.models import choose_model
from focalcodec.cli.options import (
    add_audio_output_options,
    add_channels_option,
    add_job_options,
    add_model_options,
    add_window_option,
    audio_suffixes,
    load_model,
    positive_int,
)
from focalcodec.cli.paths import Job, add_path_arguments, find_sources, plan_jobs
from focalcodec.codec import FocalCodec
from focalcodec.conversion import DTYPES, ReferenceSet, feats_changer
from focalcodec.errors import UserError
from focalcodec.knn import SEARCHES, check_k
from focalcodec.processes import Progress

EXAMPLES = """examples:
  focalcodec convert talk.wav converted.wav --reference anna/
  focalcodec convert talks/ converted/ --reference "anna/*.flac" --save_reference_set anna.set
  focalcodec convert talks/ converted/ --reference_set anna.set --jobs 4

Convert to a voice only with the consent of its owner.
"""
State = tuple[FocalCodec, ReferenceSet, argparse.Namespace]


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
        choices=list(DTYPES),
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
    if not args.reference:
        return run_jobs(args, jobs, _setup, _convert, prepare=choose_model)
    if args.jobs == 1:  # the model that makes the reference set also converts
        state = _make_reference(args)
        return run_jobs(args, jobs, lambda _: state, _convert)
    with tempfile.TemporaryDirectory() as folder:
        # the processes share the memory of a file that they map
        path = args.save_reference_set or str(Path(folder, "reference.safetensors"))
        args.save_reference_set = path
        _make_reference(args)
        args.reference_set = path
        return run_jobs(args, jobs, _setup, _convert)


def _setup(args: argparse.Namespace) -> State:
    reference = ReferenceSet.load(args.reference_set)
    return _checked(load_model(args).codec, reference, args)


def _make_reference(args: argparse.Namespace) -> State:
    """Load the model, and make the reference set of --reference and --reference_set."""
    paths = [found.path for found in find_sources(args.reference)]
    known = [ReferenceSet.load(args.reference_set)] if args.reference_set else []
    codec = load_model(args).codec
    made = ReferenceSet.from_files(
        codec,
        paths,
        channels=args.channels,
        dtype=args.reference_dtype,
        window_seconds=args.window_seconds,
        progress=not args.quiet and sys.stderr.isatty(),
    )
    state = _checked(codec, ReferenceSet.merge([made, *known]), args)
    if args.save_reference_set:
        state[1].save(args.save_reference_set)
    return state


def _convert(state: State, job: Job, progress: Progress) -> None:
    codec, reference, args = state

    def half(seconds: float) -> None:
        progress(seconds / 2)  # encoding and decoding are half of the work each

    recording = encode_recording(codec, job.source, args, half)
    change = feats_changer(codec, reference, args.k, args.search)
    decode_recording(codec, recording, job.target, args, half, change)


def _checked(codec: FocalCodec, reference: ReferenceSet, args: argparse.Namespace) -> State:
    """Check, before the first file, for errors that would occur in every file."""
    reference.check_codec(codec)
    check_k(args.k, len(reference))
    if args.search == "faiss":
        reference.build_index()
    return codec, reference, args
