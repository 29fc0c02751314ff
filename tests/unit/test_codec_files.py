"""Files in one call each: `encode_file`, `Tokens.save`, `Tokens.load` and `decode_file`."""

from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from focalcodec import FocalCodec, Tokens, UserError
from focalcodec.audio import audio_info, read_audio, write_audio
from focalcodec.cli.main import main
from focalcodec.fct import header_for
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.long_audio.coding import encode_blocks
from tests.unit.small_codecs import GOLDEN, golden_codec, logmel_codec

RATE = 22050


@pytest.fixture
def codec() -> FocalCodec:
    return golden_codec("tiny_50hz")


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """2 s of noise at another rate than the codec's."""
    path = tmp_path / "my talk.wav"
    write_audio(path, 0.1 * torch.randn(2 * RATE, generator=torch.manual_seed(0)), RATE)
    return path


def test_a_file_there_and_back(codec, wav, tmp_path):
    tokens = codec.encode_file(wav)
    expected, _ = codec.encode(read_audio(wav, 16000), 16000)
    assert torch.equal(tokens.toks, expected[0]) and len(tokens) == expected.shape[1]
    header = tokens.header
    assert (header.sample_rate, header.num_samples, header.seconds) == (RATE, 2 * RATE, 2.0)
    assert (header.model, header.id, header.bits) == ("tiny_50hz", "my talk", 13)
    assert tokens.save(tmp_path / "a.fct") == (tmp_path / "a.fct").stat().st_size
    again = Tokens.load(tmp_path / "a.fct")
    assert torch.equal(again.toks, tokens.toks) and again.header == header
    for source in (tokens, tmp_path / "a.fct", str(tmp_path / "a.fct")):
        codec.decode_file(source, tmp_path / "out.wav")
        info = audio_info(tmp_path / "out.wav")
        assert (info.num_samples, info.sample_rate) == (32000, codec.sample_rate_output)
        rec_sig = codec.decode(expected, num_samples=32000)[0]
        written = read_audio(tmp_path / "out.wav", 16000)
        torch.testing.assert_close(written, rec_sig.clamp(-1, 1), rtol=0, atol=2.0**-14)
    codec.decode_file(tokens, tmp_path / "out.flac", sample_rate=np.int64(RATE))
    info = audio_info(tmp_path / "out.flac")
    assert (info.num_samples, info.sample_rate) == (2 * RATE, RATE)


def test_a_header_of_numpy_numbers(codec):
    made = header_for(codec, "me", "0" * 16, np.int64(RATE), np.int32(RATE))
    assert made == header_for(codec, "me", "0" * 16, RATE, RATE)
    assert type(made.sample_rate) is int
    for rate in (True, 16000.0, np.float32(16000), np.array([16000]), torch.tensor([1, 2]), "1"):
        with pytest.raises(UserError, match="sample_rate: .*; it must be an integer in 1"):
            header_for(codec, "me", "0" * 16, rate, RATE)


def test_file_objects_and_a_codec_of_parts(codec, wav):
    stream, tokens = io.BytesIO(), io.BytesIO()
    parts = FocalCodec.from_config(codec.config).eval()
    made = parts.encode_file(io.BytesIO(wav.read_bytes()))
    assert (made.header.model, made.header.id) == ("unnamed", "")
    made.save(tokens)
    tokens.seek(0)
    parts.decode_file(tokens, stream)
    assert soundfile.info(io.BytesIO(stream.getvalue())).frames == 32000


