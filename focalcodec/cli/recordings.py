"""One recording from a file to tokens, and from tokens to a file, as the options say."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from focalcodec.audio import resampled_length
from focalcodec.audio_stream import AudioStream, write_blocks
from focalcodec.cli.files import open_source, open_target
from focalcodec.cli.options import ORIGINAL
from focalcodec.cli.work import Progress
from focalcodec.codec import FocalCodec
from focalcodec.long_audio.coding import decode_blocks, encode_blocks


class Recording(NamedTuple):
    """Tokens (N,) of a recording, and the rate in Hz and the samples that it had."""

    toks: Tensor
    sample_rate: int
    num_samples: int


def encode_recording(
    codec: FocalCodec, source: Path | None, args: argparse.Namespace, progress: Progress
) -> Recording:
    """Tokens of a file or of standard input, by --channels and --window_seconds."""
    rate = codec.sample_rate_input
    with (
        open_source(source) as opened,
        AudioStream(opened, rate, channels=args.channels) as stream,
    ):
        blocks = counted(stream, rate, progress)
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
    """Write a file or to standard output, by --sample_rate, --format and --window_seconds.

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
            counted(blocks, rate, progress),
            rate,
            args.format or "wav" if target is None else None,
        )


def output_samples(num_samples: int, from_rate: int, rate: int, model_rate: int) -> int:
    """Samples of a recording at another rate, and never more than its tokens were made of.

    Parameters
    ----------
    num_samples, from_rate : int
        Of the recording, the rate in Hz.
    rate, model_rate : int
        Of the output and of the encoder, Hz.

    Returns
    -------
    int
        The nearest number, or one less where rounding twice would ask for one more token.

    Example
    -------
    >>> output_samples(88200, 44100, rate=24000, model_rate=16000)
    48000
    """
    heard = resampled_length(num_samples, from_rate, model_rate)
    wanted = resampled_length(num_samples, from_rate, rate)
    while wanted > 1 and resampled_length(wanted, rate, model_rate) > heard:
        wanted -= 1
    return wanted


def counted(blocks: Iterable[Tensor], sample_rate: int, progress: Progress) -> Iterator[Tensor]:
    """Blocks as they are; of each the bar is told when the next one is asked for."""
    for block in blocks:
        yield block
        progress(len(block) / sample_rate)
