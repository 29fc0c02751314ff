"""Opening an audio file, or bytes that hold one, with every fault told in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import soundfile

from focalcodec.errors import UserError

AudioSource: TypeAlias = "str | os.PathLike[str] | BinaryIO"
# What libsndfile reads and what is sound by its name: no .mat, .raw or .htk.
AUDIO_SUFFIXES = (
    *(".aif", ".aifc", ".aiff", ".au", ".bwf", ".caf", ".flac", ".mp1", ".mp2", ".mp3", ".nist"),
    *(".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".voc", ".w64", ".wav", ".wave"),
)


def source_name(source: AudioSource) -> str:
    """What messages call a source: its path, or the name that a file object has.

    Example
    -------
    >>> import io
    >>> source_name("a.wav"), source_name(io.BytesIO())
    ('a.wav', 'audio in memory')
    """
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    return str(getattr(source, "name", "audio in memory"))


def open_audio(source: AudioSource) -> soundfile.SoundFile:
    """Open a file of any format that libsndfile reads.

    Parameters
    ----------
    source : str, path or binary file
        A file object must be seekable, such as `io.BytesIO`.

    Returns
    -------
    soundfile.SoundFile
        Holds at least one sample.

    Raises
    ------
    UserError
        Missing, empty, not audio, without samples, or a truncated WAV.

    Example
    -------
    >>> open_audio("no.wav")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no.wav: no such file; check the path
    """
    name = source_name(source)
    if isinstance(source, (str, os.PathLike)):
        if not Path(source).is_file():
            raise UserError(f"{name}: no such file; check the path")
        with open(source, "rb") as file:
            size, promised = os.stat(source).st_size, _promised_bytes(file)
    else:
        promised, size = _promised_bytes(source), source.seek(0, os.SEEK_END)
        source.seek(0)
    if size == 0:
        raise UserError(f"{name}: empty, 0 bytes; copy it again or remove it")
    try:
        audio = soundfile.SoundFile(_any_name(source))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: raw, without a header
        raise UserError(
            f"{name}: not audio that can be read ({_reason(error)}); copy it again, or convert"
            " it to WAV or FLAC"
        ) from error
    # One byte may be missing: some writers count a pad byte that they do not write.
    problem = "no samples" if audio.frames < 1 else ""
    if not problem and audio.format == "WAV" and promised > size + 1:
        problem = f"truncated, {size} of {promised} bytes"
    if problem:
        audio.close()
        raise UserError(f"{name}: {problem}; copy it again or remove it")
    return audio


def read_frames(
    file: soundfile.SoundFile, source: AudioSource, start: int, count: int
) -> np.ndarray:
    """Read exactly `count` samples of all channels.

    Parameters
    ----------
    file : soundfile.SoundFile
        From `open_audio`.
    source : str, path or binary file
        Its source, to be named.
    start, count : int
        First sample and number of samples.

    Returns
    -------
    np.ndarray
        (count, channels) float32.

    Raises
    ------
    UserError
        Truncated or damaged; NaN or infinite samples.
    """
    name = source_name(source)
    try:
        # compressed formats decode anew after a seek, which need not give the same samples
        if file.tell() != start:
            file.seek(start)
        samples = file.read(count, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{name}: truncated or damaged ({_reason(error)}); copy it again or remove it"
        ) from error
    if len(samples) < count:
        raise UserError(
            f"{name}: truncated, {start + len(samples)} of {start + count} samples can be read;"
            " copy it again or remove it"
        )
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: NaN or infinite samples; remove or repair the file")
    return samples


def _any_name(source: AudioSource) -> AudioSource | bytes:
    """What soundfile opens: as text, it takes no name that is not UTF-8."""
    if isinstance(source, (str, os.PathLike)) and os.name != "nt":
        return os.fsencode(source)
    return source


def _promised_bytes(file: BinaryIO) -> int:
    """Bytes that a WAV's header promises; libsndfile takes a truncated one for a shorter one."""
    file.seek(0)
    header = file.read(8)
    size = int.from_bytes(header[4:8], "little")
    # Who writes to a pipe can't know the size and puts the largest number, or none.
    return 0 if header[:4] != b"RIFF" or size >= 2**32 - 256 else size + 8


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(". ")
