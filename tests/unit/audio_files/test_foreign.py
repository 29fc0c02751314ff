"""Formats that libsndfile does not read are decoded by ffmpeg or PyAV, or the way is named."""

from __future__ import annotations

import shutil
import subprocess
from importlib import util
from pathlib import Path

import pytest
import torch

from focalcodec.audio import audio_info
from focalcodec.audio_files import foreign
from focalcodec.data.clips import read_clip
from focalcodec.errors import UserError
from tests.unit.audio_files.files import RATE, read_all_ways, write
from tests.unit.own_rate import read_own

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
KINDS = {
    "m4a": "-c:a aac",
    "fast.m4a": "-c:a aac -movflags faststart",
    "alac.m4a": "-c:a alac",
    "mp4": "-c:a aac",
    "webm": "-c:a libopus",
    "mka": "-c:a flac",
    "aac": "-c:a aac",
    "wma": "-c:a wmav2",
    "avi": "-c:a pcm_s16le",
    "g722.wav": "-c:a g722",
    "spx": "-c:a libspeex",
}


def transcode(source: Path, target: Path, options: str) -> Path:
    command = ["ffmpeg", "-v", "error", "-y", "-i", source, *options.split(), target]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(params=["ffmpeg", "av"])
def decoder(request, monkeypatch: pytest.MonkeyPatch) -> str:
    """Decode with one of the two."""
    if request.param == "av":
        pytest.importorskip("av")
        monkeypatch.setattr(foreign.shutil, "which", lambda name: None)
    return request.param


@needs_ffmpeg
@pytest.mark.parametrize("kind", KINDS)
def test_any_format_is_decoded(tmp_path: Path, kind: str, decoder: str) -> None:
    source = write(tmp_path / "a.wav", "wav")
    path = transcode(source, tmp_path / f"a b.{kind}", KINDS[kind])
    found, info = read_own(path), audio_info(path)
    rate = info.sample_rate
    assert info.num_samples == len(found)
    # encoders pad to whole frames, and some begin with silence; that of WMA drops its last frame
    assert abs(len(found) / rate - 1.5) < 4096 / RATE
    assert 0.1 < float(found.square().mean().sqrt() / read_own(source).square().mean().sqrt()) < 2


@needs_ffmpeg
def test_all_ways_of_reading_give_the_same(tmp_path: Path) -> None:
    path = transcode(write(tmp_path / "a.wav", "wav"), tmp_path / "a.m4a", KINDS["m4a"])
    found = read_all_ways(path)
    assert read_clip(str(path), RATE, (4000, 9000)).equal(found[4000:9000])


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["alac.m4a", "mka"])
def test_lossless_samples_are_those_of_the_source(tmp_path: Path, kind: str, decoder: str) -> None:
    source = write(tmp_path / "a.wav", "wav", rate=44100, channels=2)
    path = transcode(source, tmp_path / f"a.{kind}", KINDS[kind])
    expected = read_own(source, channels="mix")
    assert read_own(path, channels="mix").equal(expected)
    assert audio_info(path).channels == 2


@needs_ffmpeg
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "aac"])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, kind: str, decoder: str) -> None:
    path = transcode(write(tmp_path / "a.wav", "wav"), tmp_path / f"a.{kind}", KINDS[kind])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    for read in (read_own, audio_info):
        with pytest.raises(UserError, match="truncated"):
            read(path)


@needs_ffmpeg
def test_joined_files_are_refused(tmp_path: Path, decoder: str) -> None:
    for kind in ("m4a", "webm", "g722.wav", "wma"):
        path = transcode(write(tmp_path / "a.wav", "wav"), tmp_path / f"b.{kind}", KINDS[kind])
        path.write_bytes(2 * path.read_bytes())
        with pytest.raises(UserError, match="several files in one; split it"):
            read_own(path)


@needs_ffmpeg
def test_a_video_without_sound(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "a.mp4"
    command = "ffmpeg -v error -f lavfi -i testsrc=size=64x64:rate=5 -t 1 -c:v mpeg4"
    subprocess.run([*command.split(), path], check=True)
    with pytest.raises(UserError, match=r"a\.mp4: not audio that can be read") as error:
        read_own(path)
    assert "\n" not in str(error.value)


def test_without_a_decoder_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign.shutil, "which", lambda name: None)
    monkeypatch.setattr(foreign.util, "find_spec", lambda name: None)
    path = tmp_path / "memo.m4a"
    path.write_bytes(b"\0\0\0\x14ftypM4A \0\0\0\0M4A " + b"\0\0\0\x09mdat\0")
    with pytest.raises(UserError, match=r"memo\.m4a: .*apt-get install ffmpeg.*focalcodec\[av\]"):
        read_own(path)


@pytest.mark.parametrize("text", ["#EXTM3U\n{}\n", "ffconcat version 1.0\nfile {}\n", "{}"])
def test_a_text_opens_no_other_file(tmp_path: Path, text: str) -> None:
    source = write(tmp_path / "a.wav", "wav")
    path = tmp_path / "b.m4a"
    path.write_text(text.format(source))
    with pytest.raises(UserError, match=r"b\.m4a: not audio that can be read"):
        read_own(path)


@pytest.mark.skipif(util.find_spec("av") is None, reason="no PyAV")
@needs_ffmpeg
def test_both_decoders_give_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = transcode(write(tmp_path / "a.wav", "wav"), tmp_path / "a.m4a", KINDS["m4a"])
    first = read_own(path)
    monkeypatch.setattr(foreign.shutil, "which", lambda name: None)
    torch.testing.assert_close(read_own(path), first, atol=1e-4, rtol=0)
