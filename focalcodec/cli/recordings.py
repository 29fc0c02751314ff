"""The work of `encode`, `decode`, `resynth` and `convert`, which worker processes import."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from focalcodec.cli.jobs import Made, run_jobs
from focalcodec.cli.models import LoadedModel, choose_model, load_model
from focalcodec.cli.options import ORIGINAL
from focalcodec.cli.paths import Job, find_sources, open_source, open_target
from focalcodec.codec import FocalCodec
from focalcodec.conversion import ReferenceSet, feats_changer
from focalcodec.fct import TokenHeader, Tokens, TokenTable, check_model
from focalcodec.fct.header import HASH_DIGITS
from focalcodec.hub import shipped
from focalcodec.knn import check_k
from focalcodec.nn.merging import runs_bits
from focalcodec.processes import Progress

# -- encode ----------------------------------------------------------------------------------------


class _EncodeState(NamedTuple):
    args: argparse.Namespace
    model: LoadedModel
    table: TokenTable | None


def encode_setup(args: argparse.Namespace) -> _EncodeState:
    """Load what `encode` needs in each process."""
    return _EncodeState(args, load_model(args), _load_table(args))


def encode(state: _EncodeState, job: Job, progress: Progress) -> Made:
    """Write a token file."""
    args, model, table = state
    tokens = _encode(model.codec, job.source, args, progress)
    with open_target(job.target) as target:  # a path is written atomically
        tokens.save(target, args.body, table)
    made = _made(tokens)
    if args.body != "runs":
        return made
    return made._replace(bits=runs_bits(tokens.toks, tokens.header.bits))


# -- decode ----------------------------------------------------------------------------------------


class _DecodeState(NamedTuple):
    args: argparse.Namespace
    models: _Models
    table: TokenTable | None


class _Models:
    """The model of each token file: that of --model if it is given.

    Without --model, a codec in the package decodes its own tokens, which it recognizes by the hash
    in the header, and the default model decodes all others.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._loaded = args, dict[str, LoadedModel]()
        is_free = args.model is None and args.revision is None
        self._shipped = shipped() if is_free else []
        if not self._shipped:
            choose_model(args)
        self._load(self._shipped[0] if self._shipped else args.model)

    def of(self, header: TokenHeader) -> LoadedModel:
        # the name in the header only says which one to load first
        for name in sorted(self._shipped, key=lambda name: name != header.model):
            if header.weights_sha256 == self._load(name).weights_sha256[:HASH_DIGITS]:
                return self._load(name)
        choose_model(self._args)
        return self._load(self._args.model)

    def _load(self, name: str) -> LoadedModel:
        if name not in self._loaded:
            named = argparse.Namespace(**vars(self._args) | {"model": name})
            self._loaded[name] = load_model(named)
        return self._loaded[name]


def decode_setup(args: argparse.Namespace) -> _DecodeState:
    """Load what `decode` needs in each process."""
    table = _load_table(args)  # before the models, which take longer
    return _DecodeState(args, _Models(args), table)


def decode(state: _DecodeState, job: Job, progress: Progress) -> Made:
    """Write the audio of a token file."""
    args, models, table = state
    with open_source(job.source) as source:
        tokens = Tokens.load(source, table)
    model = models.of(tokens.header)
    if not args.any_model:
        check_model(tokens.header, model.name, model.weights_sha256, job.name)
    _decode(model.codec, tokens, job.target, args, progress)
    return _made(tokens)


def _load_table(args: argparse.Namespace) -> TokenTable | None:
    return None if args.table is None else TokenTable.load(args.table)


# -- resynth ---------------------------------------------------------------------------------------


class _ResynthState(NamedTuple):
    args: argparse.Namespace
    model: LoadedModel


def resynth_setup(args: argparse.Namespace) -> _ResynthState:
    """Load what `resynth` needs in each process."""
    return _ResynthState(args, load_model(args))


def resynth(state: _ResynthState, job: Job, progress: Progress) -> Made:
    """Write the audio of the tokens of a recording."""
    return _resynthesise(state.model.codec, job, state.args, progress)


# -- convert ---------------------------------------------------------------------------------------


_ConvertState = tuple[FocalCodec, ReferenceSet, argparse.Namespace]


def convert_jobs(args: argparse.Namespace, jobs: Sequence[Job]) -> int:
    """Make or load the reference set, and convert recordings."""
    if not args.reference:
        return run_jobs(args, jobs, _convert_setup, _convert, prepare=choose_model)
    if args.jobs == 1:  # the model that makes the reference set also converts
        state = _make_reference(args)
        return run_jobs(args, jobs, lambda _: state, _convert)
    with tempfile.TemporaryDirectory() as folder:
        # the processes share the memory of a file that they map
        path = args.save_reference_set or str(Path(folder, "reference.safetensors"))
        args.save_reference_set = path
        _make_reference(args)
        args.reference_set = path
        return run_jobs(args, jobs, _convert_setup, _convert)


def _convert_setup(args: argparse.Namespace) -> _ConvertState:
    reference = ReferenceSet.load(args.reference_set)
    return _checked(load_model(args).codec, reference, args)


def _make_reference(args: argparse.Namespace) -> _ConvertState:
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


def _convert(state: _ConvertState, job: Job, progress: Progress) -> Made:
    codec, reference, args = state
    change = feats_changer(codec, reference, args.k, args.search)
    return _resynthesise(codec, job, args, progress, change)


def _checked(codec: FocalCodec, reference: ReferenceSet, args: argparse.Namespace) -> _ConvertState:
    """Check, before the first file, for errors that would occur in every file."""
    reference.check_codec(codec)
    check_k(args.k, len(reference))
    if args.search == "faiss":
        reference.build_index()
    return codec, reference, args


# -- one recording ---------------------------------------------------------------------------------


def _resynthesise(
    codec: FocalCodec,
    job: Job,
    args: argparse.Namespace,
    progress: Progress,
    change_feats: Callable[[Tensor], Tensor] | None = None,
) -> Made:
    """Encode a recording, and write the audio of its tokens."""

    def half(seconds: float) -> None:
        progress(seconds / 2)  # encoding and decoding are half of the work each

    tokens = _encode(codec, job.source, args, half)
    _decode(codec, tokens, job.target, args, half, change_feats)
    return _made(tokens)


def _made(tokens: Tokens) -> Made:
    """What the last line of a command counts."""
    return Made(tokens.header.seconds, len(tokens) * tokens.header.bits)


def _encode(
    codec: FocalCodec, source: Path | None, args: argparse.Namespace, progress: Progress
) -> Tokens:
    """Encode a file, or standard input, with --channels and --window_seconds."""
    with open_source(source) as opened:
        return codec.encode_file(
            opened,
            channels=args.channels,
            window_seconds=args.window_seconds,
            merge=getattr(args, "merge", None),
            progress=progress,
        )


def _decode(
    codec: FocalCodec,
    tokens: Tokens,
    target: Path | None,
    args: argparse.Namespace,
    progress: Progress,
    change_feats: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Write a file, or standard output, with --sample_rate, --format and --window_seconds."""
    rate = tokens.header.sample_rate if args.sample_rate == ORIGINAL else args.sample_rate
    with open_target(target) as opened:
        codec.decode_file(
            tokens,
            opened,
            sample_rate=rate,
            file_format=args.format or "wav" if target is None else None,  # a path has a suffix
            window_seconds=args.window_seconds,
            any_model=True,  # it was checked
            change_feats=change_feats,
            progress=progress,
        )
