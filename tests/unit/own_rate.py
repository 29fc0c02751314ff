"""Read a file of any rate as it is, for tests that compare samples."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from focalcodec.audio import read_audio
from focalcodec.audio_files import AudioFile
from focalcodec.audio_files.sound import AudioSource


def read_own(source: AudioSource, **options: Any) -> Tensor:
    """Signal (T,) at the file's own rate; options and errors are those of `read_audio`."""
    with AudioFile(source) as file:
        rate = file.sample_rate
    return read_audio(source, rate, **options)
