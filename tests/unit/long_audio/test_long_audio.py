"""Recordings of any length: one window equals the whole pass, and seams are inaudible."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from focalcodec import FocalCodec, UserError
from focalcodec.audio import read_audio
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.data.corpus import embedded_corpus
from focalcodec.encoders.logmel import LogMel
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.long_audio import Context, part_context
from focalcodec.long_audio.coding import (
    WindowPlan,
    cut_windows,
    decode_blocks,
    decompress_blocks,
    encode_blocks,
    plan_windows,
    vocode_blocks,
)
from focalcodec.vocos import Vocos
from tests.unit.small_codecs import OFFLINE, golden_codec


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """Twenty seconds of one speaker."""
    clips = sorted((embedded_corpus("LibriSpeech") / "train-mini").glob("11/*/*.flac"))
    return torch.cat([read_audio(clip, 16000) for clip in clips])[: 20 * 16000]


def lively_codec(factors: tuple[int, ...] = (1, 1, 1)) -> FocalCodec:
    """Codec with random weights so large that speech gives hundreds of different tokens."""
    torch.manual_seed(2)  # separate pieces click at this one, so the test of seams sees them
    codec = FocalCodec(
        LogMel(),
        FocalEncoder(80, 13, [24, 16, 16], factors, focal_window=7, focal_factor=2),
        BinarySphericalQuantizer(8192),
        FocalDecoder(13, 80, [16, 16, 24], factors[::-1], focal_window=7, focal_factor=2),
        Vocos(80, num_layers=2, dim=16, ffn_dim=24),
    )
    for _, parameter in sorted(codec.named_parameters()):
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1.2 / parameter[0].numel() ** 0.5)
    return codec.eval().requires_grad_(False)


def without_mean(codec: FocalCodec) -> FocalCodec:
    """Copy of a codec whose focal blocks do not use the mean over time."""
    copy = FocalCodec.from_config(codec.config)
    copy.load_state_dict(codec.state_dict())
    for name, parameter in copy.named_parameters():
        if "modulation.in_proj" in name:
            parameter.data[-1:] = 0.0
    return copy.eval()


@pytest.mark.parametrize("name", OFFLINE)
def test_one_window_is_the_whole_pass(name: str, speech: Tensor) -> None:
    codec, sig = golden_codec(name), speech[:50001]
    toks, _ = codec.encode(sig[None], 16000)
    blocks = list(encode_blocks(codec, sig.split(7000), 16000))
    assert len(blocks) == 1 and torch.equal(blocks[0], toks[0])
    rec_sig = torch.cat(list(decode_blocks(codec, toks[0], len(sig))))
    assert torch.equal(rec_sig, codec.decode(toks, num_samples=len(sig))[0])


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 1, 1), (2, 2, 1)])
def test_convolutions_give_the_same_in_windows(factors: tuple[int, ...], speech: Tensor) -> None:
    """Without the mean over time only the edges of windows could change the output."""
    codec = without_mean(lively_codec(factors))
    toks, _ = codec.encode(speech[None], 16000)
    assert len(toks.unique()) > 100
    windowed = torch.cat(list(encode_blocks(codec, speech.split(5000), 16000, window_seconds=5.0)))
    assert torch.equal(windowed, toks[0])
    rec_sig = torch.cat(list(decode_blocks(codec, toks[0], len(speech), window_seconds=5.0)))
    whole = codec.decode(toks, num_samples=len(speech))[0]
    torch.testing.assert_close(rec_sig, whole, rtol=0.0, atol=1e-4 * float(whole.abs().max()))


def test_too_little_context_changes_the_tokens(
    speech: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control of the test above: with less than the receptive field the tokens differ."""
    codec = without_mean(lively_codec())
    toks, _ = codec.encode(speech[None], 16000)
    real = part_context

    def less(part: nn.Module):  # type: ignore[no-untyped-def]
        context = real(part)
        return type(context)(context.left // 3, context.right // 3, context.align)

    monkeypatch.setattr("focalcodec.long_audio.coding.part_context", less)
    windowed = torch.cat(list(encode_blocks(codec, [speech], 16000, window_seconds=2.0)))
    assert windowed.shape == toks[0].shape and not torch.equal(windowed, toks[0])


def test_causal_windows_begin_at_chunks(speech: Tensor) -> None:
    """A causal codec gives the same in windows that contain the reach of every layer."""
    codec = golden_codec("tiny_50hz_causal")
    assert part_context(codec.encoder).align == 4
    toks, _ = codec.encode(speech[None], 16000)
    windowed = torch.cat(list(encode_blocks(codec, [speech], 16000, window_seconds=8.0)))
    assert windowed.shape == toks[0].shape
    agreement = (windowed == toks[0]).float().mean()
    assert agreement > 0.99, "attention counts once, two layers reach a little further"
    rec_sig = torch.cat(list(decode_blocks(codec, toks[0], window_seconds=8.0)))
    whole = codec.decode(toks)[0]
    torch.testing.assert_close(rec_sig, whole, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 1)])
