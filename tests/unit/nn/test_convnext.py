"""Calls that both decoders share: batches, steps of a stream, official states, traced programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.nn.convnext import DecoderState
from focalcodec.vocos import Vocos
from focalcodec.wavenext import WaveNeXt

TINY = {"input_dim": 6, "num_layers": 2, "dim": 8, "ffn_dim": 12, "hop_length": 10}
DECODERS = {"vocos": (Vocos, {"n_fft": 64}), "wavenext": (WaveNeXt, {})}


@pytest.fixture(params=DECODERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def make(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    cls, more = DECODERS[kind]
    decoder = cls(**TINY, **more, **options).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return decoder.requires_grad_(False)


@pytest.mark.parametrize("kernel_size", [7, 1])
def test_steps_give_what_the_whole_gives(kind: str, kernel_size: int) -> None:
    decoder, feats = make(kind, causal=True, kernel_size=kernel_size), torch.randn(2, 13, 6)
    whole, lengths = decoder.run(feats)
    assert lengths.tolist() == [130, 130]
    state, official, outputs, others = None, [], [], []
    for chunk in feats.split([1, 4, 2, 6], dim=1):
        before = state and [context.clone() for context in state.contexts]
        output, later = decoder.step(chunk, state)
        if state is not None and before is not None:  # a step does not change its state
            assert all(map(torch.equal, before, state.contexts))
        outputs.append(output)
        state = later
        output, *official = decoder(chunk, *official)
        others.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=1e-5, rtol=0)
    assert torch.cat(others, dim=1).equal(torch.cat(outputs, dim=1))


def test_streams_that_started_at_different_times_share_a_batch(kind: str) -> None:
    decoder, feats = make(kind, causal=True), torch.randn(2, 8, 6)
    whole = decoder.run(feats)[0]
    _, first = decoder.step(feats[:1, :3])
    _, second = decoder.step(feats[1:, :5])
    pairs = zip(first.contexts, second.contexts, strict=True)
    state = DecoderState(tuple(torch.cat(pair) for pair in pairs))
    rec_sig, _ = decoder.step(torch.stack([feats[0, 3:6], feats[1, 5:8]]), state)
    expected = torch.stack([whole[0, 30:60], whole[1, 50:80]])
    torch.testing.assert_close(rec_sig, expected, atol=1e-5, rtol=0)


def test_official_contexts(kind: str) -> None:
    decoder = make(kind, causal=True)
    feats = torch.randn(2, 4, 6)
    rec_sig, contexts = decoder(feats)
    assert [tuple(context.shape) for context in contexts] == [(2, 6, 6), (2, 6, 8), (2, 6, 8)]
    assert decoder(feats, [])[0].equal(rec_sig)
    assert decoder(feats, [None, None, None])[0].equal(rec_sig)
    with pytest.raises(UserError, match="left_contexts: 2 states; give the 3"):
        decoder(feats, contexts[:2])
    not_causal = make(kind)
    assert not_causal(feats)[1] == [None, None, None]
    assert not_causal(feats, [None, None, None])[0].equal(not_causal(feats)[0])


def test_lengths_are_given_by_name(kind: str) -> None:
    decoder, feats = make(kind), torch.randn(2, 4, 6)
    rec_sig, samples = decoder(feats, lengths=torch.tensor([4, 2]))
    assert samples.tolist() == [40, 20] and (rec_sig[1, 20:] == 0).all()
    with pytest.raises(UserError, match="lengths=..."):
        decoder(feats, torch.tensor([4, 2]))


def test_only_a_causal_decoder_has_steps(kind: str) -> None:
    with pytest.raises(UserError, match="not causal"):
        make(kind).step(torch.randn(1, 4, 6))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # about constants, such as sizes
@pytest.mark.parametrize("causal", [False, True])
def test_a_trace_holds_at_other_lengths(kind: str, causal: bool) -> None:
    decoder = make(kind, causal=causal)
    trace = torch.jit.trace(lambda x: decoder(x)[0], torch.randn(1, 9, 6), check_trace=False)
    script = torch.jit.script(decoder)
    for frames in (9, 3, 1, 40):
        feats = torch.randn(2, frames, 6)
        expected = decoder(feats)[0]
        torch.testing.assert_close(trace(feats), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(script(feats)[0], expected, atol=1e-5, rtol=0)


def test_lower_precision_in_steps(kind: str) -> None:
    decoder, feats = make(kind, causal=True), torch.randn(1, 8, 6)
    expected = decoder.run(feats)[0]
    decoder.to(torch.bfloat16)
    first, state = decoder.step(feats[:, :4])
    second, _ = decoder.step(feats[:, 4:], state)
    rec_sig = torch.cat([first, second], dim=1)
    assert rec_sig.dtype == torch.float32
    assert (rec_sig - expected).norm() < 0.2 * expected.norm()
