"""A segment is that slice of the whole file, in any format, wherever it begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from focalcodec import audio_files
from focalcodec.audio import read_audio
from focalcodec.data.clips import read_clip
from tests.unit.audio_files.files import FORMATS, RATE, write
from tests.unit.audio_files.test_unknown_length import untagged
from tests.unit.own_rate import read_own


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("mp3", "opus")])
def test_formats_of_libsndfile(tmp_path: Path, kind: str) -> None:
    path = str(write(tmp_path / f"a.{kind}", kind, 3))
    whole = read_own(path)
    for start in (0, 1, 319, 16001, 31999, len(whole) - 100):
        for stop in (start + 100, min(start + 12345, len(whole))):
            assert read_clip(path, RATE, (start, stop)).equal(whole[start:stop])
    resampled = read_audio(path, 8000)
    part = read_clip(path, 8000, (20000, 40000))
    torch.testing.assert_close(part, resampled[10000:20000], atol=2e-5, rtol=0)


# The smallest frames have 24 bytes: a frame then needs the data of many frames before it.
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 1), (24000, 2), (44100, 1)])
@pytest.mark.parametrize("with_length", [True, False])
def test_mp3_of_variable_rate(tmp_path: Path, rate: int, channels: int, with_length: bool) -> None:
    path = tmp_path / "a.mp3"
    how = {"rate": rate, "channels": channels, "bitrate_mode": "VARIABLE"}
    write(path, "mp3", 12, compression_level=0.99, **how)
    if not with_length:
        path.write_bytes(untagged(path.read_bytes()))
    whole = read_own(path, channels="first")
    for start in np.random.default_rng(0).integers(0, 11 * rate, 20).tolist():
        part = read_clip(str(path), rate, (start, start + rate), "first")
        torch.testing.assert_close(part, whole[start : start + rate], atol=5e-7, rtol=0)


def test_mp3_needs_the_frames_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_files, "_MP3_LEAD_SECONDS", 0)
    path = write(tmp_path / "a.mp3", "mp3", 12, compression_level=0.99, bitrate_mode="VARIABLE")
    whole = read_own(path)
    starts = np.random.default_rng(0).integers(0, 11 * RATE, 20).tolist()
    parts = (read_clip(str(path), RATE, (start, start + 2000)) for start in starts)
    slices = (whole[start : start + 2000] for start in starts)
    errors = [float((a - b).abs().max()) for a, b in zip(parts, slices, strict=True)]
    assert max(errors) > 0.01  # otherwise the test above tests nothing
