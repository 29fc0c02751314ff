"""Audio in and out: read, write, resample, and refuse what is not mono audio in one clear line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import soundfile
import soxr
import torch
from torch import Tensor

from focalcodec.audio_file import AudioSource, open_audio, read_frames, source_name
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding

Channels = Literal["error", "mix", "first"]
CHANNELS = ("error", "mix", "first")


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: `num_samples` a channel, `sample_rate` in Hz, `channels`."""

    num_samples: int
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.num_samples / self.sample_rate


def audio_info(path: AudioSource) -> AudioInfo:
    """Length, rate and channels of an audio file, without decoding more than its last sample.

    Reading the last sample finds most truncated files: a FLAC header promises as many samples
    as the whole file had.

    Parameters
    ----------
    path : str, path or binary file
        WAV, FLAC, Ogg or any other format of libsndfile; a file object must be seekable.

    Returns
    -------
    AudioInfo
        At least one sample.

    Raises
    ------
    UserError
        Missing, empty, not audio, without samples, or truncated.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_audio(Path(folder) / "a.wav", torch.zeros(800), 16000)
    ...     audio_info(Path(folder) / "a.wav")
    AudioInfo(num_samples=800, sample_rate=16000, channels=1)
    """
    with open_audio(path) as file:
        info = AudioInfo(file.frames, file.samplerate, file.channels)
        read_frames(file, path, info.num_samples - 1, 1)
    return info


def read_audio(
    path: AudioSource,
    sample_rate: int | None = None,
    start: int = 0,
    frames: int = -1,
    channels: Channels = "error",
    min_samples: int = 1,
) -> Tensor:
    """Read a mono signal, resampled on the fly; the file stays as it is.

    Parameters
    ----------
    path : str, path or binary file
        WAV, FLAC, Ogg or any other format of libsndfile; a file object must be seekable.
    sample_rate : int, optional
        Rate to resample to, Hz. Default: the file's own (see `audio_info`).
    start, frames : int
        First sample and number of samples, at the file's own rate; -1 frames reads to the end.
    channels : {"error", "mix", "first"}
        A file with several channels is refused, averaged, or read for its first channel.
    min_samples : int
        Refuse a signal of fewer samples, counted at the rate returned.

    Returns
    -------
    Tensor
        (T,) float32, about [-1, 1].

    Raises
    ------
    UserError
        Missing, empty, not audio, truncated, too short, several channels, NaN or infinite.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_audio(f"{folder}/a.wav", torch.zeros(800), 8000)
    ...     read_audio(f"{folder}/a.wav", sample_rate=16000).shape
    torch.Size([1600])
    """
    with open_audio(path) as file:
        check_channels(source_name(path), file.channels, channels)
        count = file.frames - start if frames < 0 else frames
        if start < 0 or count < 1 or start + count > file.frames:
            fits = f"do not fit its {file.frames} samples"
            raise UserError(f"{source_name(path)}: start={start}, frames={frames} {fits}")
        samples = read_frames(file, path, start, count)
        rate = file.samplerate
    sig = torch.from_numpy(samples.mean(axis=1) if channels == "mix" else samples[:, 0].copy())
    if sample_rate is not None and sample_rate != rate:
        sig = resample(sig[None], rate, sample_rate)[0][0]
    if len(sig) < min_samples:
        raise UserError(
            f"{source_name(path)}: {len(sig)} samples, fewer than {min_samples}; remove the file"
            " or join it to another"
        )
    return sig


def check_channels(path: str | os.PathLike[str], count: int, channels: str) -> None:
    """Refuse a file of several channels unless the policy says what to do with them.

    Parameters
    ----------
    path : str or path
        File that the message names.
    count : int
        Channels of the file.
    channels : str
        Policy: one of `CHANNELS`.

    Raises
    ------
    UserError
        No such policy, or several channels under the policy "error".

    Example
    -------
    >>> check_channels("a.wav", 2, "mix")
    """
    if channels not in CHANNELS:
        raise UserError(f"channels={channels!r}: not one of {', '.join(CHANNELS)}")
    if count > 1 and channels == "error":
        raise UserError(
            f"{path}: {count} channels, mono is expected;"
            " set channels to 'mix' (their mean) or 'first'"
        )


def write_audio(path: str | os.PathLike[str], sig: Tensor, sample_rate: int) -> None:
    """Write a mono signal; the format follows the suffix, values beyond [-1, 1] are clipped.

    Parameters
    ----------
    path : str or path
        File to write, `.wav` or `.flac`, 16 bits. Never left half-written.
    sig : Tensor
        (T,) float.
    sample_rate : int
        Hz.

    Raises
    ------
    UserError
        Not (T,), empty, integer, NaN or infinite; a suffix that is not known.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_audio(Path(folder) / "a.flac", torch.tensor([0.0, 0.5]), 16000)
    ...     read_audio(Path(folder) / "a.flac")
    tensor([0.0000, 0.5000])
    """
    if sig.dim() != 1:
        raise UserError(f"{path}: sig has shape {tuple(sig.shape)}; give one signal, (samples,)")
    suffix = Path(path).suffix
    if suffix.lower() not in (".wav", ".flac"):
        raise UserError(f"{path}: suffix {suffix!r} can't be written; use .wav or .flac")
    try:
        validate_sig(sig[None])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    samples = sig.detach().to("cpu", torch.float32).clamp(-1.0, 1.0).numpy()
    with atomic_path(path) as temporary:
        soundfile.write(temporary, samples, sample_rate)


