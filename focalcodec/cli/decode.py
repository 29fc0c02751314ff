"""`focalcodec decode`: token files to audio."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from focalcodec.cli.files import TOKEN_SUFFIX, Job, add_path_arguments, open_source, plan_jobs
from focalcodec.cli.jobs import run_jobs
from focalcodec.cli.options import (
    Model,
    add_audio_output_options,
    add_job_options,
    add_model_options,
    add_window_option,
    audio_suffixes,
    load_model,
)
from focalcodec.cli.recordings import Recording, decode_recording
from focalcodec.cli.work import Progress
from focalcodec.fct import TokenReader, TokenTable, check_model, read_toks

EXAMPLES = """examples:
  focalcodec decode talk.fct talk.wav
  focalcodec decode tokens/ audio/ --format flac --sample_rate original
"""


class _State(NamedTuple):
    args: argparse.Namespace
    model: Model
    table: TokenTable | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    add_path_arguments(parser, "token", "audio")
    parser.add_argument(
        "--any_model",
        action="store_true",
        help="decode the tokens of another model too, which is noise unless the two are alike",
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="token frequencies that encode was given"
    )
    add_audio_output_options(parser)
    add_window_option(parser)
    add_job_options(parser)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Decode."""
    writes = audio_suffixes(args.format)
    jobs = plan_jobs(args.sources, args.out, reads=[TOKEN_SUFFIX], writes=writes)
    return run_jobs(args, jobs, _setup, _decode, seconds=_seconds)


def _setup(args: argparse.Namespace) -> _State:
    table = None if args.table is None else TokenTable.load(args.table)
    return _State(args, load_model(args), table)


def _decode(state: _State, job: Job, progress: Progress) -> None:
    args, model, table = state
    with open_source(job.source) as source:
        header, toks = read_toks(source, table=table)
    if not args.any_model:
        check_model(header, model.name, model.weights_sha256, job.name)
    recording = Recording(toks, header.sample_rate, header.num_samples)
    decode_recording(model.codec, recording, job.target, args, progress)


def _seconds(path: Path) -> float:
    with TokenReader(path) as reader:
        return reader.header.seconds
