"""The work of `convert`, which worker processes import."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from focalcodec.cli.jobs import Made, run_jobs
from focalcodec.cli.loading import load_model
from focalcodec.cli.models import choose_model
from focalcodec.cli.paths import Job, find_sources
from focalcodec.cli.recordings import decode_recording, encode_recording
from focalcodec.codec import FocalCodec
from focalcodec.conversion import ReferenceSet, feats_changer
from focalcodec.knn import check_k
from focalcodec.processes import Progress

State = tuple[FocalCodec, ReferenceSet, argparse.Namespace]


def convert_jobs(args: argparse.Namespace, jobs: Sequence[Job]) -> int:
    """Make or load the reference set, and convert recordings."""
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
        progress=not args.quiet,
    )
    state = _checked(codec, ReferenceSet.merge([made, *known]), args)
    if args.save_reference_set:
        state[1].save(args.save_reference_set)
    return state


def _convert(state: State, job: Job, progress: Progress) -> Made:
    codec, reference, args = state

    def half(seconds: float) -> None:
        progress(seconds / 2)  # encoding and decoding are half of the work each

    recording = encode_recording(codec, job.source, args, half)
    change = feats_changer(codec, reference, args.k, args.search)
    decode_recording(codec, recording, job.target, args, half, change)
    return recording.made(codec)


def _checked(codec: FocalCodec, reference: ReferenceSet, args: argparse.Namespace) -> State:
    """Check, before the first file, for errors that would occur in every file."""
    reference.check_codec(codec)
    check_k(args.k, len(reference))
    if args.search == "faiss":
        reference.build_index()
    return codec, reference, args
