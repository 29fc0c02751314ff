"""Commands on files whose length no header gives: all samples, from a path or standard input."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from focalcodec.audio import audio_info
from focalcodec.cli.main import main
from focalcodec.data.clips import read_clip
from focalcodec.data.manifest import read_prepared
from focalcodec.fct import read_toks
from tests.unit.audio_files.files import RATE, write
from tests.unit.audio_files.test_unknown_length import from_pipe, untagged
from tests.unit.own_rate import read_own
from tests.unit.small_codecs import GOLDEN, golden_codec

MODEL = ("--model", str(GOLDEN["tiny_50hz"]))


@pytest.fixture(params=["untagged.mp3", "joined.ogg", "pipe.wav", "joined.flac"])
def recording(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose whole length a decoder does not give."""
    monkeypatch.chdir(tmp_path)
    how, kind = request.param.split(".")
    options = {"bitrate_mode": "VARIABLE"} if kind == "mp3" else {}
    path = write(tmp_path / f"a.{kind}", kind, 11, **options)
    content = path.read_bytes()
    if how == "pipe":
        content = from_pipe(content, "wav", 0x7FFFF000)
    path.write_bytes({"untagged": untagged, "joined": lambda x: 2 * x, "pipe": bytes}[how](content))
    return path


def test_encode_resynth_and_info(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    sig = read_own(recording)
    samples = len(sig)
    assert samples >= 11 * RATE
    assert main(["encode", str(recording), "a.fct", *MODEL]) == 0
    header, toks = read_toks("a.fct")
    assert header.num_samples == samples
    assert toks.equal(golden_codec("tiny_50hz").encode(sig[None], 16000)[0][0])
    assert main(["resynth", str(recording), "b.wav", *MODEL]) == 0
    assert audio_info("b.wav").num_samples == samples
    capsys.readouterr()
    assert main(["info", str(recording), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_samples"] == samples
    sent = SimpleNamespace(buffer=io.BytesIO(recording.read_bytes()))
    monkeypatch.setattr(sys, "stdin", sent)
    assert main(["encode", "-", "c.fct", *MODEL]) == 0
    assert read_toks("c.fct")[1].equal(toks)


def test_tokenize(recording: Path) -> None:
    assert main(["tokenize", str(recording.parent), "out", *MODEL]) == 0
    row = Path("out/index.csv").read_text().splitlines()[1]
    assert str(len(read_own(recording))) in row.split(",")


def test_segments_of_a_manifest_are_all_of_the_file(recording: Path) -> None:
    whole = read_own(recording)
    Path("own").mkdir()
    shutil.copy(recording, "own")
    assert main(["prepare", "own", "manifests", "--segment_seconds", "1"]) == 0
    rows = [row for rows in read_prepared("manifests").values() for row in rows]
    assert sum(row["num_samples"] for row in rows) == len(whole)
    for row in rows:
        part = read_clip(row["wav"], RATE, (row["start"], row["stop"]))
        torch.testing.assert_close(part, whole[row["start"] : row["stop"]], atol=5e-7, rtol=0)
