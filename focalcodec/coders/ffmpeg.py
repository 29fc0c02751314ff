"""Opus and Codec 2, run by the ffmpeg program.

Bitrates count the payload only: Opus packets without the Ogg container, and Codec 2 frames with the
bits of their mode, without the padding to whole bytes.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from focalcodec.audio import from_pcm, to_pcm
from focalcodec.coders.coder import ClipCoder
from focalcodec.errors import UserError

INSTALL = "install ffmpeg with it (Debian, Ubuntu: apt-get install ffmpeg; macOS: brew)"

# mode: bits of a frame, seconds of a frame
CODEC2_MODES = {
    "3200": (64, 0.02),
    "2400": (48, 0.02),
    "1600": (64, 0.04),
    "1400": (56, 0.04),
    "1300": (52, 0.04),
    "1200": (48, 0.04),
    "700C": (28, 0.04),
}


class Opus(ClipCoder):
    """Opus (RFC 6716), tuned for speech, variable bitrate, frames of 20 ms.

    `kbps` is the target rate, 6 to 256 kbit/s; the real rate is measured. UserError for another
    rate, or if there is no ffmpeg with libopus.
    """

    def __init__(self, kbps: float) -> None:
        super().__init__()
        if not 6 <= kbps <= 256:
            raise UserError(f"opus:{kbps:g}: give 6 to 256 (kbit/s)")
        self.source = f"libopus, {_ffmpeg('libopus')[1]}"
        self.settings = {"kbps": kbps, "application": "voip", "vbr": "on"}

    def encode_clip(self, sig: Tensor) -> tuple[bytes, int, None]:
        """Return the Ogg file and the bits of its audio packets."""
        options = f"-c:a libopus -b:a {1000 * self.settings['kbps']:.0f}"
        data = _run(to_pcm(sig), f"{_raw(16000)} {options} -application voip -vbr on -f ogg")
        packets = list(ogg_packets(data))[2:]  # after its two headers
        return data, 8 * sum(map(len, packets)), None

    def decode_clip(self, content: bytes) -> Tensor:
        """Decode; ffmpeg removes the encoder's delay, which the file contains."""
        return from_pcm(_run(content, "-f ogg -c:a libopus -i pipe:0 -f s16le -ar 16000 -ac 1"))


class Codec2(ClipCoder):
    """Codec 2, 8 kHz. Its output is about 20 ms late (700C: 30); it is shifted back.

    `mode` is one of `CODEC2_MODES`, in bits per second. UserError for another mode, or if there is
    no ffmpeg with libcodec2.
    """

    def __init__(self, mode: str) -> None:
        super().__init__()
        if mode not in CODEC2_MODES:
            raise UserError(f"codec2:{mode}: not one of {', '.join(CODEC2_MODES)}")
        self.source = f"libcodec2, {_ffmpeg('libcodec2')[1]}"
        self.sample_rate_input = self.sample_rate_output = 8000
        self.bits, seconds = CODEC2_MODES[mode]
        self.frame_samples = round(8000 * seconds)
        self.token_rate = 1 / seconds
        self.kbps = self.bits / seconds / 1000
        # measured with the envelopes of input and output: 19 to 20 ms, and 30 ms
        self.delay = 240 if mode == "700C" else 160
        self.settings = {"mode": mode, "delay_samples": self.delay}

    def encode_clip(self, sig: Tensor) -> tuple[bytes, int, None]:
        """Return the frames and their bits."""
        assert self.bits is not None
        # whole frames, because the encoder drops an incomplete last frame
        sig = torch.nn.functional.pad(sig, (0, -len(sig) % self.frame_samples))
        mode = self.settings["mode"]
        data = _run(to_pcm(sig), f"{_raw(8000)} -c:a libcodec2 -mode {mode} -f codec2raw")
        return data, len(data) // -(-self.bits // 8) * self.bits, None

    def decode_clip(self, content: bytes) -> Tensor:
        """Decode, and remove the delay."""
        mode = self.settings["mode"]
        pcm = _run(content, f"-f codec2raw -mode {mode} -i pipe:0 -f s16le -ar 8000 -ac 1")
        return from_pcm(pcm)[self.delay :]


def ogg_packets(data: bytes) -> Iterator[bytes]:
    """Yield the packets of one whole Ogg stream (RFC 3533), without its pages.

    Example
    -------
    >>> page = b"OggS" + bytes(22) + bytes([2, 3, 1]) + b"abcd"
    >>> list(ogg_packets(page))
    [b'abc', b'd']
    """
    place, packet = 0, b""
    while place < len(data):
        if data[place : place + 4] != b"OggS":
            raise UserError(f"ogg: no page at byte {place}; the encoder's output is damaged")
        segments = data[place + 27 : place + 27 + data[place + 26]]
        place += 27 + len(segments)
        for size in segments:
            packet += data[place : place + size]
            place += size
            if size < 255:
                yield packet
                packet = b""


@cache
def _ffmpeg(encoder: str) -> tuple[str, str]:
    """Return program and version of an ffmpeg with this encoder; UserError if there is none."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise UserError(f"ffmpeg: not found, and {encoder} needs it; {INSTALL}")
    listing = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True)
    if f" {encoder} " not in listing.stdout:
        raise UserError(f"{program}: was built without {encoder}; {INSTALL}")
    version = subprocess.run([program, "-version"], capture_output=True, text=True).stdout.split()
    return program, f"ffmpeg {version[2]}"


def _run(data: bytes, options: str) -> bytes:
    program = shutil.which("ffmpeg") or "ffmpeg"
    words = [program, "-v", "error", "-nostdin", "-threads", "1", *options.split(), "pipe:1"]
    done = subprocess.run(words, input=data, capture_output=True)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise UserError(f"{' '.join(words)}: failed ({reason[-1]})")
    return done.stdout


def _raw(sample_rate: int) -> str:
    return f"-f s16le -ar {sample_rate} -ac 1 -i pipe:0"
