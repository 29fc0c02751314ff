"""The text to speech in the package: its files, and its speech without a network."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.cli.main import main
from focalcodec.hub import TTS_FOLDER
from focalcodec.lm import TextToSpeech, load_text_to_speech

VOICES = ["heart", "bella", "sarah", "fenrir", "michael", "puck", "emma", "george"]
TEXT = "the oceans are teeming with life"


@pytest.fixture(scope="module")
def tts() -> TextToSpeech:
    return load_text_to_speech(TTS_FOLDER)


def test_it_is_small_and_of_the_codec_of_the_package(tts: TextToSpeech) -> None:
    assert (TTS_FOLDER / "model.safetensors").stat().st_size < 15e6
    config = json.loads((TTS_FOLDER / "config.json").read_text())
    codec = FocalCodec.from_pretrained("demo")
    assert (config["codec"], config["codec_sha256"]) == ("demo", codec.weights_sha256)
    assert list(tts.voices) == VOICES
    card = (TTS_FOLDER / "README.md").read_text()
    assert "Not meant for" in card and "espeak-ng" in card


def test_each_voice_reads_in_its_own_way(tts: TextToSpeech) -> None:
    toks = [spoken.toks for spoken in tts.toks([TEXT] * 8, list(tts.voices.values()), [0] * 8)]
    assert all(1.2 < len(row) / 50 < 3.5 for row in toks)  # seconds
    shortest = min(map(len, toks))
    rows = torch.stack([row[:shortest] for row in toks])
    equal = (rows[:, None] == rows[None]).float().mean(dim=2)  # (8, 8)
    assert equal.fill_diagonal_(0).max() < 0.8


def test_a_longer_text_takes_longer_and_numbers_are_read(tts: TextToSpeech) -> None:
    voice = tts.voice("emma")
    texts = ["3 birds", "three birds", "three birds and four cats sat in the old oak"]
    one, same, more = tts.toks(texts, [voice] * 3, [0] * 3)
    assert torch.equal(one.toks, same.toks) and len(more.toks) > 2 * len(one.toks)


def test_the_command_reads_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("reaches for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    files = [tmp_path / f"{name}.wav" for name in ("one", "same", "other")]
    for file, voice in zip(files, ("heart", "heart", "george"), strict=True):
        assert main(["say", TEXT, str(file), "--voice", voice, "--quiet"]) == 0
    one, same, other = (read_audio(file, 16000) for file in files)
    assert torch.equal(one, same) and one.shape != other.shape
    level = one.square().mean().sqrt()
    assert 0.01 < level < 0.3
