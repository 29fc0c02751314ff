"""`focalcodec encode`: audio to token files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from focalcodec.cli.default_model import choose_model
from focalcodec.cli.files import TOKEN_SUFFIX, Job, add_path_arguments, open_target, plan_jobs
from focalcodec.cli.jobs import run_jobs
from focalcodec.cli.options import (
    Model,
    add_channels_option,
    add_job_options,
    add_model_options,
    add_window_option,
    load_model,
)
from focalcodec.cli.recordings import encode_recording
from focalcodec.cli.work import Progress
from focalcodec.errors import UserError
from focalcodec.fct import TokenTable, header_for, write_toks
from focalcodec.fct.header import TEXT_BYTES

EXAMPLES = """examples:
  focalcodec encode talk.mp3 talk.fct
  focalcodec encode "talks/**/*.flac" tokens/ --jobs 4
"""


class _State(NamedTuple):
    args: argparse.Namespace
    model: Model
    table: TokenTable | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    parser.epilog = EXAMPLES
    add_path_arguments(parser, "audio", "token")
    parser.add_argument(
        "--body",
        choices=("packed", "smallest"),
        default="packed",
        help="bits as they are, or the smallest with a range coder too (default: %(default)s)",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="token frequencies, for --body smallest",
    )
    add_channels_option(parser)
    add_window_option(parser)
    add_job_options(parser)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Encode."""
    if args.table is not None and args.body == "packed":
        raise UserError(f"--table {args.table}: packed tokens need none; give --body smallest")
    jobs = plan_jobs(args.sources, args.out, writes=[TOKEN_SUFFIX])
    return run_jobs(args, jobs, _setup, _encode, prepare=choose_model)


def _setup(args: argparse.Namespace) -> _State:
    table = None if args.table is None else TokenTable.load(args.table)
    return _State(args, load_model(args), table)


def _encode(state: _State, job: Job, progress: Progress) -> None:
    args, model, table = state
    toks, sample_rate, num_samples = encode_recording(model.codec, job.source, args, progress)
    clip_id = "" if job.source is None else job.source.stem
    if not clip_id.isprintable() or len(clip_id.encode()) > TEXT_BYTES:
        clip_id = ""  # a name that no header can hold is no reason to fail
    header = header_for(
        model.codec, model.name, model.weights_sha256, sample_rate, num_samples, clip_id
    )
    with open_target(job.target) as target:
        write_toks(target, toks, header, body=args.body, table=table)
