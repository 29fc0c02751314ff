"""Files whose header does not give their length, or gives a wrong one, are read to the end."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.audio import audio_info
from focalcodec.data.clips import read_clip
from focalcodec.errors import UserError
from tests.unit.audio_files.files import RATE, read_all_ways, sound, write
from tests.unit.own_rate import read_own

PIPES_32 = (0, 0x7F000000, 0x7FFF0000, 0x7FFFF000, 0x80000000, 0xFFFFFFFF)
PIPES_64 = (0, 2**63 - 1, 2**64 - 1)


def with_size(content: bytes, name: bytes, size: bytes, skip: int = 4) -> bytes:
    """Put another size behind the name of the chunk with the samples, and at the beginning."""
    place = content.index(name) + skip
    content = content[:place] + size + content[place + len(size) :]
    return content if len(size) > 4 else content[:4] + size + content[8:]


def from_pipe(content: bytes, kind: str, size: int) -> bytes:
    if kind == "wav":
        return with_size(content, b"data", struct.pack("<I", size))
    if kind == "aiff":
        return with_size(content, b"SSND", struct.pack(">I", size))
    if kind == "au":
        return content[:8] + struct.pack(">I", size) + content[12:]
    if kind == "rf64":
        return with_size(content, b"ds64", struct.pack("<Q", size), 16)
    if kind == "w64":
        return with_size(content, b"data\xf3", struct.pack("<Q", size), 16)
    assert kind == "caf"
    return with_size(content, b"data", struct.pack(">Q", size))


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *((kind, size) for kind in ("wav", "aiff", "au") for size in PIPES_32),
        *((kind, size) for kind in ("rf64", "w64", "caf") for size in PIPES_64),
    ],
)
def test_sizes_of_pipes_promise_nothing(tmp_path: Path, kind: str, size: int) -> None:
    path = write(tmp_path / f"a.{kind}", kind)
    expected = read_all_ways(path)
    path.write_bytes(from_pipe(path.read_bytes(), kind, size))
    assert read_all_ways(path).equal(expected)
    assert read_clip(str(path), RATE, (700, 9000)).equal(expected[700:9000])


def test_size_zero_is_warned_of_and_an_empty_file_is_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.wav", "wav")
    lost = from_pipe(path.read_bytes(), "wav", 0)  # a recorder that lost power
    path.write_bytes(lost)
    assert len(read_own(path)) == 24000
    assert f"{path}: its header gives no length; read to the end of the file" in caplog.text
    soundfile.write(path, np.zeros(0), RATE)
    true = path.read_bytes() + b"LIST\x04\0\0\0INFO"  # no samples, and something behind them
    path.write_bytes(true[:4] + struct.pack("<I", len(true) - 8) + true[8:])
    with pytest.raises(UserError, match=r"a\.wav: no samples"):
        read_own(path)


def test_flac_from_a_pipe(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", "flac", 3)
    expected = read_all_ways(path)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples: 36 bits
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert read_all_ways(path).equal(expected)
    for start, stop in ((0, 100), (20000, 30000), (47000, 48000)):
        assert read_clip(str(path), RATE, (start, stop)).equal(expected[start:stop])
    with pytest.raises(UserError, match="stop=48001 do not fit its 48000 samples"):
        read_clip(str(path), RATE, (40000, 48001))


# -- MP3 without its length ------------------------------------------------------------------------


def untagged(content: bytes) -> bytes:
    """Remove the first frame of an MP3 if it is the one with the number of frames."""
    tags = {content[place : place + 4] for place in (13, 21, 36)}
    return content[content.index(content[:2], 4) :] if tags & {b"Xing", b"Info"} else content


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (24000, 2), (44100, 1), (48000, 2)])
def test_mp3_without_its_length(tmp_path: Path, mode: str, rate: int, channels: int) -> None:
    path = tmp_path / "a.mp3"
    how = {"rate": rate, "channels": channels, "bitrate_mode": mode}
    write(path, "mp3", 3, compression_level=0.9, **how)
    expected = read_all_ways(path)
    tagged = path.read_bytes()
    path.write_bytes(untagged(tagged))
    found = read_all_ways(path)
    # nothing removes the silence of encoder and decoder at both ends now; LAME writes no tag
    # where the frames are too short for it
    delay = 1105
    expected = expected if tagged != untagged(tagged) else expected[delay : delay + 3 * rate]
    assert len(found) % 576 == 0 and delay < len(found) - 3 * rate < 5000
    torch.testing.assert_close(found[delay : delay + 3 * rate], expected, atol=1e-5, rtol=0)
    for start in (0, rate, 2 * rate + 17):
        part = read_clip(str(path), rate, (start, start + 5000), "first")
        torch.testing.assert_close(part, found[start : start + 5000], atol=5e-7, rtol=0)
    with pytest.raises(UserError, match=f"do not fit its {len(found)} samples"):
        read_clip(str(path), rate, (len(found) - 10, len(found) + 1), "first")


TAILS = {
    "id3": b"TAG" + bytes(125),
    "ape": b"APETAGEX" + bytes(range(256)) * 200,
    "half a frame": None,
}


@pytest.mark.parametrize("tail", TAILS)
def test_what_follows_the_last_frame_is_no_audio(tmp_path: Path, tail: str) -> None:
    path = write(tmp_path / "a.mp3", "mp3", bitrate_mode="VARIABLE", compression_level=0.9)
    tagged = path.read_bytes()
    path.write_bytes(untagged(tagged))
    expected = read_all_ways(path)
    extra = TAILS[tail]
    path.write_bytes(untagged(tagged)[:-5] if extra is None else untagged(tagged) + extra)
    found = read_all_ways(path)
    assert found.equal(expected[: len(found)])
    assert len(expected) - len(found) == (576 if extra is None else 0)


def test_an_id3_tag_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", "mp3")
    tagged = path.read_bytes()
    head = b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + bytes(1024)
    for content in (tagged, untagged(tagged)):
        path.write_bytes(content)
        expected = read_all_ways(path)
        path.write_bytes(head + content)
        assert read_all_ways(path).equal(expected)


def test_a_wrong_duration_in_the_manifest_is_no_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", "mp3", 3, bitrate_mode="VARIABLE")
    path.write_bytes(untagged(path.read_bytes()))
    with soundfile.SoundFile(path) as file:
        estimate = file.frames
    assert abs(estimate - 3 * RATE) > 10000  # the decoder's
    assert 0 < audio_info(path).num_samples - 3 * RATE < 5000


def test_raw_gsm_is_known_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.gsm"
    with soundfile.SoundFile(path, "w", 8000, 1, "GSM610", format="RAW") as file:
        file.write(sound(1, 8000))
    assert len(read_all_ways(path)) in range(8000, 8161)
