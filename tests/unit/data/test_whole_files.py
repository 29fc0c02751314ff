"""Parts of files become files of their own, sample for sample."""

from __future__ import annotations

from pathlib import Path

import soundfile
import torch

from focalcodec.audio import read_audio
from focalcodec.data.clips import write_whole_files
from focalcodec.data.manifest import DATA_ROOT, read_manifest, write_csv

SPANS = [(0, 300), (300, 600), (600, 1000)]


def test_segments_are_the_parts(tmp_path: Path) -> None:
    sig = torch.rand(1000) - 0.5
    soundfile.write(tmp_path / "talk.wav", sig.numpy(), 8000)
    rows = [
        {"ID": str(i), "duration": 1, "wav": f"{DATA_ROOT}/talk.wav", "start": a, "stop": b}
        for i, (a, b) in enumerate(SPANS)
    ]
    write_csv(tmp_path / "test.csv", list(rows[0]), rows)
    whole = write_whole_files(tmp_path / "test.csv", tmp_path, tmp_path / "segments")
    found = read_manifest(whole, "nowhere")
    assert [row["ID"] for row in found] == ["0", "1", "2"]
    sig = read_audio(tmp_path / "talk.wav")
    for row, (start, stop) in zip(found, SPANS, strict=True):
        assert "start" not in row
        assert torch.equal(read_audio(row["wav"]), sig[start:stop])
    before = {path: path.stat().st_mtime_ns for path in whole.parent.glob("*.flac")}
    write_whole_files(tmp_path / "test.csv", tmp_path, tmp_path / "segments")
    assert before == {path: path.stat().st_mtime_ns for path in whole.parent.glob("*.flac")}


def test_channels_are_mixed_as_the_manifest_says(tmp_path: Path) -> None:
    sig = torch.rand(100, 2) - 0.5
    soundfile.write(tmp_path / "both.wav", sig.numpy(), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", sig[:, 0].numpy(), 8000)
    rows = [
        {"ID": n, "duration": 1, "wav": f"{DATA_ROOT}/{n}.wav", "channels": "mix"}
        for n in ("both", "one")
    ]
    write_csv(tmp_path / "test.csv", list(rows[0]), rows)
    whole = write_whole_files(tmp_path / "test.csv", tmp_path, tmp_path / "w")
    both, one = read_manifest(whole, "nowhere")
    torch.testing.assert_close(read_audio(both["wav"]), sig.mean(dim=1), atol=1e-4, rtol=0)
    assert one["wav"] == str(tmp_path / "one.wav")


def test_whole_files_are_left_alone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", torch.zeros(10).numpy(), 8000)
    row = {"ID": "a", "duration": 1, "wav": f"{DATA_ROOT}/a.wav"}
    write_csv(tmp_path / "test.csv", list(row), [row])
    assert (
        write_whole_files(tmp_path / "test.csv", tmp_path, tmp_path / "s") == tmp_path / "test.csv"
    )
    assert not (tmp_path / "s").exists()
