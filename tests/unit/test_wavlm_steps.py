"""The causal WavLM as a stream: steps, their states, and the official call."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from test_wavlm import TINY, VARIANTS, tiny
from torch.utils._pytree import tree_leaves, tree_map

from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.nn import wavlm_attention, wavlm_extractor
from focalcodec.nn.official import newest_at, newest_last
from focalcodec.wavlm import WavLM

CHUNK = 640  # samples: chunks of two frames, a window of four chunks


def steps(encoder, sig, sizes, state=None):
    """Frames of a stream in steps of `sizes` samples, and the state after the last."""
    feats = []
    for piece in sig.split(sizes, dim=1):
        x, state = encoder.step(piece, state)
        feats.append(x)
    return torch.cat(feats, dim=1), state


@pytest.mark.parametrize(
    "sizes",
    [
        [CHUNK] * 9,
        [CHUNK, 4 * CHUNK, CHUNK, 3 * CHUNK],
        [8 * CHUNK, CHUNK],
        [4 * CHUNK, 3 * CHUNK, 2 * CHUNK - 100],
        [8 * CHUNK, 1],
    ],
)
@pytest.mark.parametrize("blocks", [False, True])
def test_steps_give_the_frames_of_the_whole_signal(monkeypatch, sizes, blocks):
    encoder, sig = tiny("causal").eval(), torch.randn(2, sum(sizes))
    with torch.no_grad():
        whole = encoder.run(sig)[0]
        if blocks:
            monkeypatch.setitem(wavlm_extractor._BLOCK_BYTES, "cpu", 6000)
            monkeypatch.setitem(wavlm_attention._BLOCK_LOGITS, "cpu", 100)
        streamed, state = steps(encoder, sig, sizes)
        official = encoder(sig)[0]
    torch.testing.assert_close(streamed, whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(official, whole, atol=1e-4, rtol=1e-4)
    assert state.transformer.position.tolist() == [whole.shape[1]] * 2


@pytest.mark.parametrize("sizes", [[90 * CHUNK], [CHUNK] * 9])
def test_a_state_has_the_memory_of_its_window(sizes):
    """Not that of all frames of the call."""
    encoder = tiny("causal").eval()
    with torch.no_grad():
        _, state = steps(encoder, torch.randn(1, sum(sizes)), sizes)
    for cache in state.transformer.caches:
        assert cache.untyped_storage().nbytes() == cache.numel() * cache.element_size()


@pytest.mark.parametrize("arguments", [{"lookahead_size": 0}, {"window_size": 2}, {"conv_pos": 1}])
def test_steps_of_other_shapes(arguments):
    torch.manual_seed(0)
    causal = {"causal": True, "window_size": 5, "lookahead_size": 1}
    encoder, sig = WavLM(**(TINY | causal | arguments)).eval(), torch.randn(1, 9 * CHUNK)
    with torch.no_grad():
        streamed, _ = steps(encoder, sig, [CHUNK] * 9)
        torch.testing.assert_close(streamed, encoder.run(sig)[0], atol=1e-5, rtol=1e-5)
        state = []
        for i, piece in enumerate(sig.split(CHUNK, dim=1)):
            x, *state = encoder(piece, *state)
            torch.testing.assert_close(x, streamed[:, 2 * i : 2 * i + 2], atol=1e-5, rtol=1e-5)


def test_rows_of_different_age_share_a_step():
    encoder, sig = tiny("causal").eval(), torch.randn(3, 12 * CHUNK)
    starts = [0, 2, 7]  # chunks that each stream is ahead of the third
    with torch.no_grad():
        alone = [encoder.run(row[None])[0][0] for row in sig]
        states = []
        for row, ahead in zip(sig, reversed(starts), strict=True):
            states.append(steps(encoder, row[None, : (ahead + 1) * CHUNK], CHUNK)[1])
        state = tree_map(lambda *rows: torch.cat(rows), *states)
        assert state.transformer.position.tolist() == [16, 6, 2]
        for i in range(1, 5):
            rows = [
                row[(ahead + i) * CHUNK : (ahead + i + 1) * CHUNK]
                for row, ahead in zip(sig, reversed(starts), strict=True)
            ]
            feats, state = encoder.step(torch.stack(rows), state)
            for x, whole, ahead in zip(feats, alone, reversed(starts), strict=True):
                expected = whole[2 * (ahead + i) : 2 * (ahead + i + 1)]
                torch.testing.assert_close(x, expected, atol=1e-4, rtol=1e-4)


def test_a_step_does_not_change_its_state():
    encoder, sig = tiny("causal").eval(), torch.randn(2, CHUNK)
    _, state = encoder.step(torch.randn(2, 3 * CHUNK))
    before = copy.deepcopy([tensor.detach() for tensor in tree_leaves(state)])
    first, second = encoder.step(sig, state)[0], encoder.step(sig, state)[0]
    assert torch.equal(first, second)
    assert all(map(torch.equal, before, tree_leaves(state)))


def test_an_offline_encoder_has_no_steps():
    with pytest.raises(UserError, match="causal"):
        tiny("large").step(torch.zeros(1, CHUNK))
    grouped = WavLM(**TINY, causal=True, extractor_norm="group")
    with pytest.raises(UserError, match="extractor_norm"):
        grouped.step(torch.zeros(1, CHUNK))


# -- the official call ----------------------------------------------------------------------------


def test_lengths_by_position_are_refused():
    lengths = torch.tensor([1600, 800])
    for encoder in (tiny("causal"), LogMel()):
        assert encoder(torch.zeros(2, 1600), lengths=lengths)[1].shape == (2,)
        with pytest.raises(UserError, match=r"lengths=\.\.\."):
            encoder(torch.zeros(2, 1600), lengths)


@pytest.mark.parametrize("length", [[1.0, 0.5], torch.tensor([1280, 640])])
def test_length_is_relative(length):
    for encoder in (tiny("large"), LogMel()):
        with pytest.raises(UserError, match="length: "):
            encoder(torch.zeros(2, 1280), length=length)


def test_states_of_another_encoder_are_refused():
    encoder, sig = tiny("causal"), torch.zeros(1, CHUNK)
    _, position, contexts, caches = encoder(sig)
    with pytest.raises(UserError, match="left_contexts: a tensor"):
        encoder(sig, position, contexts[0])
    with pytest.raises(UserError, match="left_contexts: 7 states; give the 8"):
        encoder(sig, position, contexts[1:], caches)
    with pytest.raises(UserError, match="kv_caches: 1 states; give the 2"):
        encoder(sig, position, contexts, caches[1:])


class First(torch.nn.Module):
    """The encoder with one output."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, sig):
        return self.encoder(sig)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_script_and_trace_hold_at_other_lengths(variant):
    encoder = tiny(variant).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = torch.jit.trace(First(encoder), torch.randn(2, 3000), check_trace=False)
        script = torch.jit.script(encoder)
        for samples in (9, 300, 1600, 9000):
            sig = torch.randn(1, samples)
            expected = encoder(sig)[0]
            torch.testing.assert_close(script(sig)[0], expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(trace(sig), expected, atol=1e-4, rtol=1e-4)


def test_a_scripted_stream():
    encoder = tiny("causal").eval()
    script, sig = torch.jit.script(encoder), torch.randn(2, 12 * CHUNK)
    ours: list = []
    theirs: list = []
    with torch.no_grad():
        for piece in sig.split([CHUNK] * 6 + [3 * CHUNK] * 2, dim=1):
            x, *ours = encoder(piece, *ours)
            y, *theirs = script(piece, *theirs)
            torch.testing.assert_close(y, x, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert script.chunk_size == encoder.chunk_size


def test_an_official_stream_starts_with_nothing():
    encoder, sig = tiny("causal").eval(), torch.randn(1, CHUNK)
    expected = encoder(sig)[0]
    for state in ((None, None, None), (None, [], []), (None, [None] * 8, [None] * 2)):
        assert torch.equal(encoder(sig, *state)[0], expected)


def test_official_caches_begin_with_the_oldest_frame():
    ours = torch.tensor([[0.0, 0.0, 0.0, 1.0, 2.0]])
    official = newest_at(ours, torch.tensor(2), 8)
    assert official.tolist() == [[1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    assert newest_last(official, torch.tensor(2), 5)[0, 3:].tolist() == [1.0, 2.0]


def test_relative_lengths_of_an_encoder_without_attention():
    encoder, sig = LogMel(), torch.randn(2, 1600)
    feats, position, *_ = encoder(sig, length=torch.tensor([1.0, 0.5]))
    assert torch.equal(feats, encoder.run(sig, torch.tensor([1600, 800]))[0])
    assert position.tolist() == 0 and encoder.chunk_size == encoder.downsample_factor == 320


def test_dropout_is_of_training_only():
    torch.manual_seed(0)
    encoder, sig = WavLM(**TINY, dropout=0.5), torch.randn(1, 3200)
    assert encoder.config["dropout"] == 0.5
    assert not torch.equal(encoder.run(sig)[0], encoder.run(sig)[0])
    encoder.eval()
    assert torch.equal(encoder.run(sig)[0], encoder.run(sig)[0])
    plain = WavLM(**TINY).eval()
    plain.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder.run(sig)[0], plain.run(sig)[0])
    assert "dropout" not in plain.config
