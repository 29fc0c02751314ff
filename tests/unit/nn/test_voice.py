"""The vector of an utterance: its tokens, padding, and what it does to a codec."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from focalcodec import FocalCodec, Tokens
from focalcodec.audio import read_audio, write_audio
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.coders import load_coder, parse_spec
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.nn.voice import VoicePool, voice_toks, voice_values
from focalcodec.streaming import DecoderSession, EncoderSession
from focalcodec.vocos import Vocos


def make(voice_tokens: int = 3) -> FocalCodec:
    """A codec at 25 Hz whose adapted norms are not zeros any more."""
    torch.manual_seed(0)
    given = {"voice_tokens": voice_tokens}
    codec = FocalCodec(
        LogMel(n_mels=16),
        FocalEncoder(16, 6, [8, 8], [2, 1], **given),
        BinarySphericalQuantizer(64),
        FocalDecoder(6, 16, [8, 8], [1, 2], **given),
        Vocos(16, num_layers=1, dim=8, ffn_dim=8, **given),
    )
    torch.manual_seed(1)
    for norm in [*codec.decompressor.adaptive_norms, *codec.decoder.adaptive_norms]:
        torch.nn.init.normal_(norm.weight, std=0.3)
    return codec.eval()


@pytest.fixture(scope="module")
def codec() -> FocalCodec:
    return make()


@pytest.fixture
def sig() -> Tensor:
    return 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(2))


def test_values_are_four_levels_and_tokens_give_them_back() -> None:
    pool, feats = VoicePool(8, num_tokens=5), 9 * torch.randn(40, 7, 8)
    values = pool(feats)
    toks = voice_toks(values)
    levels = torch.tensor([-1.0, -1 / 3, 1 / 3, 1.0])
    assert (values[..., None] - levels).abs().min(dim=-1).values.max() < 1e-6
    assert toks.shape == (40, 5) and 0 <= int(toks.min()) <= int(toks.max()) < 4096
    torch.testing.assert_close(voice_values(toks, 5), values)
    values.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in pool.parameters())


def test_a_clip_has_the_same_vector_alone_and_in_any_batch(codec: FocalCodec, sig: Tensor) -> None:
    lengths = torch.tensor([16000, 9000])
    together = codec.encode_voice(sig, 16000, lengths)
    assert torch.equal(codec.encode_voice(sig[1:, :9000], 16000)[0], together[1])
    toks, ends = codec.encode(sig, 16000, lengths)
    decoded = codec.decode(toks, ends, voice=together)
    alone = codec.decode(toks[1:, : int(ends[1])], voice=together[1])
    torch.testing.assert_close(decoded[1, : alone.shape[1]], alone[0], atol=1e-6, rtol=1e-4)
    assert not decoded[1, alone.shape[1] :].any()


def test_another_vector_changes_the_audio_and_none_is_a_vector_of_zeros(
    codec: FocalCodec, sig: Tensor
) -> None:
    toks, _ = codec.encode(sig[:1], 16000)
    outputs = [codec.decode(toks, voice=codec.encode_voice(x[None], 16000)) for x in sig]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4
    codes, zeros = codec.toks_to_codes(toks), torch.zeros(1, 18)
    adapted = codec.decompressor(codes, voice=zeros)[0]
    torch.testing.assert_close(adapted, codec.decompressor(codes)[0])


def test_a_new_codec_with_a_vector_is_the_one_without() -> None:
    plain, voiced = FocalDecoder(6, 16, [8], [1]), FocalDecoder(6, 16, [8], [1], voice_tokens=3)
    missing = voiced.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["adaptive_norms.0.weight"] and "voice_tokens" not in plain.config
    codes = torch.randn(2, 9, 6)
    torch.testing.assert_close(voiced(codes, voice=torch.randn(2, 18))[0], plain(codes)[0])


def test_files_hold_it(codec: FocalCodec, sig: Tensor, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path / "codec")
    again = FocalCodec.from_pretrained(tmp_path / "codec")
    write_audio(tmp_path / "a.wav", sig[0], 16000)
    tokens = again.encode_file(tmp_path / "a.wav")
    given = read_audio(tmp_path / "a.wav", sample_rate=16000)[None]
    assert tokens.voice is not None
    assert torch.equal(tokens.voice, again.encode_voice(given, 16000)[0])
    tokens.save(tmp_path / "a.fct")
    stored = Tokens.load(tmp_path / "a.fct")
    assert torch.equal(stored.toks, tokens.toks) and torch.equal(stored.voice, tokens.voice)
    again.decode_file(tmp_path / "a.fct", tmp_path / "b.wav")
    decoded = again.decode(tokens.toks, num_samples=16000, voice=tokens.voice)[0]
    sig_of_file = read_audio(tmp_path / "b.wav", sample_rate=16000)
    torch.testing.assert_close(sig_of_file, decoded, atol=1e-4, rtol=0)


def test_evaluations_send_it_and_convert_by_it(codec: FocalCodec, sig: Tensor, tmp_path) -> None:
    codec.save_pretrained(tmp_path)
    coder = load_coder(parse_spec(str(tmp_path)), torch.device("cpu"))
    coded = coder.code(sig, 16000, torch.tensor([16000, 8000]))
    assert coded.bits == [25 * 6 + 36, 13 * 6 + 36] and coder.kbps is None
    voice = codec.encode_voice(sig[:1], 16000)
    toks, _ = codec.encode(sig[:1], 16000)
    torch.testing.assert_close(coded.rec_sig[0], codec.decode(toks, voice=voice)[0])
    swaps = load_coder(parse_spec(f"voice:{tmp_path}"), torch.device("cpu"))
    converted = swaps.convert(sig[0], [sig[1, :8000], sig[1, 8000:]], 16000)
    expected = codec.decode(toks, voice=codec.encode_voice(sig[1:], 16000), num_samples=16000)
    torch.testing.assert_close(converted, expected[0], atol=1e-5, rtol=1e-4)


def test_codecs_without_one_and_wrong_vectors_are_refused(codec: FocalCodec, sig: Tensor) -> None:
    plain, toks = make(0), torch.zeros(2, 5, dtype=torch.int64)
    assert plain.voice_tokens == 0 and not any("voice" in key for key in plain.config)
    with pytest.raises(UserError, match="encode_voice: unnamed has no vector of an utterance"):
        plain.encode_voice(sig, 16000)
    with pytest.raises(UserError, match="voice: unnamed has no vector of the utterance; leave it"):
        plain.decode(toks, voice=[1, 2, 3])
    for voice, message in (
        (torch.zeros(2, 3), r"float32 \(2, 3\); give \(clips, 3\) integers"),
        ([1, 2], r"int64 \(1, 2\); give \(clips, 3\) integers, as encode_voice does"),
        ([1, 2, 4096], r"tokens 1\.\.4096; give 0\.\.4095"),
        (torch.ones(3, 3, dtype=torch.int64), "of 3 clips, for 2; give one each, or one"),
    ):
        with pytest.raises(UserError, match=message):
            codec.decode(toks, voice=voice)
    with pytest.raises(UserError, match="block=linear: takes no vector of an utterance"):
        FocalDecoder(6, 16, [8], [1], block="linear", voice_tokens=3)
    for session in (EncoderSession, DecoderSession):
        with pytest.raises(UserError, match="which a stream does not have; use encode and decode"):
            session(codec)
