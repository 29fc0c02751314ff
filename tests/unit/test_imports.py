"""Modules that an import and a command load: commands without a model do not load torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import focalcodec
from focalcodec.cli.main import COMMANDS
from focalcodec.fct import TokenHeader, write_toks

ROOT = Path(__file__).parents[2]
# each costs from a tenth of a second to several seconds
SLOW = (
    "datasets",
    "executorch",
    "faiss",
    "huggingface_hub",
    "hyperpyyaml",
    "jinja2",
    "librosa",
    "matplotlib",
    "numba",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "requests",
    "scipy",
    "sklearn",
    "speechbrain",
    "sympy",
    "tensorboard",
    "torch._dynamo",
    "torch._inductor",
    "torchaudio",
    "torchmetrics",
    "transformers",
)


def loaded(*words: str) -> set[str]:
    """Names of all modules that a Python process imports."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line for line in process.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


def test_package_without_torch() -> None:
    names = loaded("-c", "import focalcodec")
    assert "focalcodec" in names and not names & {"torch", "numpy"}


@pytest.mark.parametrize(
    "words",
    [
        *[("--help",), ("--version",), ("recipe", "list")],
        *((command, "--help") for command in COMMANDS),
    ],
    ids=" ".join,
)
def test_help_without_torch(words: tuple[str, ...]) -> None:
    names = loaded("-m", "focalcodec", *words)
    assert "focalcodec.cli.main" in names and not names & {"torch", "numpy", *SLOW}


@pytest.mark.parametrize("body", ["packed", "smallest"])
def test_info_of_a_token_file_without_torch(body: str, tmp_path: Path) -> None:
    header = TokenHeader("me/codec", "0123456789abcdef", 13, 320, 16000, 16000, 16000, 160000)
    write_toks(tmp_path / "a.fct", torch.arange(500) % 9, header, body)  # type: ignore[arg-type]
    names = loaded("-m", "focalcodec", "info", str(tmp_path / "a.fct"))
    assert "focalcodec.fct" in names and not names & {"torch", *SLOW}


def test_codec_without_slow_packages() -> None:
    names = loaded("-c", "from focalcodec import FocalCodec")
    assert {"focalcodec.codec", "torch"} <= names and not names & set(SLOW)


def test_public_names() -> None:
    assert set(focalcodec.__all__) <= set(dir(focalcodec))
    assert focalcodec.FocalCodec.__module__ == "focalcodec.codec"
    with pytest.raises(AttributeError, match="module 'focalcodec' has no attribute 'FocalCodex'"):
        _ = focalcodec.FocalCodex
