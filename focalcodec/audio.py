"""Read, write and resample mono audio; every error is one line that names the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from focalcodec.audio_files import AudioFile
from focalcodec.audio_files.rates import check_channels, check_rates, resampled_length
from focalcodec.audio_files.sound import AudioSource, any_name
from focalcodec.choices import Channels
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.nn.masking import (
    as_tensor,
    check_lengths,
    check_tensor,
    full_lengths,
    valid_mask,
    zero_padding,
)

# -- files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AudioInfo:
    """Header of a file: `num_samples` a channel, `sample_rate` in Hz, `channels`."""

    num_samples: int
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sample_rate


def audio_info(path: AudioSource) -> AudioInfo:
    """Length, rate and channels of an audio file; only its last sample is decoded.

    Reading the last sample finds most truncated files: the header of a FLAC file gives the number
    of samples of the whole file. Where a header does not give it, such as that of an MP3 without
    the tag Xing, all samples are read. `path` and errors are as in `read_audio`.
    """
    with AudioFile(path) as file:
        return AudioInfo(file.count(), file.sample_rate, file.channels)


def read_audio(
    path: AudioSource,
    sample_rate: int,
    start: int = 0,
    frames: int = -1,
    channels: Channels = "error",
    min_samples: int = 1,
) -> Tensor:
    """Read a mono signal (T,) float32, about [-1, 1], resampled on the fly.

    Parameters
    ----------
    path : str, path or binary file
        WAV, FLAC, MP3, Ogg or any other format of libsndfile; also M4A, WebM and others if PyAV or
        ffmpeg is installed. A file object must be seekable. Joined files are read as one.
    sample_rate : int
        Rate of the signal, Hz: the file is resampled to it; its own is in `audio_info`.
    start, frames : int
        First sample and number of samples, at the file's own rate; -1 frames reads to the end.
    channels : {"error", "mix", "first"}
        For a file with several channels: raise an error, average them, or read the first.
    min_samples : int
        Smallest number of samples, counted at the returned rate; fewer are an error.

    Raises
    ------
    UserError
        The file is missing, empty, not audio, truncated, too short, or has several channels; or a
        sample is NaN or infinite.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_audio(f"{folder}/a.wav", torch.zeros(800), 8000)
    ...     read_audio(f"{folder}/a.wav", sample_rate=16000).shape
    torch.Size([1600])
    """
    check_rates(sample_rate)
    with AudioFile(path) as file:
        check_channels(file.name, file.channels, channels)
        rate, name = file.sample_rate, file.name
        if start > 0:
            file.seek(start)
        samples = file.read(None if frames < 0 else frames)  # (count, channels)
        if start < 0 or not len(samples) or len(samples) < frames:
            fits = f"do not fit its {file.count()} samples"
            raise UserError(f"{name}: start={start}, frames={frames} {fits}")
    sig = torch.from_numpy(samples.mean(axis=1) if channels == "mix" else samples[:, 0].copy())
    if sample_rate != rate:
        sig = resample(sig[None], rate, sample_rate)[0][0]
    if len(sig) < min_samples:
        raise UserError(
            f"{name}: {len(sig)} samples, fewer than {min_samples}; remove the file"
            " or join it to another"
        )
    return sig


def write_audio(path: str | os.PathLike[str], sig: Tensor, sample_rate: int) -> None:
    """Write a mono signal (T,) float, atomically, 16 bits; values beyond [-1, 1] are clipped.

    The format follows the suffix, `.wav` or `.flac`. Raises a `UserError` for another suffix, and
    for a signal that is not (T,), empty, integer, NaN or infinite.
    """
    sig = as_tensor(f"{path}: sig", sig)
    if sig.dim() != 1:
        raise UserError(f"{path}: sig has shape {tuple(sig.shape)}; give one signal, (samples,)")
    check_rates(sample_rate)
    suffix = Path(path).suffix
    if suffix.lower() not in (".wav", ".flac"):
        raise UserError(f"{path}: suffix {suffix!r} can't be written; use .wav or .flac")
    try:
        validate_sig(sig[None])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    samples = sig.detach().to("cpu", torch.float32).clamp(-1.0, 1.0).numpy()
    with atomic_path(path) as temporary:
        soundfile.write(any_name(temporary), samples, sample_rate)


def to_pcm(sig: Tensor) -> bytes:
    """Samples (T,) float as 16-bit little-endian PCM; values beyond [-1, 1] are clipped.

    Example
    -------
    >>> from_pcm(to_pcm(torch.tensor([-0.5, 0.0, 2.0])))
    tensor([-0.5000,  0.0000,  1.0000])
    """
    return (sig.clamp(-1.0, 1.0) * 32767.0).round().cpu().numpy().astype("<i2").tobytes()


def from_pcm(data: bytes) -> Tensor:
    """Samples (T,) float32 in [-1, 1) of 16-bit little-endian PCM."""
    return torch.from_numpy(np.frombuffer(data, "<i2").astype(np.float32) / 32768.0)


# -- rates -----------------------------------------------------------------------------------------


def resample(
    sig: Tensor, from_rate: int, to_rate: int, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Resample each clip of a batch by its valid samples only (band-limited, soxr's HQ).

    Takes sig (B, T) float and lengths (B,) int64, default all; gives sig (B, T') of the same dtype
    and device, zero beyond a clip's length, and lengths (B,), `resampled_length` of each clip.
    Rates are in Hz. Runs on the CPU and has no gradient.
    """
    check_rates(from_rate, to_rate)
    lengths = full_lengths(sig) if lengths is None else lengths
    if from_rate == to_rate:
        return zero_padding(sig, valid_mask(lengths, sig.shape[1])), lengths
    ends = [resampled_length(n, from_rate, to_rate) for n in lengths.tolist()]
    resampled = torch.zeros(len(sig), max(ends, default=0))  # (B, T')
    clips = sig.detach().to("cpu", torch.float32).contiguous().numpy()
    for clip, length, end, out in zip(clips, lengths.tolist(), ends, resampled, strict=True):
        samples = soxr.resample(clip[:length], from_rate, to_rate, quality="HQ")[:end]
        out[: len(samples)] = torch.from_numpy(samples)
    return resampled.to(sig), torch.tensor(ends, dtype=torch.int64, device=lengths.device)


