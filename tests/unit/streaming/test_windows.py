"""Sessions of codecs that are not causal."""

from __future__ import annotations

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.streaming import DecoderSession, EncoderSession
from tests.unit.streaming.small_streams import OFFLINE, speech


@pytest.mark.parametrize("kind", OFFLINE)
@pytest.mark.parametrize("samples", [100, 7999, 25001])
def test_windows_give_as_many_tokens_and_samples_as_the_whole(kind, samples):
    codec, sig = OFFLINE[kind](), speech(2, samples)
    session, decoder = EncoderSession(codec, 2), DecoderSession(codec, 2)
    toks = [session.push(piece) for piece in sig.split(777, dim=1)]
    toks = torch.cat([*toks, session.flush()], dim=1)
    assert toks.shape == codec.encode(sig, 16000)[0].shape
    audio = [decoder.push(piece) for piece in toks.split(3, dim=1)]
    assert torch.cat([*audio, decoder.flush(samples)], dim=1).shape == sig.shape


def test_a_window_of_everything_is_exact():
    codec, sig = OFFLINE["wavlm"](), speech(1, 16000)
    session = EncoderSession(codec, chunk_seconds=2.0)
    assert session.push(sig).shape == (1, 0)
    toks = session.flush()
    assert torch.equal(toks, codec.encode(sig, 16000)[0])
    decoder = DecoderSession(codec, chunk_seconds=2.0)
    assert decoder.push(toks).shape == (1, 0)
    torch.testing.assert_close(decoder.flush(), codec.decode(toks), atol=1e-6, rtol=0.0)


def test_latency_is_what_the_window_waits_for():
    codec = OFFLINE["logmel"]()
    session = EncoderSession(codec, chunk_seconds=0.2, right_seconds=0.1)
    assert session.latency == pytest.approx(300.0)
    sig = speech(1, 4799)
    assert session.push(sig).shape == (1, 0)
    assert session.push(sig[:, :1]).shape == (1, 10)
    assert codec.latency is None


def test_a_saved_state_continues_bit_by_bit():
    codec, sig = OFFLINE["logmel"](), speech(1, 30000)
    first = EncoderSession(codec)
    first.push(sig[:, :13000])
    second = EncoderSession(codec)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.push(sig[:, 13000:]), second.push(sig[:, 13000:]))


def test_windows_without_a_token_are_refused():
    with pytest.raises(UserError, match="chunk_seconds: 0.005"):
        EncoderSession(OFFLINE["logmel"](), chunk_seconds=0.005)
    with pytest.raises(UserError, match="left_seconds: -1"):
        DecoderSession(OFFLINE["logmel"](), left_seconds=-1)
