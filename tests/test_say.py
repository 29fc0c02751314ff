"""The text to speech in the package: its files, and its speech without a network."""

from __future__ import annotations

import io
import json
import socket
import sys
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


def say(*words: str) -> int:
    return main(["say", *words, "--quiet"])


def test_the_text_may_come_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    given = tmp_path / "given.wav"
    assert say(TEXT, str(given)) == 0
    for name, content, code in (("piped.wav", TEXT.encode(), 0), ("no.wav", b"\xff\xfe", 2)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert say("-", str(tmp_path / name)) == code
    assert torch.equal(read_audio(given, 16000), read_audio(tmp_path / "piped.wav", 16000))
    assert "standard input: no text in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([TEXT, "--top_p", "0.5"], "--top_p 0.5: this model is no language model"),
        ([TEXT, "--temperature", "-1"], "temperature=-1.0: give 0 or more"),
        ([TEXT, "--temperature", "nan"], "temperature=nan: give 0 or more"),
        ([TEXT, "--model", "nowhere"], "--model nowhere: no such folder; name the run"),
        ([TEXT, "--voice", "nobody"], "voice nobody: no such file; its voices are heart, bella"),
        (["\u041f\u0440\u0438\u0432\u0435\u0442"], "the model reads en-us only"),
    ],
)
def test_what_can_not_be_said(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out.wav"
    assert say(options[0], str(out), *options[1:]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not out.exists()


def test_sentences_join_without_clicks(tts: TextToSpeech) -> None:
    one = "The oceans are teeming with life. "
    (whole,) = tts.toks([one * 5], [tts.voice("puck")], [0])
    (part,) = tts.toks([one], [tts.voice("puck")], [0])
    sig, frame = tts.decode(whole.toks), tts.codec.sample_rate_output // 50
    pause = (len(whole.toks) - 5 * len(part.toks)) // 4
    jumps = sig.diff().abs()
    for place in (len(part.toks), len(part.toks) + pause):
        near = jumps[(place - 1) * frame : (place + 1) * frame]
        assert near.max() < 0.1 * jumps.max()
