"""The work of `encode`, `decode`, `resynth` and `convert` with `--runtime onnx`, without torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from focalcodec.audio_files import AudioFile, source_name
from focalcodec.audio_files.rates import check_channels, output_samples, resampled_length
from focalcodec.audio_files.sound import AudioSource, any_name
from focalcodec.cli.jobs import Made
from focalcodec.cli.options import ORIGINAL
from focalcodec.cli.paths import Job, find_sources, open_source, open_target
from focalcodec.errors import UserError
from focalcodec.fct import (
    TokenHeader,
    TokenReader,
    TokenTable,
    check_model,
    header_for,
    write_toks,
)
from focalcodec.files import atomic_path
from focalcodec.onnx_runtime import EncoderSession, OnnxCodec
from focalcodec.onnx_runtime.bundle import Array
from focalcodec.onnx_runtime.knn import convert_feats
from focalcodec.processes import Progress

Change = Callable[[Array, Array], Array]  # of qfeats (1, N, D) and their number (1,)


class State(NamedTuple):
    """What all files need."""

    args: argparse.Namespace
    codec: OnnxCodec
    table: TokenTable | None
    reference: Array | None  # feats (R, D) of the wanted voice


def setup(args: argparse.Namespace) -> State:
    """Load the bundle; a `UserError` for options that need torch."""
    refused = {
        "--device": args.device not in ("auto", "cpu"),
        "--precision": args.precision not in ("auto", "fp32"),
        "--revision": args.revision is not None,
        "--jobs": args.jobs > 1,
        "--merge": getattr(args, "merge", None) is not None,
        "--body": getattr(args, "body", None) == "runs",
        "--reference_set": bool(getattr(args, "reference_set", None)),
        "--save_reference_set": bool(getattr(args, "save_reference_set", None)),
        "--search": getattr(args, "search", "exact") != "exact",
    }
    for option, given in refused.items():
        if given:
            raise UserError(f"{option}: not with --runtime onnx; leave it out, or use torch")
    if args.model is None:
        raise UserError("--model: none; with --runtime onnx, give the folder that export made")
    codec = OnnxCodec.from_pretrained(args.model)
    codec.bundle.load()
    path = getattr(args, "table", None)
    table = None if path is None else TokenTable.load(path)
    if not getattr(args, "reference", None):
        return State(args, codec, table, None)
    feats = [_feats(codec, found.path, args) for found in find_sources(args.reference)]
    return State(args, codec, table, np.concatenate(feats))


def encode(state: State, job: Job, progress: Progress) -> Made:
    """Write a token file."""
    toks, header = _encode(state, job.source, progress)
    with open_target(job.target) as target:
        write_toks(target, toks, header, state.args.body, state.table)
    return _made(toks, header)


def decode(state: State, job: Job, progress: Progress) -> Made:
    """Write the audio of a token file."""
    with open_source(job.source) as source, TokenReader(source, state.table) as reader:
        toks, header = np.concatenate([*reader.arrays()]), reader.header
    if not state.args.any_model:
        check_model(header, state.codec.model_id, state.codec.weights_sha256, job.name)
    _decode(state, toks, header, job.target)
    progress(header.seconds)
    return _made(toks, header)


def resynth(state: State, job: Job, progress: Progress) -> Made:
    """Write the audio of the tokens of a recording, in the voice of a reference if there is one."""
    toks, header = _encode(state, job.source, progress)
    _decode(state, toks, header, job.target)
    return _made(toks, header)


def _made(toks: Array, header: TokenHeader) -> Made:
    return Made(header.seconds, len(toks) * header.bits)


def _encode(state: State, source: Path | None, progress: Progress) -> tuple[Array, TokenHeader]:
    """Tokens (N,) of a recording, and their header."""
    codec, args = state.codec, state.args
    with open_source(source) as opened:
        sig, count, rate = _read(opened, args.channels, codec.sample_rate_input)
        name = source_name(opened)
    if codec.causal:
        toks = np.concatenate([*_streamed(codec, sig)])
    else:
        _check_window(name, len(sig) / codec.sample_rate_input, args.window_seconds)
        toks = codec.sig_to_toks(sig[None])[0]
    progress(count / rate)
    clip_id = "" if source is None else source.stem
    return toks, header_for(codec, codec.model_id, codec.weights_sha256, rate, count, clip_id)


def _streamed(codec: OnnxCodec, sig: Array) -> Iterator[Array]:
    """Tokens of a causal codec, in bounded memory: those of the whole signal."""
    session = EncoderSession(codec)
    yield session.push(sig[None])[0]
    yield session.flush()[0]


def _decode(state: State, toks: Array, header: TokenHeader, target: Path | None) -> None:
    """Write the audio of tokens (N,), as long as the recording."""
    codec, args = state.codec, state.args
    rate = header.sample_rate if args.sample_rate == ORIGINAL else args.sample_rate
    rate = codec.sample_rate_output if rate is None else rate
    count = output_samples(header.num_samples, header.sample_rate, rate, codec.sample_rate_input)
    _check_window("tokens", len(toks) / codec.token_rate, args.window_seconds)
    qfeats = codec.toks_to_qfeats(toks[None])
    if state.reference is not None:
        qfeats = convert_feats(qfeats, np.array([qfeats.shape[1]]), state.reference, args.k)
    sig = codec.feats_to_sig(qfeats)[0]
    resampled = soxr.resample(sig, codec.sample_rate_output, rate, quality="HQ")[:count]
    samples = np.zeros(count, dtype=np.float32)
    samples[: len(resampled)] = np.clip(resampled, -1.0, 1.0)
    file_format = args.format or ("wav" if target is None else target.suffix[1:].lower())
    with open_target(target) as opened:
        if isinstance(opened, Path):
            with atomic_path(opened) as temporary:
                soundfile.write(any_name(temporary), samples, rate, format=file_format.upper())
        else:
            soundfile.write(opened, samples, rate, format=file_format.upper())


def _feats(codec: OnnxCodec, path: Path, args: argparse.Namespace) -> Array:
    """Feats (N, D) of a recording of the wanted voice."""
    sig, _, _ = _read(path, args.channels, codec.sample_rate_input)
    _check_window(str(path), len(sig) / codec.sample_rate_input, args.window_seconds)
    return codec.sig_to_feats(sig[None])[0]


def _read(source: AudioSource, channels: str, rate: int) -> tuple[Array, int, int]:
    """Samples (T,) at `rate`, their number before, and their rate before."""
    with AudioFile(source) as file:
        check_channels(file.name, file.channels, channels)
        samples = file.read()  # (count, channels)
        given = file.sample_rate
    mono = samples.mean(axis=1) if channels == "mix" else samples[:, 0]
    size = resampled_length(len(mono), given, rate)
    sig = np.ascontiguousarray(soxr.resample(mono, given, rate, quality="HQ")[:size])
    return sig.astype(np.float32), len(mono), given


def _check_window(name: str, seconds: float, window_seconds: float) -> None:
    if seconds > window_seconds:
        raise UserError(
            f"{name}: {seconds:.0f} s, and the onnx runtime takes a recording whole; give"
            f" --window_seconds {seconds + 1:.0f} if the memory is enough, or use torch"
        )
