"""Blocks of a recording are its samples, for any rate, format and channels."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from focalcodec import UserError
from focalcodec.audio import read_audio, resample
from focalcodec.audio_stream import AudioStream, resample_blocks, write_blocks


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    generator = np.random.default_rng(0)
    return 0.1 * generator.standard_normal((int(seconds * rate), channels)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_blocks_together_are_the_whole_file(tmp_path: Path, rate: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(3.3, rate, channels=2), rate)
    with AudioStream(path, 16000, channels="mix", block_seconds=0.7) as stream:
        blocks = list(stream)
    assert len(blocks) > 3
    assert torch.equal(torch.cat(blocks), read_audio(path, 16000, channels="mix"))


def test_a_stream_can_be_read_twice_and_from_memory(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0, 24000), 24000)
    file = io.BytesIO((tmp_path / "a.wav").read_bytes())
    with AudioStream(file, 16000, block_seconds=0.3) as stream:
        assert (stream.source_rate, stream.num_samples) == (24000, 24000)
        first, second = torch.cat(list(stream)), torch.cat(list(stream))
    assert torch.equal(first, second)
    assert torch.equal(first, read_audio(tmp_path / "a.wav", 16000))


def test_several_channels_need_a_policy(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0.1, 16000, channels=2), 16000)
    with pytest.raises(UserError, match=r"a\.wav: 2 channels"):
        AudioStream(tmp_path / "a.wav")


def test_nan_in_a_later_block_is_found(tmp_path: Path) -> None:
    samples = noise(2.0, 16000)
    samples[-5] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with (
        AudioStream(tmp_path / "a.wav", block_seconds=0.5) as stream,
        pytest.raises(UserError, match=r"a\.wav: NaN"),
    ):
        list(stream)


def test_a_truncated_file_is_found_in_memory_too(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0, 16000), 16000)
    half = (tmp_path / "a.wav").read_bytes()[:9000]
    with pytest.raises(UserError, match="audio in memory: truncated"):
        AudioStream(io.BytesIO(half))


@pytest.mark.parametrize("to_rate", [8000, 16000, 24000, 48000])
def test_resampled_blocks_are_the_resampled_whole(to_rate: int) -> None:
    sig = torch.from_numpy(noise(1.0, 24000)[:, 0])
    blocks = list(resample_blocks(sig.split(777), 24000, to_rate))
    assert torch.equal(torch.cat(blocks), resample(sig[None], 24000, to_rate)[0][0])


def test_written_blocks_are_one_recording(tmp_path: Path) -> None:
    blocks = [torch.full((5,), 0.5), torch.full((3,), 7.0)]
    assert write_blocks(tmp_path / "a.flac", iter(blocks), 16000) == 8
    assert read_audio(tmp_path / "a.flac", 16000).tolist() == pytest.approx(
        [0.5] * 5 + [1.0] * 3, abs=1e-4
    )


def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield torch.zeros(100)
        raise UserError("the source broke")

    with pytest.raises(UserError, match="broke"):
        write_blocks(tmp_path / "a.wav", broken(), 16000)
    assert list(tmp_path.iterdir()) == []


def test_formats_that_are_not_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.mp3: 'mp3' can't be written"):
        write_blocks(tmp_path / "a.mp3", [torch.zeros(10)], 16000)
