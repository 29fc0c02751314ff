"""Clips that are parts of files or have several channels, as files of their own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from focalcodec.audio import audio_info, write_audio
from focalcodec.data.clip_audio import read_clip
from focalcodec.data.manifest import read_manifest, write_csv


def write_whole_files(manifest: str | Path, data_root: str | Path, folder: str | Path) -> Path:
    """Write each clip that is part of a file, or has several channels, as FLAC, if it is not there.

    Parameters
    ----------
    manifest : str or path
        CSV, see `focalcodec.data.manifest`.
    data_root : str or path
        What `$data_root` stands for in it.
    folder : str or path
        Gets the files, and the manifest that names them.

    Returns
    -------
    Path
        A manifest of whole files: the one in `folder`, or the given one if its clips are such.

    Example
    -------
    >>> import tempfile
    >>> from focalcodec.data.embedded import embedded_corpus
    >>> wav = next(embedded_corpus("LibriSpeech").glob("test-real/91/1/*-0000.flac"))
    >>> row = {"ID": "a", "duration": 0.5, "wav": str(wav), "start": 0, "stop": 8000}
    >>> with tempfile.TemporaryDirectory() as there:
    ...     write_csv(f"{there}/cut.csv", list(row), [row])
    ...     whole = write_whole_files(f"{there}/cut.csv", there, f"{there}/segments")
    ...     audio_info(read_manifest(whole, there)[0]["wav"]).num_samples
    8000
    """
    rows = read_manifest(manifest, data_root)
    folder, wholes = Path(folder).resolve(), []
    for row in rows:
        span, channels = (row.pop("start", None), row.pop("stop", None)), row.pop("channels", None)
        files = {name: row[name] for name in ("wav", "noisy") if name in row}
        made = {name: _write(wav, span, channels, folder) for name, wav in files.items()}
        wholes.append(row | made)
    if wholes == rows:
        return Path(manifest)
    path = folder / Path(manifest).name
    write_csv(path, list(wholes[0]), wholes)
    return path


def _write(wav: str, span: tuple[Any, Any], channels: Any, folder: Path) -> str:
    info = audio_info(wav)
    if span[0] is None and (info.channels == 1 or not channels):
        return wav
    about = (wav, os.stat(wav).st_size, os.stat(wav).st_mtime_ns, *span, channels)
    name = hashlib.sha256(repr(about).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = folder / f"{name}.flac"
    if not path.is_file():
        part = None if span[0] is None else span
        sig = read_clip(wav, info.sample_rate, part, channels or "error")
        write_audio(path, sig, info.sample_rate)
    return str(path)