def test_the_command_makes_and_reads_the_same_files(codec, wav, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ["--model", str(GOLDEN["tiny_50hz"]), "--device", "cpu", "--quiet"]
    codec.encode_file(wav).save("ours.fct")
    assert main(["encode", str(wav), "theirs.fct", *model]) == 0
    assert Path("ours.fct").read_bytes() == Path("theirs.fct").read_bytes()
    codec.decode_file("theirs.fct", "ours.wav")
    assert main(["decode", "ours.fct", "theirs.wav", *model]) == 0
    assert Path("ours.wav").read_bytes() == Path("theirs.wav").read_bytes()


def test_long_recordings_go_through_windows(tmp_path):
    """The windows of the command line: no more than one of them is encoded at a time."""
    codec = logmel_codec()
    path, sizes, done = tmp_path / "long.wav", [], []
    sig = 0.1 * torch.randn(9 * 16000, generator=torch.manual_seed(1))
    write_audio(path, sig, 16000)
    counted = copy.copy(codec)
    encode = type(codec).encode

    def count(sig, rate, **options):
        sizes.append(sig.shape[1])
        return encode(codec, sig, rate, **options)

    counted.encode = count
    tokens = counted.encode_file(path, window_seconds=2.0, progress=done.append)
    whole = read_audio(path, 16000)
    expected = torch.cat([*encode_blocks(codec, [whole], 16000, window_seconds=2.0)])
    assert torch.equal(tokens.toks, expected) and len(sizes) > 4
    assert max(sizes) <= 2 * 16000 and sum(done) == pytest.approx(9.0)
    codec.decode_file(tokens, tmp_path / "out.wav", window_seconds=2.0)
    assert audio_info(tmp_path / "out.wav").num_samples == len(sig)


def test_channels(codec, tmp_path):
    path = tmp_path / "stereo.wav"
    both = 0.1 * np.random.default_rng(0).standard_normal((8000, 2)).astype(np.float32)
    soundfile.write(path, both, 16000)
    with pytest.raises(UserError, match="stereo.wav: 2 channels.*'mix'"):
        codec.encode_file(path)
    first = read_audio(path, 16000, channels="first")
    expected = codec.encode(first, 16000)[0][0]
    assert torch.equal(codec.encode_file(path, channels="first").toks, expected)


def test_tokens_of_another_model_are_refused(codec, wav, tmp_path):
    other = FocalCodec.from_config(codec.config).eval()  # random weights
    other.model_id = "tiny_other"
    tokens = other.encode_file(wav)
    tokens.save(tmp_path / "a.fct")
    for source, name in ((tokens, "tokens"), (tmp_path / "a.fct", "a.fct")):
        with pytest.raises(UserError, match=rf"{name}: tokens of tiny_other .*, or give any_model"):
            codec.decode_file(source, tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()
    codec.decode_file(tokens, tmp_path / "out.wav", any_model=True)
    assert (tmp_path / "out.wav").is_file()


def test_identity_survives_precision_and_not_training(wav, tmp_path):
    """A header has the hash of the weights that were loaded; new weights are another model."""
    loaded = FocalCodec.from_pretrained(GOLDEN["tiny_50hz"])
    sha256 = weights_sha256(loaded)
    rounded = copy.deepcopy(loaded).bfloat16()
    assert rounded.weights_sha256 == sha256 != weights_sha256(rounded)
    with torch.no_grad():
        for parameter in loaded.decoder.parameters():
            parameter.add_(0.01)
    trained = loaded.weights_sha256
    assert trained == weights_sha256(loaded) != sha256
    tokens = loaded.encode_file(wav)
    assert tokens.header.weights_sha256 == trained[:16]
    other = golden_codec("tiny_12_5hz")
    loaded.decoder = other.decoder
    assert loaded.weights_sha256 == weights_sha256(loaded) != trained


def test_parts_that_are_removed_or_scripted(codec, wav):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = codec.jit().half()
    assert scripted.device.type == "cpu"
    less = copy.copy(codec)
    less._modules = dict(codec._modules)
    less.encoder = None
    less.float()
    for call in (lambda: less.encode_file(wav), lambda: less.weights_sha256):
        with pytest.raises(UserError, match="encoder: was removed from this codec"):
            call()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda codec: codec.encode_file("no.wav"), "no.wav: no such file"),
        (lambda codec: codec.encode_file(torch.zeros(9)), "audio file: Tensor; give a path or an"),
        (lambda codec: codec.encode_file(None), "audio file: NoneType; give a path or an open"),
        (lambda codec: codec.decode_file("no.fct", "a.wav"), "no.fct: can't be read"),
        (lambda codec: codec.decode_file(__file__, "a.wav"), "test_codec_files.py: not a token"),
        (lambda codec: codec.decode_file(torch.zeros(9), "a.wav"), "tokens: Tensor; give a path"),
    ],
)
def test_what_is_no_file(codec, call, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=match) as error:
        call(codec)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_files_that_can_not_be_written(codec, wav, tmp_path):
    tokens = codec.encode_file(wav)
    with pytest.raises(UserError, match=r"'mp3' can't be written; use .wav or .flac"):
        codec.decode_file(tokens, tmp_path / "a.mp3")
    with pytest.raises(UserError, match="sample rate 0: give a positive integer"):
        codec.decode_file(tokens, tmp_path / "a.wav", sample_rate=0)
    with pytest.raises(UserError, match="window_seconds=0.001: this model needs"):
        codec.encode_file(wav, window_seconds=0.001)
    assert [path.name for path in tmp_path.iterdir()] == ["my talk.wav"]
