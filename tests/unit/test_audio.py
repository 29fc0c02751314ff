"""Audio files and signals, good and broken."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcodec.audio import (
    audio_info,
    from_pcm,
    read_audio,
    resample,
    resampled_length,
    to_pcm,
    validate_sig,
    write_audio,
)
from focalcodec.errors import UserError
from tests.unit.own_rate import read_own


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """A file of each kind of damage, and the text that its message must have."""
    files = {
        "missing": (folder / "missing.flac", "no such file"),
        "folder": (folder, "no such file"),
        "empty": (folder / "empty.flac", "0 bytes"),
        "text": (folder / "text.flac", "not audio"),
        "raw": (folder / "raw.raw", "not audio"),
        "no_samples": (folder / "none.wav", "no samples"),
        "cut_flac": (folder / "cut.flac", "truncated"),
        "cut_wav": (folder / "cut.wav", "truncated"),
        "cut_ogg": (folder / "cut.ogg", "truncated"),
    }
    files["empty"][0].touch()
    files["raw"][0].write_bytes(bytes(3200))
    files["text"][0].write_text("this is no audio\n" * 50)
    soundfile.write(files["no_samples"][0], np.zeros(0), 16000)
    for name, kwargs in {"flac": {}, "wav": {}, "ogg": {"subtype": "OPUS"}}.items():
        whole = folder / f"whole.{name}"
        soundfile.write(whole, np.random.default_rng(0).normal(0, 0.1, 32000), 16000, **kwargs)
        (folder / f"cut.{name}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return files


KINDS = (
    "missing",
    "folder",
    "empty",
    "text",
    "raw",
    "no_samples",
    "cut_flac",
    "cut_wav",
    "cut_ogg",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [audio_info, read_own])
def test_broken_file_is_refused_in_one_line(tmp_path, kind, read):
    path, reason = broken_files(tmp_path)[kind]
    with pytest.raises(UserError) as error:
        read(path)
    assert str(path) in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_file_is_refused(tmp_path, value):
    samples = tone(0.1, 16000)
    samples[7] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a\.wav: NaN or infinite"):
        read_own(tmp_path / "a.wav")


def test_stereo_follows_the_policy(tmp_path):
    path = tmp_path / "stereo.wav"
    left, right = tone(0.1, 16000), 0.5 * tone(0.1, 16000)
    soundfile.write(path, np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"stereo\.wav: 2 channels.*'mix'"):
        read_own(path)
    torch.testing.assert_close(read_own(path, channels="first"), torch.from_numpy(left))
    mean = torch.from_numpy((left + right) / 2)
    torch.testing.assert_close(read_own(path, channels="mix"), mean)
    with pytest.raises(UserError, match="channels='left': not one of"):
        read_own(path, channels="left")  # type: ignore[arg-type]


def test_wav_from_a_pipe_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.1, 16000), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert audio_info(tmp_path / "a.wav").num_samples == 1600


def test_unicode_name_and_8_khz(tmp_path):
    path = tmp_path / "éß 語, ня.flac"
    soundfile.write(path, tone(0.5, 8000), 8000)
    assert audio_info(path).seconds == 0.5
    sig = read_audio(path, sample_rate=16000)
    assert sig.dtype == torch.float32
    assert sig.shape == (8000,)
    expected = torch.from_numpy(tone(0.5, 16000))
    torch.testing.assert_close(sig[1000:-1000], expected[1000:-1000], atol=1e-3, rtol=0)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "w64"])
def test_whole_files_of_any_format_are_read(tmp_path, suffix):
    kwargs = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    for num_samples in (1, 2, 399, 1153, 16000, 50001):
        path = tmp_path / f"{num_samples}.{suffix}"
        soundfile.write(path, 0.1 * np.ones(num_samples), 16000, **kwargs)
        if audio_info(path).num_samples != num_samples:
            assert suffix == "mp3"  # pads to whole frames
        assert len(read_own(path)) == audio_info(path).num_samples


def test_segment_and_short_files(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.1, 16000), 16000, subtype="FLOAT")
    whole = read_own(tmp_path / "a.wav")
    assert torch.equal(read_own(tmp_path / "a.wav", start=100, frames=50), whole[100:150])
    assert torch.equal(read_own(tmp_path / "a.wav", start=100), whole[100:])
    for start, frames in [(0, 1601), (1600, -1), (-1, 5), (0, 0)]:
        with pytest.raises(UserError, match="do not fit its 1600 samples"):
            read_own(tmp_path / "a.wav", start=start, frames=frames)
    with pytest.raises(UserError, match="1600 samples, fewer than 2000"):
        read_own(tmp_path / "a.wav", min_samples=2000)


def test_write_is_atomic_and_clips(tmp_path):
    path = tmp_path / "new" / "a.wav"
    write_audio(path, torch.tensor([0.0, 2.0, -2.0]), 16000)
    assert read_own(path).abs().max() <= 1.0
    before = path.read_bytes()
    for bad in (
        torch.tensor([float("nan")]),
        torch.zeros(0),
        torch.zeros(1, 4),
        torch.ones(3).int(),
    ):
        with pytest.raises(UserError):
            write_audio(path, bad, 16000)
    with pytest.raises(UserError, match=r"a\.xyz: suffix '\.xyz' can't be written"):
        write_audio(tmp_path / "a.xyz", torch.zeros(4), 16000)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["a.wav"]


def test_pcm_is_rounded_clipped_and_little_endian():
    sig = torch.tensor([0.0, 1.0, 3.0, -3.0, 1.6 / 32767, -1.6 / 32767])
    data = to_pcm(sig)
    assert data == struct.pack("<6h", 0, 32767, 32767, -32767, 2, -2)
    assert from_pcm(data).tolist() == [0.0, *[32767 / 32768] * 2, -32767 / 32768, 2**-14, -(2**-14)]
    assert from_pcm(struct.pack("<h", -32768)).item() == -1.0


def test_write_leaves_nothing_when_it_fails(tmp_path, monkeypatch):
    def fail(path, *args):
        Path(os.fsdecode(path)).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_audio(tmp_path / "a.wav", torch.zeros(4), 16000)
    assert not list(tmp_path.iterdir())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=4),
    st.sampled_from([8000, 16000, 22050, 24000, 44100, 48000]),
    st.sampled_from([8000, 16000, 24000]),
)
def test_resampling_gives_the_same_alone_and_in_a_batch(lengths, from_rate, to_rate):
    sig = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(0))
    out, ends = resample(sig, from_rate, to_rate, torch.tensor(lengths))
    assert ends.dtype == torch.int64
    assert ends.tolist() == [resampled_length(n, from_rate, to_rate) for n in lengths]
    for row, length, clip, end in zip(sig, lengths, out, ends.tolist(), strict=True):
        alone, _ = resample(row[None, :length], from_rate, to_rate)
        assert alone.shape == (1, end)
        assert abs(end - length * to_rate / from_rate) <= 0.5 or end == 1
        assert torch.equal(alone[0], clip[:end])
        assert not clip[end:].any()


def test_resampling_of_views_and_of_nothing():
    sig = torch.randn(500, 2)
    out, _ = resample(sig.t(), 24000, 16000)
    assert torch.equal(out, resample(sig.t().contiguous(), 24000, 16000)[0])
    out, ends = resample(torch.ones(2, 9), 24000, 16000, torch.tensor([9, 0]))
    assert ends.tolist() == [6, 0]
    assert not out[1].any()


def test_resample_keeps_dtype_and_refuses_bad_rates():
    out, _ = resample(torch.zeros(1, 100, dtype=torch.float64), 8000, 16000)
    assert out.dtype == torch.float64
    for rate in (0, -1, 16000.0):
        with pytest.raises(UserError, match="positive integer"):
            resample(torch.zeros(1, 100), 16000, rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sig", "lengths", "message"),
    [
        (torch.zeros(5), None, r"shape \(5,\)"),
        (torch.zeros(1, 2, 5), None, r"shape \(1, 2, 5\)"),
        (torch.zeros(1, 5, dtype=torch.int16), None, "torch.int16"),
        (torch.zeros(1, 0), None, "empty"),
        (torch.zeros(0, 5), None, "empty"),
        (torch.tensor([[0.0], [float("nan")]]), None, "NaN or infinite samples in clip 1"),
        (torch.zeros(2, 5), torch.tensor([5, 6]), r"\[5, 6\]; each must be in 1..5"),
        (torch.zeros(2, 5), torch.tensor([5, 0]), r"\[5, 0\]"),
        (torch.zeros(2, 5), torch.tensor([0.5, 1.0]), "torch.float32"),
        (torch.zeros(2, 5), torch.tensor([5]), r"give int64 \(2,\)"),
    ],
)
def test_bad_signals_are_refused(sig, lengths, message):
    with pytest.raises(UserError, match=message):
        validate_sig(sig, lengths)


def test_values_in_the_padding_are_ignored():
    sig = torch.zeros(2, 5)
    sig[1, 3:] = float("nan")
    validate_sig(sig, torch.tensor([5, 3]))
