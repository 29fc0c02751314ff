"""The work of `encode`, `decode`, `resynth` and `convert`, which worker processes import."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from focalcodec.audio import resampled_length
from focalcodec.audio_stream import AudioStream, write_blocks
from focalcodec.cli.jobs import Made, run_jobs
from focalcodec.cli.models import LoadedModel, choose_model, load_model
from focalcodec.cli.options import ORIGINAL
from focalcodec.cli.paths import Job, find_sources, open_source, open_target
from focalcodec.codec import FocalCodec
from focalcodec.conversion import ReferenceSet, feats_changer
from focalcodec.fct import (
    TokenHeader,
    TokenReader,
    TokenTable,
    check_model,
    header_for,
    read_toks,
    write_toks,
)
from focalcodec.fct.header import HASH_DIGITS, TEXT_BYTES
from focalcodec.hub import DEMO, has_demo
from focalcodec.knn import check_k
from focalcodec.long_audio.coding import decode_blocks, encode_blocks
from focalcodec.processes import Progress


class Recording(NamedTuple):
    """Tokens of a recording, and the rate and length of its audio."""

    toks: Tensor  # (N,) int64
    sample_rate: int  # Hz
    num_samples: int

    def made(self, codec: FocalCodec) -> Made:
        """What the last line of a command counts."""
        return Made(self.num_samples / self.sample_rate, len(self.toks) * codec.bits_per_token)


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
    recording = encode_recording(model.codec, job.source, args, progress)
    toks, sample_rate, num_samples = recording
    clip_id = "" if job.source is None else job.source.stem
    if not clip_id.isprintable() or len(clip_id.encode()) > TEXT_BYTES:
        clip_id = ""  # a header can't store this name, but the file can be encoded
    header = header_for(
        model.codec, model.name, model.weights_sha256, sample_rate, num_samples, clip_id
    )
    with open_target(job.target) as target:  # a path is written atomically
        write_toks(target, toks, header, body=args.body, table=table)
    return recording.made(model.codec)


# -- decode ----------------------------------------------------------------------------------------


class _DecodeState(NamedTuple):
    args: argparse.Namespace
    models: _Models
    table: TokenTable | None


class _Models:
    """The model of each token file: that of --model if it is given.

    Without --model, the codec in the package decodes its own tokens, which it recognizes by the
    hash in the header, and the default model decodes all others.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._loaded, self._demo_sha256 = args, dict[str, LoadedModel](), ""
        if args.model is None and args.revision is None and has_demo():
            self._demo_sha256 = self._load(DEMO).weights_sha256[:HASH_DIGITS]
        else:
            choose_model(args)
            self._load(args.model)

    def of(self, header: TokenHeader) -> LoadedModel:
        if header.weights_sha256 == self._demo_sha256:
            return self._load(DEMO)
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
        header, toks = read_toks(source, table=table)
    model = models.of(header)
    if not args.any_model:
        check_model(header, model.name, model.weights_sha256, job.name)
    recording = Recording(toks, header.sample_rate, header.num_samples)
    decode_recording(model.codec, recording, job.target, args, progress)
    return recording.made(model.codec)


def token_seconds(path: Path) -> float:
    """Duration of a token file."""
    with TokenReader(path) as reader:
        return reader.header.seconds


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

    recording = encode_recording(codec, job.source, args, half)
    decode_recording(codec, recording, job.target, args, half, change_feats)
    return recording.made(codec)


def encode_recording(
    codec: FocalCodec, source: Path | None, args: argparse.Namespace, progress: Progress
) -> Recording:
    """Encode a file, or standard input, with --channels and --window_seconds."""
    rate = codec.sample_rate_input
    with (
        open_source(source) as opened,
        AudioStream(opened, rate, channels=args.channels) as stream,
    ):
        blocks = _counted(stream, rate, progress)
        toks = torch.cat(list(encode_blocks(codec, blocks, args.window_seconds)))
        return Recording(toks, stream.source_rate, stream.num_samples)


def decode_recording(
    codec: FocalCodec,
    recording: Recording,
    target: Path | None,
    args: argparse.Namespace,
    progress: Progress,
    change_feats: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Write a file, or standard output, with --sample_rate, --format and --window_seconds.

    `change_feats` is that of `decode_blocks`.
    """
    rate = codec.sample_rate_output if args.sample_rate is None else args.sample_rate
    rate = recording.sample_rate if rate == ORIGINAL else rate
    num_samples = output_samples(
        recording.num_samples, recording.sample_rate, rate, codec.sample_rate_input
    )
    blocks = decode_blocks(
        codec, recording.toks, num_samples, rate, args.window_seconds, change_feats
    )
    with open_target(target) as opened:
        write_blocks(
            opened,
            _counted(blocks, rate, progress),
            rate,
            args.format or "wav" if target is None else None,  # a path has a suffix
        )


def output_samples(num_samples: int, from_rate: int, rate: int, model_rate: int) -> int:
    """Length at `rate` Hz of a recording with `num_samples` at `from_rate` Hz.

    It is the nearest number, or one less if rounding would need one more token than the encoder
    made at `model_rate` Hz.

    Example
    -------
    >>> output_samples(88200, 44100, rate=24000, model_rate=16000)
    48000
    """
    encoded = resampled_length(num_samples, from_rate, model_rate)
    wanted = resampled_length(num_samples, from_rate, rate)
    while wanted > 1 and resampled_length(wanted, rate, model_rate) > encoded:
        wanted -= 1
    return wanted


def _counted(blocks: Iterable[Tensor], sample_rate: int, progress: Progress) -> Iterator[Tensor]:
    """Yield the blocks, and report each as done when the next one is requested."""
    for block in blocks:
        yield block
        progress(len(block) / sample_rate)
