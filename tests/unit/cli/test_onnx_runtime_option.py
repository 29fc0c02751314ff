"""`--runtime onnx`: files equal to those of PyTorch, also where torch is missing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.audio import write_audio
from focalcodec.cli.main import main
from focalcodec.fct import read_toks
from tests.unit.small_bundles import bundle, offline_codec

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
for name in ("torch", "safetensors", "huggingface_hub"):
    sys.modules[name] = None
from focalcodec.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    sig = torch.randn(24000, generator=torch.Generator().manual_seed(0)) / 9
    write_audio(tmp_path / "a.wav", sig, 24000)
    return tmp_path / "a.wav"


def test_token_files_are_those_of_pytorch(tmp_path: Path, clip: Path) -> None:
    offline_codec().save_pretrained(tmp_path / "offline")
    onnx = ["--runtime", "onnx", "--model", str(bundle("offline"))]
    words = ["encode", str(clip), str(tmp_path / "o.fct"), *onnx]
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    torch_words = ["--model", str(tmp_path / "offline")]
    assert main(["encode", str(clip), str(tmp_path / "t.fct"), *torch_words]) == 0
    written, expected = (read_toks(tmp_path / f"{name}.fct") for name in "ot")
    assert torch.equal(written[1], expected[1])
    # the name differs: the bundle's model was never in a folder
    assert replace(written[0], model="x", id="") == replace(expected[0], model="x", id="")
    for name, model in (("o", onnx), ("t", torch_words)):
        source, target = str(tmp_path / "t.fct"), str(tmp_path / f"{name}.flac")
        assert main(["decode", source, target, "--sample_rate", "original", *model]) == 0
    made, wanted = (soundfile.read(tmp_path / f"{name}.flac") for name in "ot")
    assert made[1] == wanted[1] == 24000 and len(made[0]) == 24000
    assert np.abs(made[0] - wanted[0]).max() < 1e-4


def test_conversion_and_resynthesis(tmp_path: Path, clip: Path) -> None:
    onnx = ["--runtime", "onnx", "--model", str(bundle("offline"))]
    assert main(["resynth", str(clip), str(tmp_path / "r.wav"), *onnx]) == 0
    assert (
        main(["convert", str(clip), str(tmp_path / "c.wav"), *onnx, "--reference", str(clip)]) == 0
    )
    for name in ("r.wav", "c.wav"):
        assert soundfile.info(tmp_path / name).frames == 16000


@pytest.mark.parametrize(
    "words, problem",
    [
        (["--jobs", "2"], "--jobs: not with --runtime onnx"),
        (["--precision", "bf16"], "--precision: not with --runtime onnx"),
        (["--device", "cuda"], "--device: not with --runtime onnx"),
        (["--window_seconds", "0.5"], "a.wav: 1 s, and the onnx runtime takes a recording whole"),
        (["--model", "no/such"], "no/such: no folder with onnx.json"),
    ],
)
def test_what_is_refused(
    words: list[str], problem: str, tmp_path: Path, clip: Path, capsys
) -> None:
    model = [] if "--model" in words else ["--model", str(bundle("offline"))]
    command = ["encode", str(clip), str(tmp_path / "a.fct"), "--runtime", "onnx", *model, *words]
    assert main(command) in (1, 2)
    assert problem in capsys.readouterr().err
