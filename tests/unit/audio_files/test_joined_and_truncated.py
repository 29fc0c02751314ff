"""Files joined by `cat` are one recording, in any format; files that end early are refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from focalcodec.audio import audio_info
from focalcodec.audio_stream import AudioStream
from focalcodec.data.clips import read_clip
from focalcodec.errors import UserError
from tests.unit.audio_files.files import FORMATS, RATE, read_all_ways, write
from tests.unit.audio_files.test_unknown_length import untagged
from tests.unit.own_rate import read_own

# A block has a type and ends with the file, so what follows it is none.
ONE_ONLY = ("voc",)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ONE_ONLY])
def test_joined_files_are_one_recording(tmp_path: Path, kind: str) -> None:
    path, other = write(tmp_path / f"a.{kind}", kind), write(tmp_path / f"b.{kind}", kind, 0.7)
    first, second = read_all_ways(path), read_all_ways(other)
    path.write_bytes(path.read_bytes() + other.read_bytes())
    expected = torch.cat([first, second])
    assert read_all_ways(path).equal(expected)
    start, stop = len(first) - 500, len(first) + 600
    assert read_clip(str(path), RATE, (start, stop)).equal(expected[start:stop])
    start, stop = len(first) + 5000, len(expected)
    tolerance = {"mp3": 5e-7, "opus": 0.01}.get(kind, 0)
    part = read_clip(str(path), RATE, (start, stop))
    torch.testing.assert_close(part, expected[start:stop], atol=tolerance, rtol=0)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("cut", ["half", "three bytes"])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, kind: str, cut: str) -> None:
    path = write(tmp_path / f"a.{kind}", kind)
    read_all_ways(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if cut == "half" else content[:-3])
    if (kind, cut) == ("mp3", "three bytes"):  # of the padding in its last frame
        return
    for read in (
        lambda: read_own(path),
        lambda: audio_info(path),
        lambda: list(AudioStream(path)),
        lambda: read_own(io.BytesIO(path.read_bytes())),
        lambda: read_clip(str(path), RATE, (15000, 24000)),
    ):
        with pytest.raises(UserError, match=r"truncated.*; copy it again or remove it") as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["flac", "ogg", "wav", "mp3"])
def test_a_truncated_second_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", kind)
    content = path.read_bytes()
    path.write_bytes(content + content[: len(content) // 2])
    for read in (read_own, audio_info):
        with pytest.raises(UserError, match="truncated"):
            read(path)


def test_mp3_with_and_without_their_lengths(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    tagged = write(path, "mp3", bitrate_mode="VARIABLE").read_bytes()
    plain = untagged(tagged)
    assert plain != tagged
    path.write_bytes(plain)
    silences = read_all_ways(path)
    path.write_bytes(tagged)
    whole = read_all_ways(path)
    for contents in ([tagged, plain], [plain, tagged], [tagged, tagged, plain, tagged]):
        path.write_bytes(b"".join(contents))
        expected = torch.cat([whole if each is tagged else silences for each in contents])
        assert read_all_ways(path).equal(expected)
    path.write_bytes(plain + plain)  # one stream of frames for the decoder
    assert len(read_all_ways(path)) == 2 * len(silences)


@pytest.mark.parametrize("kind", ["flac", "wav", "ogg", "mp3", "untagged"])
@pytest.mark.parametrize("other", [{"rate": 44100}, {"channels": 2}])
def test_joined_files_of_other_rates_or_channels_are_refused(
    tmp_path: Path, kind: str, other: dict[str, int]
) -> None:
    of_kind, change = ("mp3", untagged) if kind == "untagged" else (kind, bytes)
    path = write(tmp_path / "a", of_kind)
    second = write(tmp_path / "b", of_kind, **other)
    path.write_bytes(change(path.read_bytes()) + change(second.read_bytes()))
    for read in (read_own, audio_info):
        with pytest.raises(UserError, match="split it|or split it"):
            read(path)


def test_chunks_behind_the_samples_are_no_second_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "wav")
    expected = read_all_ways(path)
    for tail in (b"LIST\x04\0\0\0INFO", b"id3 RIFF", b"RIFF", bytes(3)):
        path.write_bytes(path.read_bytes() + tail)
        assert read_all_ways(path).equal(expected)


def test_a_chunk_of_size_zero_is_no_endless_loop(tmp_path: Path) -> None:
    path = write(tmp_path / "a.w64", "w64")
    content = bytearray(path.read_bytes())
    content[56:64] = bytes(8)  # the size of the first chunk, which includes its own 24 bytes
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.w64: "):
        read_own(path)


def test_absurd_headers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = bytearray(write(path, "flac").read_bytes())
    content[21] |= 0x0F  # 68 billion samples
    path.write_bytes(content)
    with pytest.raises(UserError, match="truncated"):
        read_own(path)
    ebml = bytes.fromhex("1a45dfa3 01ffffffffff0000")  # a header of 70 PB
    (tmp_path / "a.webm").write_bytes(ebml + bytes(40))
    frame = write(tmp_path / "b.mp3", "mp3", bitrate_mode="VARIABLE").read_bytes()
    (tmp_path / "c.mp3").write_bytes(frame[:42])
    for name in ("a.webm", "c.mp3"):
        with pytest.raises(UserError, match=name):
            read_own(tmp_path / name)
