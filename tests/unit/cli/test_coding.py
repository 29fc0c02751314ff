"""`focalcodec encode`, `decode` and `resynth` in this process, with the tiny codec."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from focalcodec.audio import audio_info, read_audio
from focalcodec.audio_codec import output_samples
from focalcodec.cli.main import main
from focalcodec.fct import TokenReader, TokenTable, read_toks
from tests.unit.small_codecs import GOLDEN, golden_codec

MODEL = str(GOLDEN["tiny_50hz"])


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (round(seconds * rate), channels)
    return np.random.default_rng(seed).normal(0, 0.1, shape)


@pytest.fixture
def talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree of recordings, `talks`, in the current folder."""
    (tmp_path / "talks" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    soundfile.write("talks/mono.wav", noise(0.5, 16000), 16000)
    soundfile.write("talks/sub/stereo.flac", noise(0.71, 44100, channels=2, seed=1), 44100)
    soundfile.write("talks/sub/phone.ogg", noise(0.4, 8000, seed=2), 8000)
    return Path("talks")


def files(folder: str) -> list[str]:
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def run(*words: str | Path) -> int:
    return main([str(word) for word in words] + ["--model", MODEL])


# -- outputs ---------------------------------------------------------------------------------------


def test_encode_and_decode_keep_tree_rates_and_lengths(
    talks: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("encode", talks, "tokens") == 0
    assert files("tokens") == ["mono.fct", "sub/phone.fct", "sub/stereo.fct"]
    assert run("decode", "tokens", "decoded", "--sample_rate", "original") == 0
    assert files("decoded") == ["mono.wav", "sub/phone.wav", "sub/stereo.wav"]
    for source in talks.rglob("*.*"):
        before = audio_info(source)
        after = audio_info(Path("decoded", source.relative_to(talks)).with_suffix(".wav"))
        assert (after.num_samples, after.sample_rate) == (before.num_samples, before.sample_rate)
    out, err = capsys.readouterr()
    assert out == "" and err.count("3 done, 0 skipped, 0 failed") == 2


@pytest.mark.parametrize("channels", ["mix", "first"])
def test_tokens_of_stereo_are_those_of_the_codec(talks: Path, channels) -> None:
    assert run("encode", talks / "sub" / "stereo.flac", "a.fct", "--channels", channels) == 0
    header, toks = read_toks("a.fct")
    sig = read_audio(talks / "sub" / "stereo.flac", 16000, channels=channels)
    codec = golden_codec("tiny_50hz")
    assert torch.equal(codec.encode(sig[None], 16000)[0][0], toks)
    assert (header.model, header.sample_rate, header.num_samples) == ("tiny_50hz", 44100, 31311)
    assert run("decode", "a.fct", "a.wav") == 0
    expected = codec.decode(toks[None], num_samples=len(sig))[0]
    assert torch.allclose(read_audio("a.wav", 16000), expected.clamp(-1, 1), atol=2 / 2**15)


def test_several_channels_can_be_an_error(talks: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("encode", talks, "tokens", "--channels", "error") == 1
    assert files("tokens") == ["mono.fct", "sub/phone.fct"]
    assert "stereo.flac: 2 channels" in capsys.readouterr().err


def test_resynth_is_encode_and_decode(talks: Path) -> None:
    source = talks / "sub" / "stereo.flac"
    assert run("encode", source, "a.fct") == run("decode", "a.fct", "a.wav") == 0
    assert run("resynth", source, "b.wav") == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert audio_info("b.wav").sample_rate == 16000


def test_formats_and_rates(talks: Path) -> None:
    words = ("--format", "flac", "--sample_rate", "24000")
    assert run("resynth", "talks/**/*.ogg", "out", *words) == 0
    assert files("out") == ["sub/phone.flac"]
    assert soundfile.info("out/sub/phone.flac").format == "FLAC"
    assert audio_info("out/sub/phone.flac").num_samples == 9600
    assert run("resynth", talks / "mono.wav", "a.wav", "--format", "flac") == 2
    assert run("resynth", talks / "mono.wav", "a.mp3") == 2


@pytest.mark.parametrize("rate", [11025, 16000, 22050, 24000, 44100, 48000])
def test_no_output_is_longer_than_the_encoded_audio(rate: int) -> None:
    for from_rate in (8000, 11025, 44100):
        for num_samples in range(5000, 5400):
            samples = output_samples(num_samples, from_rate, rate, 16000)
            assert abs(samples / rate - num_samples / from_rate) <= 1.5 / rate
            encoded = (num_samples * 16000) / from_rate
            assert (samples * 16000) / rate < encoded + 1


def test_the_smallest_body_and_a_table(talks: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("encode", talks / "mono.wav", "packed.fct") == 0
    toks = read_toks("packed.fct")[1]
    TokenTable.from_toks([toks.repeat(9)], bits=13).save("table.fcf")
    words = ("--body", "smallest", "--table", "table.fcf")
    assert run("encode", talks / "mono.wav", "coded.fct", *words) == 0
    with TokenReader("coded.fct") as reader:
        assert reader.body == "table"
    assert run("decode", "coded.fct", "a.wav", "--table", "table.fcf") == 0
    assert run("decode", "packed.fct", "b.wav") == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert run("decode", "coded.fct", "c.wav") == 1
    assert run("encode", talks / "mono.wav", "d.fct", "--table", "table.fcf") == 2
    assert run("decode", "coded.fct", "c.wav", "--table", "gone.fcf") == 2
    assert not Path("c.wav").exists() and not Path("d.fct").exists()


def test_standard_input_and_output(talks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = io.BytesIO()
    stdout = SimpleNamespace(buffer=sent, isatty=lambda: False, flush=lambda: None)
    sound = io.BytesIO((talks / "sub" / "stereo.flac").read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=sound))
    monkeypatch.setattr(sys, "stdout", stdout)
    assert run("resynth", "-", "-", "--format", "flac") == 0
    monkeypatch.undo()
    assert sent.getvalue()[:4] == b"fLaC"
    assert soundfile.info(io.BytesIO(sent.getvalue())).frames == 11360


def test_standard_input_that_is_not_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    sound = io.BytesIO(b"RIFF, or so they say")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=sound))
    assert run("encode", "-", tmp_path / "a.fct") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("focalcodec: error: standard input: not audio")


# -- existing outputs, and errors ------------------------------------------------------------------


def test_existing_outputs_are_skipped_and_no_model_is_loaded(
    talks: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("out/sub").mkdir(parents=True)
    Path("out/mono.wav").write_text("kept")
    assert run("resynth", talks, "out") == 0
    assert "2 done, 1 skipped, 0 failed" in capsys.readouterr().err
    assert Path("out/mono.wav").read_text() == "kept"
    assert main(["resynth", str(talks), "out", "--model", "no/model"]) == 0
    assert "out/mono.wav and 2 more" in capsys.readouterr().err
    assert run("resynth", talks / "mono.wav", "out", "--overwrite") == 0
    assert audio_info("out/mono.wav").num_samples == 8000


def test_broken_files_do_not_stop_the_others(talks: Path, capsys: pytest.CaptureFixture) -> None:
    (talks / "a.wav").write_bytes(b"")
    whole = (talks / "mono.wav").read_bytes()
    (talks / "half.wav").write_bytes(whole[: len(whole) // 2])
    assert run("encode", talks, "one") == 1
    assert files("one") == ["mono.fct", "sub/phone.fct", "sub/stereo.fct"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[2].startswith("focalcodec: one: 3 done, 0 skipped, 2 failed;")
    assert "talks/a.wav: empty" in lines[0] and "talks/half.wav: truncated" in lines[1]
    assert run("encode", talks, "two", "--jobs", "2", "--quiet") == 1
    assert sorted(capsys.readouterr().err.splitlines()) == lines[:2]
    assert files("two") == files("one"), "two processes give the same files"
    for name in files("one"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_tokens_of_another_model_are_an_error(talks: Path, capsys: pytest.CaptureFixture) -> None:
    other = GOLDEN["tiny_50hz_v1"]
    assert main(["encode", "talks/mono.wav", "a.fct", "--model", str(other)]) == 0
    assert run("decode", "a.fct", "a.wav") == 1
    assert "a.fct: tokens of tiny_50hz_v1" in capsys.readouterr().err
    assert not Path("a.wav").exists()
    assert run("decode", "a.fct", "a.wav", "--any_model") == 0
    shutil.copytree(other, "copy")
    assert main(["decode", "a.fct", "b.wav", "--model", "copy"]) == 0, "names may differ"


@pytest.mark.parametrize("change", ["truncated", "corrupted"])
def test_damaged_tokens(talks: Path, change: str, capsys: pytest.CaptureFixture) -> None:
    assert run("encode", talks / "mono.wav", "tokens/") == 0
    data = bytearray(Path("tokens/mono.fct").read_bytes())
    data[-6] ^= 1
    Path("tokens/bad.fct").write_bytes(data if change == "corrupted" else data[:-1])
    assert run("decode", "tokens", "out") == 1
    assert f"tokens/bad.fct: {change}" in capsys.readouterr().err
    assert files("out") == ["mono.wav"]


def test_a_window_that_is_too_short(talks: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("encode", talks / "mono.wav", "a.fct", "--window_seconds", "0.1") != 0
    assert "window_seconds=0.1: this model needs" in capsys.readouterr().err


# -- the bar ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_progress_bar_on_a_terminal(
    talks: Path, quiet: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (talks / "a.wav").write_bytes(b"")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run("resynth", talks, "out", *quiet) == 1
    err = capsys.readouterr().err
    assert "a.wav: empty" in err
    assert ("resynth: 100 %" in err and "1.6/1.6 s of audio" in err) != bool(quiet)


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_progress_lines_in_a_file(
    talks: Path, quiet: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("FOCALCODEC_PROGRESS_SECONDS", "0")
    assert run("resynth", talks, "out", *quiet) == 0
    err = capsys.readouterr().err
    assert "\r" not in err
    assert ("resynth: 1.6 of 1.6 s of audio, 100 %, " in err) != bool(quiet)


@pytest.mark.skipif(os.name != "posix", reason="platform: names are Unicode")
def test_names_that_are_not_utf8(talks: Path) -> None:
    folder, name = os.fsdecode(b"d\xe9r"), os.fsdecode(b"n\xe9\r\xe2\x80\xa8.wav")
    try:
        os.mkdir(folder)
        (talks / "mono.wav").rename(Path(folder, name))
    except OSError:
        pytest.skip("platform: this file system takes no such name")
    assert run("encode", folder, "toks") == run("decode", "toks", "audio") == 0
    assert run("resynth", Path(folder, name), Path(folder, "out", name)) == 0
    assert files("audio") == [name] and Path(folder, "out", name).is_file()
