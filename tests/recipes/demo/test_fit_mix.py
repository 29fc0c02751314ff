"""fit_mix.py: a mix of layers, fitted to folders of speech and stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from focalcodec.data.corpus import embedded_corpus
from focalcodec.encoders.speech_encoder import SpeechEncoder
from focalcodec.errors import UserError
from tests.recipes.demo import small
from tests.unit.small_encoders import WHISPER

SPEECH = embedded_corpus("LibriSpeech") / "test-real"


@pytest.fixture
def fit_mix(monkeypatch: pytest.MonkeyPatch):
    """The script, on a tiny Whisper."""
    monkeypatch.syspath_prepend(small.RECIPE)
    import fit_mix

    def tiny_whisper(layers: list[int], components: int) -> SpeechEncoder:
        torch.manual_seed(0)
        return SpeechEncoder({"model_type": "whisper", **WHISPER}, layers, components)

    monkeypatch.setattr(fit_mix, "whisper_base", tiny_whisper)
    return fit_mix


def test_fits_and_writes(fit_mix, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--layers", "0", "2", "--components", "4", "--clips", "4"]
    for name in ("a", "b"):
        fit_mix.main([str(SPEECH), "--to", str(tmp_path / name), *options])
    assert "layers [0, 2] of Whisper base in 4 components" in capsys.readouterr().out
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert file.metadata() == {"layers": "0 2"}
        mix = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert mix["rotation"].shape == (16, 4) and mix["mean"].shape == (2, 16)
    assert torch.isfinite(mix["rotation"]).all() and (mix["scale"] != 1).all()


def test_a_folder_without_audio_is_refused(fit_mix, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no audio \(\.flac, \.ogg, \.wav\) there"):
        fit_mix.main(
            [str(tmp_path), "--to", str(tmp_path / "mix"), "--layers", "1", "--components", "4"]
        )
