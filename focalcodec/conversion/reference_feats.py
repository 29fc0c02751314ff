"""Continuous features of a speaker's recordings: of any number, length and rate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from focalcodec.audio import Channels, audio_info, resampled_length
from focalcodec.audio_stream import AudioStream
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.long_audio import WINDOW_SECONDS
from focalcodec.receptive_field import part_context
from focalcodec.windows import cut_windows, plan_windows


@torch.no_grad()
def feats_blocks(
    codec: FocalCodec, blocks: Iterable[Tensor], window_seconds: float = WINDOW_SECONDS
) -> Iterator[Tensor]:
    """Features of a recording of any length, in overlapping windows; not quantized.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode.
    blocks : iterable of Tensor
        (T,) float each, at `codec.sample_rate_input`, such as an `AudioStream`.
    window_seconds : float
        Length of a window, its context included. A recording that fits is encoded whole.

    Yields
    ------
    Tensor
        feats (n, D), on the codec's device.

    Raises
    ------
    UserError
        A window that is shorter than the encoder's context.
    """
    encoder = codec.encoder
    # as in `FocalCodec.encode`: what lower precision does with it is the encoder's affair
    dtype = torch.promote_types(next(codec.parameters()).dtype, torch.float32)
    frame_rate = encoder.sample_rate / encoder.hop
    plan = plan_windows(part_context(encoder), frame_rate, window_seconds)
    for items, start, stop in cut_windows(blocks, plan, per_frame=encoder.hop):
        yield codec.sig_to_feats(items[None].to(codec.device, dtype))[0, start:stop]


def read_feats(
    codec: FocalCodec,
    paths: Sequence[str | os.PathLike[str]],
    dtype: torch.dtype,
    channels: Channels = "error",
    window_seconds: float = WINDOW_SECONDS,
    progress: bool = False,
) -> tuple[Tensor, float]:
    """Features of audio files, one after the other.

    All headers are read first, so that a bad file is found before the work, and the features take
    their place in memory once.

    Parameters
    ----------
    codec : FocalCodec
        In eval mode.
    paths : sequence of str or path
        Audio of any format and rate.
    dtype : torch.dtype
        Of the result.
    channels : {"error", "mix", "first"}
        What to do with files of several channels.
    window_seconds : float
        See `feats_blocks`.
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    feats : Tensor
        (N, D) on the CPU.
    seconds : float
        Audio read.

    Raises
    ------
    UserError
        No file, or one that is missing, no sound audio, or shorter than a frame.
    """
    if not paths:
        raise UserError("reference: no files; name at least one recording of the speaker")
    encoder, seconds, samples = codec.encoder, 0.0, []
    for path in paths:
        info = audio_info(path)
        samples.append(resampled_length(info.num_samples, info.sample_rate, encoder.sample_rate))
        check_not_short(str(path), samples[-1], encoder.hop)
        seconds += info.seconds
    frames = encoder.output_lengths(torch.tensor(samples))
    feats, end = torch.empty(int(frames.sum()), encoder.dim, dtype=dtype), 0
    for path in tqdm(paths, "reference", unit="file", disable=not progress):
        with AudioStream(path, encoder.sample_rate, channels) as stream:
            for block in feats_blocks(codec, stream, window_seconds):
                feats[end : end + len(block)] = block
                end += len(block)
    return feats, seconds


def check_not_short(name: str, num_samples: int, hop: int) -> None:
    """Refuse a recording that is shorter than a frame: silence would be most of what is heard.

    Parameters
    ----------
    name : str
        What the message calls it.
    num_samples : int
        Samples at the encoder's rate.
    hop : int
        Samples of a frame.

    Raises
    ------
    UserError
        Shorter.

    Example
    -------
    >>> check_not_short("a.wav", 100, 320)
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: a.wav: 100 samples, less than a frame of 320; leave it out
    """
    if num_samples < hop:
        raise UserError(f"{name}: {num_samples} samples, less than a frame of {hop}; leave it out")
