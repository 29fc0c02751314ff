"""`focalcodec decode`: token files to audio."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from focalcodec.cli.default_model import choose_model
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
from focalcodec.fct import TokenHeader, TokenReader, TokenTable, check_model, read_toks
from focalcodec.fct.header import HASH_DIGITS
from focalcodec.hub.locations import DEMO, has_demo

EXAMPLES = """examples:
  focalcodec decode talk.fct talk.wav
  focalcodec decode tokens/ audio/ --format flac --sample_rate original
"""


class _State(NamedTuple):
    args: argparse.Namespace
    models: _Models
    table: TokenTable | None


class _Models:
    """That of --model; where it is not given, that of the package for what it made, or the default.

    The package's is told by its hash, so its files are decoded wherever they are, and no other
    model has to be had for them.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._loaded, self._demo_sha256 = args, dict[str, Model](), ""
        if args.model is None and args.revision is None and has_demo():
            self._demo_sha256 = self._load(DEMO).weights_sha256[:HASH_DIGITS]
        else:
            choose_model(args)
            self._load(args.model)

    def of(self, header: TokenHeader) -> Model:
        """Model for a token file."""
        if header.weights_sha256 == self._demo_sha256:
            return self._load(DEMO)
        choose_model(self._args)
        return self._load(self._args.model)

    def _load(self, name: str) -> Model:
        if name not in self._loaded:
            named = argparse.Namespace(**vars(self._args) | {"model": name})
            self._loaded[name] = load_model(named)
        return self._loaded[name]


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
    return _State(args, _Models(args), table)


def _decode(state: _State, job: Job, progress: Progress) -> None:
    args, models, table = state
    with open_source(job.source) as source:
        header, toks = read_toks(source, table=table)
    model = models.of(header)
    if not args.any_model:
        check_model(header, model.name, model.weights_sha256, job.name)
    recording = Recording(toks, header.sample_rate, header.num_samples)
    decode_recording(model.codec, recording, job.target, args, progress)


def _seconds(path: Path) -> float:
    with TokenReader(path) as reader:
        return reader.header.seconds
