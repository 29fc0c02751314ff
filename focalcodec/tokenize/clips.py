"""Clips of a corpus before they are opened, and their audio: files, parts of files, URLs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import soundfile

from focalcodec.audio_files import AudioFile
from focalcodec.audio_files.sound import AudioSource
from focalcodec.data.manifest import DATA_ROOT
from focalcodec.errors import UserError
from focalcodec.tokenize.urls import is_url, read_bytes

# Columns of a dataset, the most usual name first.
SPEAKER_COLUMNS = ("spk_id", "speaker_id", "speaker", "client_id")
TEXT_COLUMNS = ("wrd", "text", "transcription", "transcript", "sentence")


class CorpusClip(NamedTuple):
    """A clip of a corpus; its audio has not been opened yet."""

    id: str
    location: str  # a path with $data_root, a URL, or the number of a dataset's row
    size: int = 0  # of the file in bytes; 0 if the source has no files
    modified_ns: int = 0  # modification time of the file; 0 if the source has no files
    spk_id: str = ""
    wrd: str = ""
    span: tuple[int, int] | None = None  # first sample of a part of a file, and that after it


class CorpusSource(Protocol):
    """Clips in a fixed order, and their audio."""

    @property
    def clips(self) -> Sequence[CorpusClip]:
        """All clips; their ids differ."""
        ...

    @property
    def digest(self) -> str:
        """Hexadecimal digest that changes when a clip changes."""
        ...

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Path or open bytes of a clip; several threads call it."""
        ...


class NamedBytes(io.BytesIO):
    """Bytes with a name for messages."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


class FileSource:
    """Clips that are audio files; `$data_root` in their paths stands for `data_root`.

    Example
    -------
    >>> source = FileSource([CorpusClip("a", "$data_root/a.wav")], "corpus")
    >>> source.audio(source.clips[0])
    'corpus/a.wav'
    """

    def __init__(self, clips: Sequence[CorpusClip], data_root: str) -> None:
        self.clips, self._data_root = clips, data_root

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the list of clips, with file sizes and modification times."""
        digest = hashlib.sha256()
        for clip in self.clips:
            # whole files as before there were parts, so that older runs can be resumed
            digest.update(repr(tuple(clip) if clip.span else tuple(clip)[:-1]).encode())
        return digest.hexdigest()

    def locate(self, clip: CorpusClip) -> str:
        """Path or URL of a clip's file."""
        return clip.location.replace(DATA_ROOT, self._data_root, 1)

    def audio(self, clip: CorpusClip) -> AudioSource:
        """Path of a clip; bytes if it is at a URL or a part of a file."""
        source = open_location(self.locate(clip))
        return source if clip.span is None else _part(source, self.locate(clip), *clip.span)


def open_location(location: str) -> AudioSource:
    """Return a path as it is, and the content of a URL."""
    return NamedBytes(read_bytes(location), location) if is_url(location) else location


def _part(source: AudioSource, name: str, start: int, stop: int) -> NamedBytes:
    """Samples of a file as a WAV file, without a loss."""
    with AudioFile(source) as file:
        file.seek(start)
        samples, rate = file.read(stop - start), file.sample_rate  # (T, channels)
    if len(samples) < stop - start:
        raise UserError(f"{name}: {start} to {stop} do not fit its samples; prepare again")
    return wave_bytes(samples, rate, name)


def wave_bytes(samples: np.ndarray, sample_rate: int, name: str) -> NamedBytes:
    """Samples (T,) or (T, channels) as a WAV file in memory, without a loss."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="FLOAT")
    return NamedBytes(file.getvalue(), name)
