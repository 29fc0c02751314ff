"""Formats that libsndfile does not read, such as M4A and WebM, decoded by ffmpeg or PyAV.

The demuxer is chosen here by the first bytes. If ffmpeg chose it, a text file could be a playlist
that makes it open other files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import util
from itertools import chain
from pathlib import Path

import soundfile

from focalcodec.errors import UserError
from focalcodec.packages import need

INSTALL = (
    "install ffmpeg (Debian, Ubuntu: apt-get install ffmpeg; macOS: brew install ffmpeg), or run"
    " pip install 'focalcodec[av]'"
)

_DEMUXERS = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"\x30\x26\xb2\x75": "asf",
    b"\0\0\1\xba": "mpeg",
    b"#!AM": "amr",
    b"FLV\1": "flv",
    b"MAC ": "ape",
    b"TTA1": "tta",
    b"wvpk": "wv",
    # with a codec that libsndfile does not know
    b"FORM": "aiff",
    b"OggS": "ogg",
    b"RIFF": "wav",
    b".snd": "au",
    b"caff": "caf",
}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def demuxer(head: bytes) -> str | None:
    """Name of ffmpeg's demuxer for a file with these first bytes; None if it is no known format.

    Example
    -------
    >>> demuxer(b"....ftypM4A "), demuxer(b"#EXTM3U")
    ('mov', None)
    """
    if head[4:8] in _BOXES:
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:2] == b"\x0b\x77":
        return "ac3"
    if head[:1] == b"\xff" and head[1:2] and head[1] & 0xF6 == 0xF0:
        return "aac"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "mpegts"
    return _DEMUXERS.get(head[:4])


def decode_foreign(path: Path, name: str, target: Path) -> None:
    """Decode the first stream of audio of a file to a file of floats, at its own rate.

    `name` is what messages call the file. Raises a `UserError` if neither ffmpeg nor PyAV is
    installed, or if there is no audio or it is damaged.
    """
    with path.open("rb") as file:
        kind = demuxer(file.read(512))
    assert kind is not None
    if shutil.which("ffmpeg"):
        problem = _with_ffmpeg(path, kind, target)
    elif util.find_spec("av") is not None:
        problem = _with_pyav(path, kind, target)
    else:
        raise UserError(f"{name}: libsndfile does not read this {kind} file; {INSTALL}")
    if problem:
        raise UserError(f"{name}: not audio that can be read ({problem}); copy it again")


def _with_pyav(path: Path, kind: str, target: Path) -> str:
    """Return the problem, or an empty string."""
    av = need("av", INSTALL)
    try:
        with av.open(str(path), format=kind, metadata_errors="replace") as container:
            frames = container.decode(audio=0) if container.streams.audio else iter(())
            first = next(frames, None)
            if first is None:
                return "no audio in it"
            rate, channels = first.sample_rate, first.layout.nb_channels
            packed = av.AudioResampler("flt", first.layout, rate)
            with soundfile.SoundFile(target, "w", rate, channels, "FLOAT", format="W64") as out:
                for frame in chain([first], frames):
                    for samples in packed.resample(frame):
                        out.write(samples.to_ndarray().reshape(-1, channels))
    except (av.error.FFmpegError, OSError, ValueError, soundfile.LibsndfileError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def _with_ffmpeg(path: Path, kind: str, target: Path) -> str:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-f", kind, "-i", f"file:{path}"]
    command += ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-y", f"file:{target}"]
    done = subprocess.run(command, capture_output=True, check=False)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == 0:
        return ""
    return re.sub(r"^\[.*?\] |^file:.*: ", "", lines[-1]) if lines else "ffmpeg failed"
