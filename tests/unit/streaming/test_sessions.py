"""Sessions: streamed audio and tokens are those of the whole signal, however it is cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.audio import resampled_length
from focalcodec.errors import UserError
from focalcodec.streaming import DecoderSession, EncoderSession
from focalcodec.streaming.resampler import Resampler
from tests.unit.small_codecs import golden_codec
from tests.unit.streaming.small_streams import CAUSAL, CHUNK, causal_codec, speech

TINY_LATENT = 1e-5  # of the latents' root mean square: below it the sign may be rounding


def encode(codec: FocalCodec, sig: Tensor, sizes: list[int], rate: int | None = None) -> Tensor:
    """Toks of sig in pieces of these sizes, the last size again and again."""
    session, parts, start = EncoderSession(codec, len(sig), rate), [], 0
    while start < sig.shape[1]:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        parts.append(session.push(sig[:, start : start + size]))
        start += size
    return torch.cat([*parts, session.flush()], dim=1)


def decode(codec: FocalCodec, toks: Tensor, num_samples: int, size: int = 5) -> Tensor:
    """Audio of toks in pieces of one size."""
    session = DecoderSession(codec, len(toks))
    *first, last = toks.split(size, dim=1)
    parts = [session.push(piece) for piece in first]
    return torch.cat([*parts, session.flush(num_samples, toks=last)], dim=1)


def tokens(batch: int, count: int) -> Tensor:
    """Random toks (batch, count)."""
    return torch.randint(0, 512, (batch, count), generator=torch.Generator().manual_seed(0))


def check_toks(codec: FocalCodec, toks: Tensor, sig: Tensor) -> None:
    """Toks equal those of the whole signal, but for bits of latents that are almost zero."""
    with torch.no_grad():
        lats = codec.sig_to_lats(sig)
    codes = codec.toks_to_codes(toks)
    assert codes.shape == lats.shape
    differ = (codes > 0) != (lats > 0)
    assert bool((lats.abs()[differ] < TINY_LATENT * lats.square().mean().sqrt()).all())
    assert int(differ.sum()) <= 2


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("size", [1, 319, CHUNK, 10000])
def test_streams_equal_the_whole_signal(kind, size):
    """Past the window of 32 frames, with a short last chunk, in a batch."""
    codec = CAUSAL[kind]()
    samples = 14 * CHUNK + 777 if size > 1 else CHUNK + 300
    sig = speech(2, samples)
    toks = encode(codec, sig, [size])
    check_toks(codec, toks, sig)
    rec_sig = decode(codec, toks, resampled_length(samples, 16000, codec.sample_rate_output))
    whole = codec.decode(toks, num_samples=None)[:, : rec_sig.shape[1]]
    torch.testing.assert_close(rec_sig, whole, atol=1e-5, rtol=0.0)


@settings(max_examples=25, deadline=None, database=None)
@given(
    sizes=st.lists(st.integers(0, 10000), min_size=1, max_size=20).filter(lambda x: x[-1] > 300),
    samples=st.integers(1, 13 * CHUNK),
)
def test_any_way_of_cutting_gives_the_same(sizes, samples):
    codec, sig = causal_codec(), speech(1, samples)
    toks = encode(codec, sig, list(sizes))
    assert toks.shape[1] == -(-samples // 320)
    check_toks(codec, toks, sig)
    wanted = resampled_length(samples, 16000, codec.sample_rate_output)
    rec_sig = decode(codec, toks, wanted, 1 + sizes[0] % 7)
    assert rec_sig.shape == (1, wanted)
    whole = codec.decode(toks)[:, :wanted]
    torch.testing.assert_close(rec_sig, whole, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("rate", [8000, 24000, 44100])
def test_another_rate_gives_the_tokens_of_the_resampled_signal(rate):
    codec, sig = causal_codec(), speech(2, rate)
    resampled = []
    for clip in sig:
        resampler = Resampler(rate, 16000)
        resampled.append(torch.cat([resampler.push(clip), resampler.flush()]))
    toks = encode(codec, sig, [1, 0, 4411, 700], rate)
    check_toks(codec, toks, torch.stack(resampled))


def test_rows_that_start_and_end_apart_are_as_alone():
    codec, sig = causal_codec(), speech(3, 30000)
    ends, starts = [30000, 21000, 12345], [0, 2, 5]
    session, done, parts = EncoderSession(codec, 3), [0, 0, 0], [[], [], []]
    decoder, audio = DecoderSession(codec, 3), [[], [], []]
    for turn in range(40):
        wanted = [
            min(1500 + 400 * row, ends[row] - done[row]) if turn >= starts[row] else 0
            for row in range(3)
        ]
        piece = torch.full((3, 2500), float("nan"))  # beyond the lengths nothing is read
        for row, size in enumerate(wanted):
            piece[row, :size] = sig[row, done[row] : done[row] + size]
            done[row] += size
        toks, lengths = session.push(piece, lengths=wanted)
        last, more = session.flush(rows=[done[row] == ends[row] for row in range(3)])
        for row in range(3):
            both = torch.cat([toks[row, : lengths[row]], last[row, : more[row]]])
            parts[row].append(both)
            pushed, size = decoder.push(
                both.expand(3, -1), lengths=[len(both) * (row == i) for i in range(3)]
            )
            audio[row].append(pushed[row, : size[row]])
    rest, lengths = decoder.flush(rows=[True] * 3)
    for row, end in enumerate(ends):
        toks = torch.cat(parts[row])[None]
        check_toks(codec, toks, sig[row : row + 1, :end])
        rec_sig = torch.cat([*audio[row], rest[row, : lengths[row]]])
        torch.testing.assert_close(rec_sig, codec.decode(toks)[0], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_saved_state_continues_bit_by_bit(rate):
    codec, sig = causal_codec(), speech(2, 20000)
    first = EncoderSession(codec, 2, rate)
    first.push(sig[:, :9000])
    state = first.state_dict()
    expected = [first.push(sig[:, 9000:]), first.flush()]
    second = EncoderSession(codec, 2, rate)
    second.push(sig[:, :100])
    second.load_state_dict(state)
    assert all(map(torch.equal, expected, [second.push(sig[:, 9000:]), second.flush()]))

    toks = expected[0]
    decoder, other = DecoderSession(codec, 2, 16000), DecoderSession(codec, 2, 16000)
    decoder.push(toks[:, :7])
    decoder.conceal(3)
    other.load_state_dict(decoder.state_dict())
    wanted = [decoder.push(toks[:, 7:]), decoder.flush(12000)]
    assert all(map(torch.equal, wanted, [other.push(toks[:, 7:]), other.flush(12000)]))


def test_reset_begins_a_new_stream():
    codec, sig = causal_codec(), speech(2, 9000)
    session = EncoderSession(codec, 2)
    expected = torch.cat([session.push(sig), session.flush()], dim=1)
    session.reset()
    assert torch.equal(torch.cat([session.push(sig), session.flush()], dim=1), expected)
    session.reset([False, True])
    toks, lengths = session.push(sig, lengths=[0, 9000])
    assert torch.equal(toks[1, : lengths[1]], expected[1, : lengths[1]])


def test_bad_input_leaves_a_session_as_it_was():
    codec, sig = causal_codec(), speech(1, 9000)
    session, decoder = EncoderSession(codec), DecoderSession(codec)
    expected = EncoderSession(codec).push(sig)
    session.push(sig[:, :1000])
    bad = [
        (torch.zeros(1, 10, dtype=torch.int16), "int16"),
        (torch.zeros(2, 10), "1 rows"),
        (torch.zeros(10), "shape"),
        (torch.tensor([[0.0, float("nan")]]), "NaN"),
        ("sound", "not numbers"),
    ]
    for wrong, message in bad:
        with pytest.raises(UserError, match=message):
            session.push(wrong)
    with pytest.raises(UserError, match="0..10"):
        session.push(torch.zeros(1, 10), lengths=[11])
    assert torch.equal(session.push(sig[:, 1000:]), expected)
    for wrong, message in [(torch.tensor([[512]]), "token 512"), (torch.rand(1, 4), "integers")]:
        with pytest.raises(UserError, match=message):
            decoder.push(wrong)
    given = decoder.push(torch.zeros(1, 8, dtype=torch.int64)).shape[1]
    with pytest.raises(UserError, match=f"num_samples: {given - 1}, but {given} were given"):
        decoder.flush(given - 1)
    with pytest.raises(UserError, match="num_samples: 0.5; give a whole number"):
        decoder.flush(0.5)
    assert decoder.flush(given + 5, toks=torch.zeros(1, 1, dtype=torch.int64)).shape == (1, 5)
    session.flush()
    with pytest.raises(UserError, match="reset"):
        session.push(sig)
    session.reset()
    assert torch.equal(session.push(sig), expected)


def test_results_and_states_can_be_used_with_gradients():
    """They are made without autograd, but are no tensors of inference mode."""
    codec, sig = causal_codec(), speech(1, 3 * CHUNK)
    encoder, decoder = EncoderSession(codec), DecoderSession(codec)
    toks = encoder.push(sig)
    for result in [toks, decoder.push(toks), decoder.flush(toks=toks[:, :3])]:
        assert not result.is_inference() and not result.requires_grad
    states = encoder.state_dict() | decoder.state_dict()
    assert not any(value.is_inference() for value in states.values())


def test_a_state_of_another_session_is_refused():
    codec = causal_codec()
    session = EncoderSession(codec)
    for other, message in [
        (EncoderSession(CAUSAL["25hz"]()), "this model"),
        (EncoderSession(codec, 2), "1 rows"),
        (DecoderSession(codec), "EncoderSession"),
        (EncoderSession(codec, sample_rate=8000), "these rates"),
    ]:
        with pytest.raises(UserError, match=message):
            session.load_state_dict(other.state_dict())
    with pytest.raises(UserError, match="batch_size"):
        EncoderSession(codec, 0)
    with pytest.raises(UserError, match="give a FocalCodec"):
        DecoderSession("demo")


def test_latency_and_memory():
    codec = causal_codec()
    assert EncoderSession(codec).latency == codec.latency == 80.0
    assert DecoderSession(codec).latency == 0.0
    assert 80.0 < EncoderSession(codec, sample_rate=48000).latency < 82.0
    state = EncoderSession(codec).state_dict()
    half = EncoderSession(codec, state_dtype=torch.float16).state_dict()
    size = sum(x.nbytes for name, x in state.items() if "ring" in name)
    assert sum(x.nbytes for name, x in half.items() if "ring" in name) * 2 == size


def filled(toks: Tensor, pattern: list[int]) -> Tensor:
    """Toks (1, N) with others of them at these places from 8 on."""
    toks = toks.clone()
    toks[:, 8 : 8 + len(pattern)] = toks[:, pattern]
    return toks


@pytest.mark.parametrize(
    ("size", "waits", "pattern"),
    [
        (4, True, [7, 7, 12, 12]),
        (3, True, [7, 7, 11]),
        (1, True, [7]),
        (4, False, [7, 7, 7, 7]),
    ],
)
def test_a_lost_token_is_the_nearest_known_one(size, waits, pattern):
    """With a causal codec only if the tokens after the loss are given; a short loss is not soft."""
    codec, toks = causal_codec(), tokens(1, 20)
    session = DecoderSession(codec)
    audio = [session.push(toks[:, :8])]
    rest = toks[:, 8 + size :]
    audio.append(session.conceal(size, following=rest if waits else None))
    audio += [session.push(rest), session.flush()]
    expected = codec.decode(filled(toks, pattern))
    torch.testing.assert_close(torch.cat(audio, dim=1), expected, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(("size", "pattern"), [(4, [7, 7, 12, 12]), (3, [7, 7, 11])])
def test_windows_wait_for_tokens_after_a_loss(size, pattern):
    codec, toks = golden_codec("tiny_50hz"), tokens(1, 40)
    session, other = DecoderSession(codec), DecoderSession(codec)
    audio = [session.push(toks[:, :8]), session.conceal(size), session.push(toks[:, 8 + size :])]
    expected = [other.push(filled(toks, pattern)), other.flush()]
    result = torch.cat([*audio, session.flush()], dim=1)
    torch.testing.assert_close(result, torch.cat(expected, dim=1), atol=1e-5, rtol=0.0)


def test_the_level_falls_after_80_ms_and_rises_slowly():
    codec, toks = causal_codec(), tokens(1, 40)
    session, other = DecoderSession(codec), DecoderSession(codec)
    session.push(toks[:, :8])
    other.push(toks[:, :8])
    hop, last = 480, toks[:, 7:8].expand(-1, 24)
    lost = torch.cat([session.conceal(4) for _ in range(6)], dim=1)
    gains = [lost / other.push(last), session.push(toks[:, 8:]) / other.push(toks[:, 8:])]
    # at the end of each token
    gain = torch.cat(gains, dim=1)[0, hop - 1 :: hop]
    expected = [0.5 ** (max(0, place - 4) / 4) for place in range(1, 25)]
    expected += [min(1.0, 0.5**5 * 4.0**place) for place in range(1, 33)]
    torch.testing.assert_close(gain, torch.tensor(expected), atol=1e-3, rtol=1e-2)


def test_a_stream_that_begins_with_a_loss_is_silent_at_first():
    codec, toks = causal_codec(), tokens(1, 12)
    session = DecoderSession(codec)
    assert not session.conceal(4, following=toks).any()
    assert session.push(toks)[:, 5 * 480 :].any()
    window = DecoderSession(golden_codec("tiny_50hz"))
    sig = torch.cat([window.conceal(4), window.push(toks), window.flush()], dim=1)
    assert sig.shape == (1, 16 * 320) and not sig[:, : 4 * 320].any() and sig[:, 2800:].any()


def test_following_tokens_are_of_the_rows_that_lost_some():
    codec, toks = causal_codec(), tokens(2, 12)
    session, other = DecoderSession(codec, 2), DecoderSession(codec, 2)
    session.push(toks[:, :8])
    other.push(toks[:, :8])
    for wrong, message in [(torch.tensor([1]), "shape"), (torch.full((2, 1), 512), "token 512")]:
        with pytest.raises(UserError, match=message):
            session.conceal(4, following=wrong)
    audio, lengths = session.conceal(4, rows=[True, False], following=toks[:, 8:])
    alone = other.conceal(4, following=toks[:, 8:])
    assert lengths.tolist() == [1920, 0]
    torch.testing.assert_close(audio[0], alone[0], atol=1e-6, rtol=0.0)


def test_tokens_are_lost_before_a_window_is_full():
    """A codec that is not causal has no audio yet: nothing is scaled."""
    session = DecoderSession(golden_codec("tiny_50hz"))
    audio = [session.push(torch.zeros(1, 4, dtype=torch.int64)), session.conceal(4)]
    audio.append(session.push(torch.zeros(1, 4, dtype=torch.int64)))
    audio.append(session.flush())
    assert sum(sig.shape[1] for sig in audio) == 12 * 320


def test_lost_tokens_fade_and_leave_no_jump():
    codec = causal_codec()
    toks = tokens(2, 80)
    session = DecoderSession(codec, 2)
    before = session.push(toks[:, :40])
    lost = torch.cat([session.conceal(4) for _ in range(6)], dim=1)
    after = session.push(toks[:, 40:])
    assert lost.shape[1] == 6 * 1920
    level = [part.square().mean().sqrt() for part in (before, lost[:, -1920:], after[:, 480:])]
    assert level[1] < 0.05 * level[0] and level[2] > 0.5 * level[0]
    one, lengths = DecoderSession(codec, 2).conceal(4, rows=[True, False])
    assert one.abs().max() < 1.0 and lengths.tolist() == [1920, 0]
