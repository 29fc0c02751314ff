"""`focalcodec convert`: outputs, reference sets, and errors before the first file."""

from __future__ import annotations

import io
import sys

import pytest
import soundfile
import torch

from focalcodec.audio import read_audio, write_audio
from focalcodec.cli.main import main
from focalcodec.conversion import ReferenceSet
from tests.unit.small_codecs import golden_codec, logmel_codec


def noise(samples, seed):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def place(tmp_path):
    """A model, two talks of different rates, and recordings of a voice."""
    logmel_codec().save_pretrained(tmp_path / "model")
    write_audio(tmp_path / "talks" / "a.wav", noise(20001, 0), 16000)
    write_audio(tmp_path / "talks" / "deep" / "b.flac", noise(30001, 1), 24000)
    write_audio(tmp_path / "voice" / "1.wav", noise(16000, 2), 16000)
    write_audio(tmp_path / "voice" / "2.flac", noise(8000, 3), 8000)
    soundfile.write(tmp_path / "voice" / "3.wav", torch.randn(9000, 2).mul(0.1).numpy(), 16000)
    return tmp_path


def convert(place, *words):
    words = [str(place / word[2:]) if word.startswith("./") else word for word in words]
    return main(["convert", *words, "--model", str(place / "model"), "--device", "cpu", "--quiet"])


def test_one_file_is_the_output_of_codec_convert(place):
    assert convert(place, "./talks/a.wav", "./out.wav", "--k", "2", "--reference", "./voice") == 0
    paths = [place / "voice" / name for name in ("1.wav", "2.flac", "3.wav")]
    codec = logmel_codec()
    reference = ReferenceSet.from_files(codec, paths, channels="mix", dtype="float16")
    sig = read_audio(place / "talks" / "a.wav", 16000)
    expected = codec.convert(sig[None], reference, 16000, k=2)[0].clamp(-1, 1)
    out = read_audio(place / "out.wav", 16000)
    assert out.shape == sig.shape
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)


def test_a_folder_keeps_its_tree(place):
    words = ("./talks", "./out", "--format", "flac", "--sample_rate", "original")
    assert convert(place, *words, "--reference", "./voice/*.wav") == 0
    made = {path.relative_to(place / "out").as_posix() for path in (place / "out").rglob("*.*")}
    assert made == {"a.flac", "deep/b.flac"}
    info = soundfile.info(place / "out" / "deep" / "b.flac")
    assert (info.frames, info.samplerate) == (30001, 24000)


def test_a_saved_set_gives_the_same(place):
    options = ("--reference", "./voice", "--save_reference_set", "./anna.set")
    assert convert(place, "./talks", "./one", *options) == 0
    assert convert(place, "./talks", "./two", "--reference_set", "./anna.set") == 0
    for name in ("a.wav", "deep/b.wav"):
        one, two = (read_audio(place / folder / name, 16000) for folder in ("one", "two"))
        assert torch.equal(one, two)
    assert ReferenceSet.load(place / "anna.set").feats.dtype == torch.float16


def test_a_set_grows(place):
    first, more = ("--reference", "./voice/1.wav"), ("--reference", "./voice/2.flac")
    convert(place, "./talks/a.wav", "./1.wav", *first, "--save_reference_set", "./1.set")
    grown = ("--reference_set", "./1.set", "--save_reference_set", "./2.set")
    assert convert(place, "./talks/a.wav", "./2.wav", *more, *grown) == 0
    small, large = (ReferenceSet.load(place / name) for name in ("1.set", "2.set"))
    assert set(small.files) < set(large.files) and len(small) < len(large)


def test_processes_give_the_same(place):
    assert convert(place, "./talks", "./one", "--reference", "./voice") == 0
    assert convert(place, "./talks", "./two", "--reference", "./voice", "--jobs", "2") == 0
    for name in ("a.wav", "deep/b.wav"):
        one, two = (read_audio(place / folder / name, 16000) for folder in ("one", "two"))
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_a_broken_file_does_not_stop_the_others(place, capsys):
    (place / "talks" / "bad.wav").write_bytes(b"no audio")
    assert convert(place, "./talks", "./out", "--reference", "./voice") == 1
    assert "bad.wav: not audio" in capsys.readouterr().err
    assert (place / "out" / "a.wav").is_file() and not (place / "out" / "bad.wav").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--reference: no voice is given"),
        (("--reference", "./nobody"), "nobody: no such file or folder"),
        (("--reference_set", "./no.set"), "no.set: no such file"),
        (("--reference_set", "./voice/1.wav"), "1.wav: damaged"),
        (("--reference_set", "./x", "--save_reference_set", "./y"), "nothing new to save"),
        (("--reference", "./voice", "--k", "1000"), "k=1000: give 1.."),
        (("--reference", "./voice", "--window_seconds", "0.01"), "window_seconds"),
    ],
)
def test_errors_before_the_first_file(place, words, message, capsys):
    assert convert(place, "./talks", "./out", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (place / "out").exists()


def test_missing_faiss_is_an_error_before_the_first_file(place, monkeypatch, capsys):
    words = ("./talks", "./out", "--reference", "./voice", "--search", "faiss")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "faiss", None)
        assert convert(place, *words) == 2
    assert "pip install faiss-cpu" in capsys.readouterr().err and not (place / "out").exists()
    pytest.importorskip("faiss")
    assert convert(place, *words) == 0


def test_standard_input_and_output(place, monkeypatch, capfdbinary):
    sent = (place / "talks" / "deep" / "b.flac").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
    assert convert(place, "-", "-", "--reference", "./voice") == 0
    sig, rate = soundfile.read(io.BytesIO(capfdbinary.readouterr().out))
    assert (len(sig), rate) == (20001, 16000)


def test_a_set_of_another_encoder_is_an_error(place, capsys):
    reference = ReferenceSet.from_files(golden_codec("tiny_50hz"), [place / "voice" / "1.wav"])
    reference.save(place / "other.set")
    assert convert(place, "./talks", "./out", "--reference_set", "./other.set") == 2
    assert "reference" in capsys.readouterr().err
