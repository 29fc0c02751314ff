"""Judges, loaded once, and clips of real and synthetic people."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from focalcodec.audio import read_audio
from focalcodec.data.corpus import embedded_corpus
from focalcodec.errors import UserError
from focalcodec.metrics import panel
from focalcodec.metrics.judge import Judge, JudgedClip

RATE = 16000


@pytest.fixture(scope="session")
def judge() -> Callable[[str], Judge]:
    """A judge of the offline panel by its name; the test is skipped if it is not installed."""
    made: dict[str, Judge] = {}

    def get(name: str) -> Judge:
        if name not in made:
            try:
                made[name] = panel("offline")[name]("cpu")
            except UserError as error:
                if "not installed" not in str(error):
                    raise
                pytest.skip(str(error))
        return made[name]

    return get


@pytest.fixture(scope="session")
def speech() -> dict[str, Tensor]:
    """Three seconds of two real and two synthetic people, at 16 kHz."""
    folder = embedded_corpus("LibriSpeech")
    paths = {
        "real": "test-real/91/1/91-1-0001.flac",
        "same real": "test-real/91/1/91-1-0004.flac",
        "other real": "test-real/92/1/92-1-0000.flac",
        "synthetic": "test-mini/11/4/11-4-0000.flac",
        "same synthetic": "test-mini/11/4/11-4-0001.flac",
        "other synthetic": "test-mini/15/4/15-4-0000.flac",
    }
    return {name: read_audio(folder / path, RATE)[: 3 * RATE] for name, path in paths.items()}


@pytest.fixture(scope="session")
def noisy(speech: dict[str, Tensor]) -> JudgedClip:
    """Speech in white noise as loud as itself."""
    sig = speech["real"]
    noise = torch.randn(len(sig), generator=torch.Generator().manual_seed(0))
    return JudgedClip("noisy", sig, sig + noise * sig.square().mean().sqrt(), RATE)
