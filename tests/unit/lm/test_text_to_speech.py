"""Texts to audio: seeds, batches, streams, limits, prompts, folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch

from focalcodec.cli.main import main
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.lm import LMTextToSpeech, Sampling, SpeechLM, Vocabulary, load_text_to_speech

ROOT = Path(__file__).parents[3]
CLIP = ROOT / "corpus/LibriSpeech/test-real/92/1/92-1-0000.flac"
OTHER = ROOT / "tests" / "data" / "golden" / "tiny_50hz"


@pytest.fixture(scope="module")
def tts() -> LMTextToSpeech:
    codec, vocabulary = FocalCodec.from_pretrained("demo"), Vocabulary(8192)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "code_dim": 13}
    model = SpeechLM(vocabulary.size, **sizes)
    model.codes.copy_(vocabulary.codes(codec.codebook))
    return LMTextToSpeech(
        model, vocabulary, codec, {"anna": torch.arange(30), "ben": torch.ones(9).long()}
    )


@pytest.fixture(scope="module")
def folder(tts: LMTextToSpeech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tts.save_pretrained(tmp_path_factory.mktemp("tts") / "run" / "tts", about="Made here.")


def test_a_seed_and_a_voice_give_the_same_speech(tts: LMTextToSpeech) -> None:
    voice = tts.voice(None)
    assert voice is not None and torch.equal(voice, torch.arange(30))  # the first one
    one = tts.speak("hi", voice, seed=1)
    assert torch.equal(one, tts.speak("Hi", voice, seed=1))
    assert not torch.equal(one, tts.speak("hi", voice, seed=2))
    assert not torch.equal(one, tts.speak("hi", tts.voice("ben"), seed=1))
    assert one.shape == (16000,)  # 0.5 s a character


def test_a_batch_is_as_its_texts_alone(tts: LMTextToSpeech) -> None:
    voices = [None, tts.voice("anna"), tts.voice("ben")]
    # Random weights: at temperature 1 all tokens are nearly as probable, and rounding decides.
    cold = Sampling(temperature=0.01)
    batch = tts.toks(["hi", "a", "what"], voices, [1, 2, 3], cold)
    for text, voice, seed, found in zip(["hi", "a", "what"], voices, [1, 2, 3], batch, strict=True):
        (alone,) = tts.toks([text], [voice], [seed], cold)
        assert torch.equal(alone.toks, found.toks) and alone.ended == found.ended
        assert len(found.toks) <= tts.most_toks(text)


def test_a_stream_has_the_tokens_of_the_whole(tts: LMTextToSpeech) -> None:
    blocks = list(tts.stream("hello", seed=5))
    (spoken,) = tts.toks(["hello"], [None], [5])
    assert sum(map(len, blocks)) == 320 * len(spoken.toks) and len(blocks) > 2


def test_the_end_token_ends_the_speech(tts: LMTextToSpeech) -> None:
    end = tts.vocabulary.special["eos"]
    with torch.no_grad():
        before = tts.model.head[0, end].clone()
        tts.model.head[0, end] = 1e3 * tts.model.hidden(tts.prompt("hi", None)[None])[0, -1]
    try:
        (spoken,) = tts.toks(["hi"], [None], [0])
        assert spoken.ended and len(spoken.toks) == 0
        assert tts.speak("hi").shape == (1600,)
    finally:
        tts.model.head.data[0, end] = before


def test_a_recording_and_its_tokens_are_the_same_prompt(
    tts: LMTextToSpeech, tmp_path: Path
) -> None:
    tts.codec.encode_file(CLIP).save(tmp_path / "voice.fct")
    voice = tts.voice(CLIP)
    assert voice is not None and voice.shape == (150,)  # 3 s
    assert torch.equal(voice, tts.voice(tmp_path / "voice.fct"))


def test_wrong_prompts_are_one_line(tts: LMTextToSpeech, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", torch.zeros(1600).numpy(), 16000)
    with pytest.raises(UserError, match=r"short.wav: 0.1 s; give at least 0.5 s"):
        tts.voice(tmp_path / "short.wav")
    FocalCodec.from_pretrained(OTHER).encode_file(CLIP).save(tmp_path / "other.fct")
    with pytest.raises(UserError, match=r"other.fct: tokens of tiny_50hz"):
        tts.voice(tmp_path / "other.fct")
    with pytest.raises(UserError, match="voice eve: no such file; its voices are anna, ben"):
        tts.voice("eve")


def test_a_folder_gives_the_same_speech(tts: LMTextToSpeech, folder: Path) -> None:
    loaded = load_text_to_speech(folder.parent, tts.codec)  # the run that has it
    half = {name: x.half().float() for name, x in tts.model.state_dict().items()}
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor.float(), half[name]), name
    assert torch.equal(loaded.voices["ben"], tts.voices["ben"])
    assert loaded.speak("hi", seed=1).shape == tts.speak("hi", seed=1).shape
    card = (folder / "README.md").read_text()
    assert "Not meant for" in card and "Made here." in card and "anna, ben" in card
    assert (folder / "model.safetensors").stat().st_size < 1.2 * 2 * sum(
        tensor.numel() for tensor in half.values()
    )


def test_wrong_folders_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text to speech"):
        load_text_to_speech(OTHER)
    with pytest.raises(UserError, match=r"trained on the tokens of demo \(.*\), but this codec is"):
        load_text_to_speech(folder, FocalCodec.from_pretrained(OTHER))
    config = json.loads((folder / "config.json").read_text())
    config["model"]["hidden_size"] = 32
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="model.safetensors is of another model"):
        load_text_to_speech(tmp_path)


def test_the_command_reads_a_text(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--model", str(folder.parent), "--seed", "7"]
    assert main(["say", "hi", "a.wav", *words, "--voice", str(CLIP)]) == 0
    assert main(["say", "hi", "b.wav", *words, "--voice", str(CLIP), "--quiet"]) == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert soundfile.info("a.wav").frames == 16000
    assert b"real-time factor" in capfdbinary.readouterr().err
    assert main(["say", "hi", "-", *words]) == 0
    assert len(capfdbinary.readouterr().out) == 2 * 16000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["caf\u00e9", "o.wav"], "no character '\u00e9'"),
        ([" ", "o.wav"], "text: empty"),
        (["hi", "o.mp3"], "o.mp3: give a name that ends with .wav or .flac"),
        (["hi", "o.wav", "--temperature", "-1"], "temperature=-1.0"),
        (["hi", "o.wav", "--voice", "no.wav"], "voice no.wav: no such file"),
        (["hi", "o.wav", "--model", "no/run"], "--model no/run: no such folder"),
    ],
)
def test_wrong_commands_are_one_line(
    words: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in words else ["--model", str(folder)]
    assert main(["say", *words, *model]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and not Path("o.wav").exists()


def test_a_model_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = ["--model", str(tmp_path / "none")]
    assert main(["say", "hi", str(tmp_path / "o.wav"), *model]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "none: no such folder" in line and "docs/generation.md" in line