def resampled_length(num_samples: int, from_rate: int, to_rate: int) -> int:
    """Count the samples after resampling: the nearest number, halves up, one at least.

    Parameters
    ----------
    num_samples : int
        Samples at `from_rate`.
    from_rate, to_rate : int
        Hz.

    Returns
    -------
    int
        Samples at `to_rate`.

    Example
    -------
    >>> resampled_length(44100, 44100, 16000), resampled_length(1001, 24000, 16000)
    (16000, 667)
    """
    return max(min(1, num_samples), (2 * num_samples * to_rate + from_rate) // (2 * from_rate))


def resample(
    sig: Tensor, from_rate: int, to_rate: int, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Resample each clip of a batch by its valid samples only (band-limited, soxr's HQ).

    Runs on the CPU and has no gradient.

    Parameters
    ----------
    sig : Tensor
        (B, T) float.
    from_rate, to_rate : int
        Hz.
    lengths : Tensor, optional
        (B,) int64, samples of each clip; default all.

    Returns
    -------
    sig : Tensor
        (B, T') of the same dtype and device, zero beyond a clip's length.
    lengths : Tensor
        (B,) int64, `resampled_length` of each clip.

    Raises
    ------
    UserError
        A rate is not a positive integer.

    Example
    -------
    >>> sig, lengths = resample(torch.zeros(2, 300), 24000, 16000, torch.tensor([300, 150]))
    >>> sig.shape, lengths
    (torch.Size([2, 200]), tensor([200, 100]))
    """
    check_rates(from_rate, to_rate)
    lengths = full_lengths(sig) if lengths is None else lengths
    if from_rate == to_rate:
        return zero_padding(sig, valid_mask(lengths, sig.shape[1])), lengths
    ends = [resampled_length(n, from_rate, to_rate) for n in lengths.tolist()]
    resampled = torch.zeros(len(sig), max(ends, default=0))
    clips = sig.detach().to("cpu", torch.float32).contiguous().numpy()
    for clip, length, end, out in zip(clips, lengths.tolist(), ends, resampled, strict=True):
        samples = soxr.resample(clip[:length], from_rate, to_rate, quality="HQ")[:end]
        out[: len(samples)] = torch.from_numpy(samples)
    return resampled.to(sig), torch.tensor(ends, dtype=torch.int64, device=lengths.device)


def check_rates(*rates: int) -> None:
    """Refuse a sample rate that is not a positive integer, in Hz.

    Example
    -------
    >>> check_rates(16000, 24000)
    """
    for rate in rates:
        if not isinstance(rate, int) or rate < 1:
            raise UserError(f"sample rate {rate!r}: give a positive integer, in Hz")


def validate_sig(sig: Tensor, lengths: Tensor | None = None) -> None:
    """Refuse a batch of signals that is not one.

    Parameters
    ----------
    sig : Tensor
        (B, T) float.
    lengths : Tensor, optional
        (B,) int64, samples of each clip, each in 1..T. What is beyond them is not looked at.

    Raises
    ------
    UserError
        Wrong shape or dtype, empty, lengths that do not fit, NaN or infinite.

    Example
    -------
    >>> validate_sig(torch.zeros(16000))
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: sig: shape (16000,); give (batch, samples), e.g. sig[None]
    """
    if sig.dim() != 2:
        hint = "e.g. sig[None]" if sig.dim() == 1 else "one channel, e.g. sig.mean(dim=1)"
        raise UserError(f"sig: shape {tuple(sig.shape)}; give (batch, samples), {hint}")
    if not sig.is_floating_point():
        raise UserError(f"sig: {sig.dtype}; give floats in [-1, 1], e.g. int16 / 32768")
    if sig.numel() == 0:
        raise UserError(f"sig: empty, shape {tuple(sig.shape)}; give at least one sample")
    if lengths is not None:
        if lengths.shape != sig.shape[:1] or lengths.dtype != torch.int64:
            raise UserError(
                f"lengths: {lengths.dtype} {tuple(lengths.shape)}; give int64 ({len(sig)},),"
                " in samples"
            )
        if bool((lengths < 1).any()) or bool((lengths > sig.shape[1]).any()):
            raise UserError(f"lengths: {lengths.tolist()}; each must be in 1..{sig.shape[1]}")
        sig = zero_padding(sig, valid_mask(lengths, sig.shape[1]))
    bad = ~torch.isfinite(sig).all(dim=1)
    if bool(bad.any()):
        clips = bad.nonzero().flatten().tolist()
        raise UserError(f"sig: NaN or infinite samples in clip {clips[0]}; remove or repair it")