# -- batches ---------------------------------------------------------------------------------------


def check_sig(sig: Tensor, lengths: Tensor | None = None) -> None:
    """Check that sig is a (B, T) batch of float samples, T >= 1, without reading its values."""
    check_tensor("sig", sig)
    if lengths is not None:
        check_tensor("lengths", lengths)
    if sig.dim() != 2 or sig.shape[1] == 0 or not sig.is_floating_point():
        raise UserError(
            f"sig: {tuple(sig.shape)} {sig.dtype}; give floats of shape (batch, samples), "
            "at least one sample"
        )


def as_batch(sig: Any) -> Tensor:
    """A user's signal as a batch (B, T): from (samples,), (batch, samples) or (batch, 1, samples).

    It is a tensor, an array or a list; else, and for other shapes, a `UserError`.

    Example
    -------
    >>> import numpy as np
    >>> as_batch(np.zeros(3, "float32")).shape, as_batch(torch.zeros(2, 1, 3)).shape
    (torch.Size([1, 3]), torch.Size([2, 3]))
    """
    if isinstance(sig, (str, os.PathLike)):
        raise UserError(f"sig: {str(sig)!r} is a path; give samples, or call encode_file(path)")
    sig = as_tensor("sig", sig)
    if sig.dim() == 3 and sig.shape[1] != 1:
        channels = f"{sig.shape[1]} channels; give one, e.g. sig.mean(dim=1)"
        raise UserError(f"sig: shape {tuple(sig.shape)}, {channels}")
    if not 1 <= sig.dim() <= 3:
        shapes = "(samples,), (batch, samples) or (batch, 1, samples)"
        raise UserError(f"sig: shape {tuple(sig.shape)}; give {shapes}")
    return sig[None] if sig.dim() == 1 else sig.flatten(1)


def validate_sig(sig: Tensor, lengths: Tensor | None = None) -> None:
    """Check a user's batch: sig (B, T) float, lengths (B,) int64 in 1..T samples, and the values.

    Raises a `UserError` with a hint for a wrong shape or dtype, an empty batch, lengths that do not
    fit, and NaN or infinite samples within the lengths.
    """
    if sig.dim() != 2:
        raise UserError(f"sig: shape {tuple(sig.shape)}; give (batch, samples)")
    if not sig.is_floating_point():
        raise UserError(f"sig: {sig.dtype}; give floats in [-1, 1], e.g. int16 / 32768")
    if sig.numel() == 0:
        raise UserError(f"sig: empty, shape {tuple(sig.shape)}; give at least one sample")
    if lengths is not None:
        check_lengths(lengths, sig, "samples")
        sig = zero_padding(sig, valid_mask(lengths, sig.shape[1]))
    bad = ~torch.isfinite(sig).all(dim=1)
    if bool(bad.any()):
        clips = bad.nonzero().flatten().tolist()
        raise UserError(f"sig: NaN or infinite samples in clip {clips[0]}; remove or repair it")
