"""The small encoder as a causal one: steps, padding, the chunk, windows, official calls."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.logmel import MelEncoder
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.long_audio.coding import encode_blocks
from focalcodec.streaming import DecoderSession, EncoderSession
from focalcodec.vocos import Vocos

CHUNK = 1280
CAUSAL = {"causal": True, "window_size": 9, "focal_window": 3}


def encoder_of(**changes: int) -> MelEncoder:
    torch.manual_seed(0)
    sizes = {"output_dim": 8, "num_layers": 2, "dim": 16, "ffn_dim": 24, "causal": True}
    encoder = MelEncoder(**(sizes | changes))
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5 if parameter.dim() == 1 else 0.2)
    return encoder.eval()


@pytest.fixture(scope="module")
def encoder() -> MelEncoder:
    return encoder_of()


@pytest.fixture(scope="module")
def codec(encoder: MelEncoder) -> FocalCodec:
    torch.manual_seed(0)
    codec = FocalCodec(
        encoder,
        FocalEncoder(8, 6, [16, 8], [1, 1], **CAUSAL),
        BinarySphericalQuantizer(64),
        FocalDecoder(6, 8, [8, 16], [1, 1], **CAUSAL, last_window_size=9, refiner_dim=5),
        Vocos(8, num_layers=1, dim=8, ffn_dim=8, n_fft=320, causal=True),
    )
    for parameter in codec.compressor.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1.2 / parameter[0].numel() ** 0.5)
    return codec.eval()


def noise(samples: int, rows: int = 1) -> Tensor:
    """Noise whose level and colour change, so that tokens do."""
    sig = torch.randn(rows, samples + 9, generator=torch.Generator().manual_seed(samples))
    time = torch.arange(samples) / 16000
    smooth = sig.unfold(1, 10, 1).mean(dim=2)
    colour = torch.sin(17 * time).square()
    return 0.3 * torch.sin(11 * time) * (colour * smooth + (1 - colour) * sig[:, 9:])


@torch.no_grad()
@settings(max_examples=20, deadline=None)
@given(chunks=st.lists(st.integers(1, 3), min_size=1, max_size=4), rest=st.integers(0, CHUNK - 1))
def test_steps_give_what_the_whole_gives(encoder: MelEncoder, chunks: list[int], rest: int) -> None:
    sig = noise(CHUNK * sum(chunks) + rest, rows=2)
    pieces = sig.split([CHUNK * count for count in chunks] + ([rest] if rest else []), dim=1)
    state, feats = None, []
    for piece in pieces:
        before = copy.deepcopy(state)
        more, after = encoder.step(piece, state)
        if state is not None:  # not changed
            assert all(map(torch.equal, before.contexts, state.contexts))
        feats.append(more)
        state = after
    whole, lengths = encoder.run(sig)
    assert lengths.tolist() == [whole.shape[1]] * 2 == [-(-sig.shape[1] // 320)] * 2
    torch.testing.assert_close(torch.cat(feats, dim=1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_a_clip_is_the_same_alone_and_in_a_batch(training: bool) -> None:
    encoder = encoder_of().train(training)
    lengths = torch.tensor([9000, 8801, 4321, 160, 1])
    clips = noise(9000, rows=5)
    padded = torch.where(torch.arange(9000) < lengths[:, None], clips, torch.nan)
    feats, frames = encoder(padded, lengths=lengths)
    assert frames.tolist() == [29, 28, 14, 1, 1] and feats.shape == (5, 29, 8)
    for row, clip, samples, length in zip(feats, clips, lengths, frames, strict=True):
        alone, _ = encoder.run(clip[None, :samples])
        torch.testing.assert_close(row[:length], alone[0], atol=1e-6, rtol=1e-5)
        assert not row[length:].any()


@torch.no_grad()
@pytest.mark.parametrize("lookahead", [0, 3])
def test_a_frame_depends_on_its_chunk_but_on_nothing_after_it(lookahead: int) -> None:
    encoder, chunk = encoder_of(lookahead_size=lookahead), 320 * (1 + lookahead)
    assert encoder.chunk_size == chunk
    sig = noise(6 * CHUNK)
    before = encoder.run(sig)[0]
    changed = sig.clone()
    changed[:, 3 * CHUNK - 1] += 1.0  # the last sample of a chunk
    same = (encoder.run(changed)[0] == before).all(dim=2)[0]
    first = 3 * 4 - 1 - lookahead
    assert same[:first].all() and not same[first : 3 * 4].any()


@torch.no_grad()
@pytest.mark.parametrize("window_seconds", [1.5, 2.3])
def test_windows_give_the_tokens_of_the_whole(codec: FocalCodec, window_seconds: float) -> None:
    sig = noise(16000 * 6 + 77)
    whole, _ = codec.encode(sig, 16000)
    pieces = list(encode_blocks(codec, sig[0].split(5000), 16000, window_seconds))
    assert len(pieces) > 1 and len(whole.unique()) > 4
    assert torch.equal(torch.cat(pieces), whole[0])


@torch.no_grad()
def test_in_a_codec(codec: FocalCodec, tmp_path) -> None:
    assert codec.causal and codec.latency == 80.0 and codec.chunk_size == CHUNK
    codec.save_pretrained(tmp_path)
    again = FocalCodec.from_pretrained(tmp_path)
    sig = noise(5 * CHUNK + 200)
    toks = again.sig_to_toks(sig)
    assert torch.equal(toks, codec.sig_to_toks(sig))
    assert torch.equal(again.toks_to_sig(toks), codec.toks_to_sig(toks))
    # the official calls, chunk by chunk
    states: list = [(), ()], [(), ()]
    pieces, waves = [], []
    for piece in sig.split(CHUNK, dim=1):
        more, *states[0][:] = codec.sig_to_toks(piece, *states[0], return_state=True)
        wave, *states[1][:] = codec.toks_to_sig(more, *states[1], return_state=True)
        pieces.append(more)
        waves.append(wave)
    assert torch.equal(torch.cat(pieces, dim=1), toks)
    torch.testing.assert_close(torch.cat(waves, dim=1), codec.toks_to_sig(toks))


@torch.no_grad()
def test_sessions(codec: FocalCodec) -> None:
    """Streams of any pieces give what the whole gives."""
    sig = noise(3 * 16000 + 77, rows=2)
    toks = codec.sig_to_toks(sig)
    encoder, decoder = EncoderSession(codec, batch_size=2), DecoderSession(codec, batch_size=2)
    pushed = [encoder.push(piece) for piece in sig.split(3001, dim=1)] + [encoder.flush()]
    assert torch.equal(torch.cat(pushed, dim=1), toks)
    waves = [decoder.push(piece) for piece in toks.split(3, dim=1)] + [decoder.flush()]
    rec_sig = torch.cat(waves, dim=1)
    torch.testing.assert_close(rec_sig, codec.toks_to_sig(toks), atol=1e-5, rtol=0)


@torch.no_grad()
def test_as_torchscript(encoder: MelEncoder) -> None:
    scripted, sig = torch.jit.script(encoder), noise(4 * CHUNK, rows=2)
    first = scripted(sig[:, :CHUNK])
    second = scripted(sig[:, CHUNK:], *first[1:])
    feats = torch.cat([first[0], second[0]], dim=1)
    torch.testing.assert_close(feats, encoder.run(sig)[0], atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_weight() -> None:
    encoder = encoder_of().train()
    feats, _ = encoder.run(noise(9000, rows=2), torch.tensor([9000, 4321]))
    feats.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_configuration_of_an_offline_one_is_that_of_before() -> None:
    assert "causal" not in MelEncoder(8).config
    config = encoder_of(lookahead_size=1).config
    assert config["causal"] and MelEncoder(**config).config == config
    assert "refiner_dim" not in FocalDecoder(6, 8, [8], [1], causal=True).config


def test_refusals(encoder: MelEncoder) -> None:
    with pytest.raises(UserError, match="causal: False"):
        MelEncoder(8, num_layers=1, dim=4, ffn_dim=4).step(noise(CHUNK))
    with pytest.raises(UserError, match="left_contexts: 1 states; give the 4"):
        encoder(noise(CHUNK), None, [torch.zeros(1, 352, 1)])
    with pytest.raises(UserError, match="sig: "):
        encoder.step(torch.zeros(9))
