"""The audio of a clip: a whole file, or the part of a file that the manifest names."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from focalcodec.audio import (
    Channels,
    check_channels,
    read_audio,
    resample,
    resampled_length,
    write_audio,
)
from focalcodec.audio_files import AudioFile
from focalcodec.data.manifest import read_manifest, write_csv
from focalcodec.errors import UserError

Span: TypeAlias = "tuple[int, int]"
"""First sample of a segment and the sample after its last, at the file's own rate."""

_MARGIN_SECONDS = 0.1  # much longer than the resampler's filter


def read_clip(
    wav: str, sample_rate: int, span: Span | None = None, channels: Channels = "error"
) -> Tensor:
    """Read a clip, mono, resampled on the fly.

    A segment equals that slice of the whole file, sample for sample if nothing is resampled.
    Decoders with a state that start in the middle of a file differ a little, and always in the
    same way: measured up to 0.006 with Opus, 1e-7 with MP3. Raises `UserError` as `read_audio`,
    and for a span that does not lie in the file.

    Parameters
    ----------
    wav : str
        File.
    sample_rate : int
        Rate of the result, (T,) float32, Hz.
    span : (int, int), optional
        First sample of the clip and the sample after its last, at the file's own rate; default
        the whole file.
    channels : {"error", "mix", "first"}
        For a file with several channels: raise an error, average them, or read the first.

    Example
    -------
    >>> from focalcodec.data.corpus import embedded_corpus
    >>> wav = str(next(embedded_corpus("LibriSpeech").glob("test-real/91/1/*-0000.flac")))
    >>> part = read_clip(wav, 16000, (800, 2400))
    >>> part.equal(read_clip(wav, 16000)[800:2400])
    True
    """
    if span is None:
        return read_audio(wav, sample_rate, channels=channels)
    start, stop = span
    with AudioFile(wav) as file:
        check_channels(wav, file.channels, channels)
        rate = file.sample_rate
        before, after = _margins(rate, start, sample_rate)
        if 0 <= start < stop:
            file.seek(start - before)
            samples = file.read(before + stop - start + after)
        if not 0 <= start < stop or len(samples) < before + stop - start:
            raise UserError(
                f"{wav}: start={start}, stop={stop} do not fit its {file.count()} samples;"
                " prepare again"
            )
    sig = torch.from_numpy(samples.mean(axis=1) if channels == "mix" else samples[:, 0].copy())
    if rate == sample_rate:
        return sig
    sig = resample(sig[None], rate, sample_rate)[0][0]
    first = before * sample_rate // rate
    return sig[first : first + resampled_length(stop - start, rate, sample_rate)]


def _margins(rate: int, start: int, sample_rate: int) -> tuple[int, int]:
    """Samples before and after a segment, which the resampler needs at the ends of the segment.

    Those before it are a whole number of samples at the new rate too.
    """
    if rate == sample_rate:
        return 0, 0
    unit = rate // math.gcd(rate, sample_rate)
    margin = math.ceil(_MARGIN_SECONDS * rate / unit) * unit
    return min(margin, start // unit * unit), margin


def write_whole_files(manifest: str | Path, data_root: str | Path, folder: str | Path) -> Path:
    """Write each clip that is part of a file, or has several channels, as a separate FLAC file.

    `manifest` is a CSV, `data_root` replaces `$data_root` in it. The files and a new manifest are
    written into `folder`, and the new manifest is returned. If no file has to be written, the given
    manifest is returned. Files that exist are kept.
    """
    rows = read_manifest(manifest, data_root)
    folder, wholes = Path(folder).resolve(), []
    for row in rows:
        span, channels = (row.pop("start", None), row.pop("stop", None)), row.pop("channels", None)
        files = {name: row[name] for name in ("wav", "noisy") if name in row}
        written = {name: _write(wav, span, channels, folder) for name, wav in files.items()}
        wholes.append(row | written)
    if wholes == rows:
        return Path(manifest)
    path = folder / Path(manifest).name
    write_csv(path, list(wholes[0]), wholes)
    return path


def _write(wav: str, span: tuple[Any, Any], channels: Any, folder: Path) -> str:
    with AudioFile(wav) as file:
        rate, one_channel = file.sample_rate, file.channels == 1
    if span[0] is None and (one_channel or not channels):
        return wav
    about = (wav, os.stat(wav).st_size, os.stat(wav).st_mtime_ns, *span, channels)
    name = hashlib.sha256(repr(about).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = folder / f"{name}.flac"
    if not path.is_file():
        part = None if span[0] is None else span
        sig = read_clip(wav, rate, part, channels or "error")
        write_audio(path, sig, rate)
    return str(path)
