"""Files for the tests of this folder, and all the ways in which the package reads one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from focalcodec.audio import audio_info
from focalcodec.audio_stream import AudioStream
from tests.unit.own_rate import read_own

RATE = 16000
# suffix: format and subtype of libsndfile, of every kind that has its own header or decoder
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "ulaw.wav": ("WAV", "ULAW"),
    "gsm.wav": ("WAV", "GSM610"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    "ms.wav": ("WAV", "MS_ADPCM"),
    "g721.wav": ("WAV", "G721_32"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "gsm.aiff": ("AIFF", "GSM610"),
    "svx": ("SVX", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "alac.caf": ("CAF", "ALAC_16"),
    "sph": ("NIST", "PCM_16"),
    "voc": ("VOC", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def sound(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Noise with silences, (samples, channels): encoders of variable rate use all of theirs."""
    samples = round(seconds * rate)
    envelope = np.sin(2 * np.pi * 3 * np.arange(samples) / rate) > 0
    noise = np.random.default_rng(0).standard_normal((samples, channels))
    return 0.2 * envelope[:, None] * noise


def write(path: Path, kind: str, seconds: float = 1.5, **how) -> Path:
    """Write a file of a kind in `FORMATS`."""
    file_format, subtype = FORMATS[kind]
    rate, channels = how.pop("rate", RATE), how.pop("channels", 1)
    with soundfile.SoundFile(path, "w", rate, channels, subtype, format=file_format, **how) as file:
        for block in np.array_split(sound(seconds, rate, channels), 8):  # libsndfile's Vorbis
            file.write(block)
    return path


def read_all_ways(path: Path) -> Tensor:
    """Samples of a file, the same from a path, from memory, in blocks; and their number."""
    sig = read_own(path, channels="first")
    with path.open("rb") as file:
        content = io.BytesIO(file.read())
    with AudioStream(path, channels="first", block_seconds=0.4) as stream:
        assert torch.cat(list(stream)).equal(sig)
        assert stream.num_samples == len(sig)
    if path.suffix != ".gsm":  # known by its name only
        assert read_own(content, channels="first").equal(sig)
    assert audio_info(path).num_samples == len(sig)
    return sig
