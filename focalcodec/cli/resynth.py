"""`focalcodec resynth`: audio through the codec and back, to hear what it keeps."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from focalcodec.cli.default_model import choose_model
from focalcodec.cli.files import Job, add_path_arguments, plan_jobs
from focalcodec.cli.jobs import run_jobs
from focalcodec.cli.options import (
    Model,
    add_audio_output_options,
    add_channels_option,
    add_job_options,
    add_model_options,
    add_window_option,
    audio_suffixes,
    load_model,
)
from focalcodec.cli.recordings import decode_recording, encode_recording
from focalcodec.cli.work import Progress

EXAMPLES = """examples:
  focalcodec resynth my.wav out.wav
  focalcodec resynth talks/ heard/ --sample_rate original --channels first
"""


class _State(NamedTuple):
    args: argparse.Namespace
    model: Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    add_path_arguments(parser, "audio", "audio")
    add_channels_option(parser)
    add_audio_output_options(parser)
    add_window_option(parser)
    add_job_options(parser)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Resynthesise."""
    jobs = plan_jobs(args.sources, args.out, writes=audio_suffixes(args.format))
    return run_jobs(args, jobs, _setup, _resynthesise, prepare=choose_model)


def _setup(args: argparse.Namespace) -> _State:
    return _State(args, load_model(args))


def _resynthesise(state: _State, job: Job, progress: Progress) -> None:
    args, model = state

    def half(seconds: float) -> None:
        progress(seconds / 2)  # each way is half of the work

    recording = encode_recording(model.codec, job.source, args, half)
    decode_recording(model.codec, recording, job.target, args, half)
