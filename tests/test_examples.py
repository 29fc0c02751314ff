"""The programs of examples/ run, on little data and for few steps."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import soundfile

from focalcodec.cli.main import main

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "corpus/LibriSpeech/test-real/92/1/92-1-0000.flac"


def test_speech_lm_learns_and_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    shutil.copy(CLIP, "clips")
    for name in ("toks_train", "toks_valid"):
        assert main(["tokenize", "clips", name, "--model", "demo"]) == 0
    monkeypatch.setattr(sys, "argv", ["speech_lm.py", "10"])
    runpy.run_path(str(ROOT / "examples" / "speech_lm.py"), run_name="__main__")
    (value,) = re.findall(r"step 10: .* (\d+) valid", capsys.readouterr().out)
    assert int(value) < 8195, "better than a guess of all ids, on the clip that it learnt"
    written = soundfile.info("continued.wav")
    assert (written.samplerate, written.frames) == (16000, 300 * 320)