def test_no_clicks_at_seams(factors: tuple[int, ...], speech: Tensor) -> None:
    """A click is a large second difference: those at the seams are not larger than others."""
    codec = lively_codec(factors)
    toks = codec.encode(speech[None], 16000)[0][0]
    whole = codec.toks_to_sig(toks[None])[0]
    blocks = list(decode_blocks(codec, toks, window_seconds=4.0))
    cuts = torch.tensor([len(block) for block in blocks[:-1]]).cumsum(0).tolist()
    assert len(cuts) >= 4

    def seams_to_rest(sig: Tensor) -> float:
        jumps = (sig - whole).diff(n=2).abs()
        near = torch.cat([jumps[cut - 80 : cut + 80] for cut in cuts])
        return float(near.max() / jumps.quantile(0.999))

    assert seams_to_rest(torch.cat(blocks)) < 0.8
    samples_per_tok = 320 * codec.compressor.factor
    pieces = torch.tensor_split(toks, [cut // samples_per_tok for cut in cuts])
    hard = torch.cat([codec.toks_to_sig(piece[None])[0] for piece in pieces])
    assert seams_to_rest(hard) > 1.2, "the measure detects pieces that were decoded separately"


def test_features_of_windows_are_cross_faded(speech: Tensor) -> None:
    """From frame to frame the features do not change more than those of the whole pass."""
    codec = lively_codec()
    toks = codec.encode(speech[None], 16000)[0][0]
    qfeats = torch.cat(list(decompress_blocks(codec, toks, window_seconds=4.0)))
    whole = codec.toks_to_qfeats(toks[None])[0]
    assert qfeats.shape == whole.shape
    drift = (qfeats - whole).diff(dim=0).norm(dim=1)
    assert float(drift.max()) < 0.2 * float(whole.diff(dim=0).norm(dim=1).max())


def test_vocoder_windows_are_exact(speech: Tensor) -> None:
    codec = lively_codec()
    feats = codec.sig_to_feats(speech[None])[0]
    assert len(feats) == 1000
    whole = codec.feats_to_sig(feats[None])[0]
    sig = torch.cat(list(vocode_blocks(codec, feats.split(33), window_seconds=1.0)))
    torch.testing.assert_close(sig, whole, rtol=0.0, atol=1e-5 * float(whole.abs().max()))


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_length_is_exact_at_any_rate(sample_rate: int, speech: Tensor) -> None:
    codec, seconds = lively_codec(), 9.3
    toks = codec.encode(speech[None, : int(seconds * 16000)], 16000)[0][0]
    wanted = int(seconds * sample_rate)
    blocks = list(decode_blocks(codec, toks, wanted, sample_rate, window_seconds=4.0))
    assert sum(len(block) for block in blocks) == wanted


def test_bad_input_is_refused() -> None:
    codec = lively_codec()
    with pytest.raises(UserError, match="no samples"):
        list(encode_blocks(codec, [], 16000))
    with pytest.raises(UserError, match="NaN"):
        list(encode_blocks(codec, [torch.full((16000,), float("nan"))], 16000))
    with pytest.raises(UserError, match="toks"):
        list(decode_blocks(codec, torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(UserError, match="num_samples"):
        list(decode_blocks(codec, torch.zeros(5, dtype=torch.int64), num_samples=10**6))
    with pytest.raises(UserError, match="window_seconds=0.5"):
        list(encode_blocks(codec, [torch.zeros(16000)], 16000, window_seconds=0.5))


# -- windows over a stream ------------------------------------------------------------------------


@given(
    length=st.integers(1, 200),
    block=st.integers(1, 50),
    left=st.integers(0, 8),
    right=st.integers(0, 8),
    kept=st.integers(1, 20),
)
def test_every_frame_once_with_its_context(
    length: int, block: int, left: int, right: int, kept: int
) -> None:
    plan = WindowPlan(left + kept + right, left, right)
    frames: list[int] = []
    for items, start, stop in cut_windows(torch.arange(length).split(block), plan):
        window = items.tolist()
        assert len(window) <= plan.size
        for frame in window[start:stop]:
            assert window[0] <= max(0, frame - left)
            assert window[-1] >= min(length - 1, frame + right)
            frames.append(frame)
    assert frames == list(range(length))


@given(length=st.integers(1, 300), align=st.integers(1, 5), per_frame=st.integers(1, 4))
def test_windows_begin_at_multiples(length: int, align: int, per_frame: int) -> None:
    plan = plan_windows(Context(3, 2, align), frame_rate=1.0, window_seconds=25.0)
    for items, start, stop in cut_windows([torch.arange(length)], plan, per_frame):
        assert int(items[0]) % (align * per_frame) == 0
        assert start % align == 0 and (stop is None or stop % align == 0)


def test_sizes_are_multiples_and_hold_the_context() -> None:
    plan = plan_windows(Context(30, 29, align=4), frame_rate=50.0, window_seconds=10.0)
    assert plan == WindowPlan(size=500, left=32, right=32)


def test_a_short_stream_is_one_window() -> None:
    plan = WindowPlan(10, 3, 3)
    (window,) = cut_windows(torch.arange(10).split(3), plan)
    assert window.items.tolist() == list(range(10)) and (window.start, window.stop) == (0, None)
    assert len(list(cut_windows([torch.arange(11)], plan))) == 2


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1.2, float("nan"), float("inf")])
def test_a_window_of_context_alone_is_refused(seconds: float) -> None:
    with pytest.raises(UserError, match="this model needs 1.2 s of context; give 2 or more"):
        plan_windows(Context(30, 30), frame_rate=50.0, window_seconds=seconds)
