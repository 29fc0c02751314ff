"""Streams on onnxruntime: the results of the PyTorch sessions, rows, states and errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import focalcodec.streaming
from focalcodec.errors import UserError
from focalcodec.onnx_runtime import DecoderSession, EncoderSession, OnnxCodec
from tests.unit.closeness import assert_close_to_scale
from tests.unit.small_bundles import bundle, causal_codec, onnx_codec

SIG = torch.randn(2, 15000, generator=torch.Generator().manual_seed(0)) / 9
PIECES = (300, 2000, 1280, 0, 9000, 2420)


@pytest.fixture(scope="module")
def codec() -> OnnxCodec:
    return onnx_codec("causal")


def test_the_pytorch_sessions_give_the_same(codec: OnnxCodec) -> None:
    """From the first call on, and for an incomplete last chunk."""
    torch_encoder = focalcodec.streaming.EncoderSession(causal_codec(), batch_size=2)
    torch_decoder = focalcodec.streaming.DecoderSession(causal_codec(), batch_size=2)
    encoder, decoder = EncoderSession(codec, 2), DecoderSession(codec, 2)
    made, wanted = [], []
    for piece in SIG.split(PIECES, dim=1):
        expected, toks = torch_encoder.push(piece), encoder.push(piece.numpy())
        assert np.array_equal(toks, expected)
        made.append(torch.from_numpy(decoder.push(toks)))
        wanted.append(torch_decoder.push(expected))
    last = encoder.flush()
    assert np.array_equal(last, torch_encoder.flush()) and last.shape == (2, 3)
    made.append(torch.from_numpy(decoder.flush(15000, last)))
    wanted.append(torch_decoder.flush(15000, torch.from_numpy(last)))
    assert [each.shape for each in made] == [each.shape for each in wanted]
    assert_close_to_scale(torch.cat(made, dim=1), torch.cat(wanted, dim=1))


def test_the_whole_signal_has_the_same_tokens(codec: OnnxCodec) -> None:
    session = EncoderSession(codec)
    toks = [session.push(SIG[:1].numpy()), session.flush()]
    assert np.array_equal(np.concatenate(toks, axis=1), codec.sig_to_toks(SIG[:1].numpy()))


def test_rows_start_and_end_at_different_times(codec: OnnxCodec) -> None:
    session, sig = EncoderSession(codec, 2), SIG.numpy()
    first, lengths = session.push(sig[:, :4000], lengths=[4000, 0])
    assert first.shape == (2, 12) and lengths.tolist() == [12, 0]
    session.push(np.stack([sig[0, 4000:7000], sig[1, :3000]]), lengths=[3000, 3000])
    last, ends = session.flush(rows=[True, False])
    alone = EncoderSession(codec)
    alone.push(sig[:1, :7000])
    assert np.array_equal(last[:1, : ends[0]], alone.flush()) and ends[1] == 0
    with pytest.raises(UserError, match="row 0 was flushed"):
        session.push(sig[:, :10], lengths=[10, 10])
    session.reset([True, False])
    again, _ = session.push(sig[:, :4000], lengths=[4000, 0])
    assert np.array_equal(again, first)


def test_a_state_continues_in_another_session(codec: OnnxCodec) -> None:
    sig = SIG.numpy()
    session, other = EncoderSession(codec, 2), EncoderSession(codec, 2)
    session.push(sig[:, :5000])
    state = session.state_dict()
    expected = session.push(sig[:, 5000:])
    other.load_state_dict(state)
    assert np.array_equal(other.push(sig[:, 5000:]), expected)


def test_states_of_others(codec: OnnxCodec) -> None:
    session = EncoderSession(codec)
    for state in ({}, DecoderSession(codec).state_dict(), EncoderSession(codec, 2).state_dict()):
        with pytest.raises(UserError, match="state: not of a EncoderSession of this model"):
            session.load_state_dict(state)
    state = session.state_dict()
    with pytest.raises(UserError, match="state: not of 1 rows"):
        session.load_state_dict({key: state[key] for key in state if key != "ring0"})


@pytest.mark.parametrize(
    "call, problem",
    [
        (lambda c: EncoderSession(c, 0), "batch_size: 0"),
        (lambda c: EncoderSession(causal_codec()), "codec: FocalCodec; give an OnnxCodec"),
        (lambda c: EncoderSession(c).push(np.zeros(5, np.float32)), r"samples: shape \(5,\)"),
        (lambda c: EncoderSession(c).push(np.zeros((1, 5), np.int16)), "sig: int16"),
        (lambda c: EncoderSession(c).push(np.full((1, 5), np.inf)), "infinite samples in row 0"),
        (lambda c: EncoderSession(c).push(np.zeros((1, 5)), [6]), r"must be in 0\.\.5"),
        (lambda c: DecoderSession(c).push(np.full((1, 4), 512)), r"toks: 512\.\.512; .* 512\)"),
        (lambda c: DecoderSession(c).push(np.zeros((1, 4))), "toks: float64"),
        (lambda c: _flushed(c).flush(100), "num_samples: 100, but 1280 were given before"),
    ],
)
def test_bad_input(call, problem: str, codec: OnnxCodec) -> None:
    with pytest.raises(UserError, match=problem):
        call(codec)


def _flushed(codec: OnnxCodec) -> DecoderSession:
    session = DecoderSession(codec)
    session.push(np.zeros((1, 4), dtype=np.int64))
    return session


def test_a_codec_that_is_not_causal_has_no_sessions() -> None:
    with pytest.raises(UserError, match="has no encoder_step, only .* export a causal codec"):
        EncoderSession(onnx_codec("offline"))


def test_rings_are_described_in_few_bytes() -> None:
    text = (bundle("causal") / "onnx.json").read_text()
    steps = [json.loads(text)["graphs"][name] for name in ("encoder_step", "decoder_step")]
    assert [step["chunk"] for step in steps] == [1280, 4]
    assert all(len(step["rings"]) >= 4 for step in steps) and len(text) < 2**14
