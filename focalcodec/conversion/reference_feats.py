"""Continuous features of a speaker's recordings: of any number, length and rate."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from focalcodec.audio import Channels, audio_info, resampled_length
from focalcodec.audio_stream import AudioStream
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.long_audio.coding import WINDOW_SECONDS, feats_blocks


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
