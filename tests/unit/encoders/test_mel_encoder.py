"""The small encoder: padding, lengths, reach, windows, number formats, gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from focalcodec import FocalCodec
from focalcodec.bsq import BinarySphericalQuantizer
from focalcodec.encoders.logmel import MelEncoder
from focalcodec.errors import UserError
from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.long_audio import Context, part_context
from focalcodec.long_audio.coding import encode_blocks, feats_blocks
from focalcodec.precision import set_precision
from focalcodec.vocos import Vocos

SIZES = {"output_dim": 8, "num_layers": 2, "dim": 16, "ffn_dim": 24}


def encoder_of(**changes: int) -> MelEncoder:
    torch.manual_seed(0)
    encoder = MelEncoder(**(SIZES | changes))
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5 if parameter.dim() == 1 else 0.2)
    return encoder.eval()


@pytest.fixture(scope="module")
def codec() -> FocalCodec:
    torch.manual_seed(0)
    codec = FocalCodec(
        encoder_of(),
        FocalEncoder(8, 6, [16, 8], [1, 1]),
        BinarySphericalQuantizer(64),
        FocalDecoder(6, 8, [8, 16], [1, 1]),
        Vocos(8, num_layers=1, dim=8, ffn_dim=8),
    )
    for name, parameter in codec.compressor.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1.2 / parameter[0].numel() ** 0.5)
        if "modulation.in_proj" in name:  # no mean over time: windows give what the whole gives
            parameter.data[-1:] = 0.0
    return codec.eval()


@pytest.fixture(scope="module")
def sig() -> Tensor:
    noise = torch.randn(1, 16000 * 12 + 77, generator=torch.Generator().manual_seed(1))
    time = torch.arange(noise.shape[1]) / 16000
    pitch = torch.sin(2 * torch.pi * (200 * time + 90 * torch.sin(3 * time)))
    return 0.2 * (pitch + 0.1 * noise) * torch.sin(4 * time).square()


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_a_clip_is_the_same_alone_and_in_a_batch(training: bool, sig: Tensor) -> None:
    encoder = encoder_of().train(training)
    lengths = torch.tensor([9000, 8801, 4321, 160, 1])
    clips = sig[0, : 5 * 9000].view(5, 9000)
    padded = torch.where(torch.arange(9000) < lengths[:, None], clips, torch.nan)
    feats, frames = encoder(padded, lengths=lengths)
    assert frames.tolist() == [29, 28, 14, 1, 1] and feats.shape == (5, 29, 8)
    for row, clip, samples, length in zip(feats, clips, lengths, frames, strict=True):
        alone, one = encoder.run(clip[None, :samples])
        assert one.tolist() == [alone.shape[1]] == [length]
        torch.testing.assert_close(row[:length], alone[0], atol=1e-6, rtol=1e-5)
        assert not row[length:].any()


def test_lengths_are_exact() -> None:
    encoder = encoder_of()
    lengths = torch.arange(1, 2001)
    expected = encoder.output_lengths(lengths)
    assert torch.equal(expected, torch.ceil(lengths / 320).long())
    for samples in (1, 159, 160, 161, 319, 320, 321, 480, 481, 640, 641, 1999, 2000):
        feats, frames = encoder.run(torch.zeros(1, samples))
        assert feats.shape[1] == int(frames) == int(expected[samples - 1])
        assert torch.isfinite(feats).all()
    with pytest.raises(UserError, match=r"sig: \(9,\) torch.float32; give floats of shape"):
        encoder.run(torch.zeros(9))
    with pytest.raises(UserError, match="torch.int16; give floats of shape"):
        encoder.run(torch.zeros(1, 9, dtype=torch.int16))


@pytest.mark.parametrize("sizes", [{}, {"n_fft": 1024}, {"n_fft": 400, "kernel_size": 4}])
def test_reach_equals_that_of_a_perturbation(sizes: dict[str, int], sig: Tensor) -> None:
    encoder, frame = encoder_of(**sizes).double(), 50
    context = part_context(encoder)
    x = sig[:, :32000].double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(encoder.run(x)[0][0, frame].sum(), x)
    seen = gradient[0].abs().nonzero().flatten() // 320
    left, right = frame - int(seen[0]), int(seen[-1]) - frame
    assert context == Context(left, right)
    with torch.no_grad():
        before = encoder.run(x)[0]
        for first, last in ((frame - left, frame), (frame - left - 1, frame - left)):
            changed = x.detach().clone()
            changed[:, first * 320 : last * 320] += 1.0
            same = torch.equal(encoder.run(changed)[0][0, frame], before[0, frame])
            assert same is (last == frame - left)


def test_default_reach() -> None:
    assert part_context(MelEncoder(256)) == Context(1 + 7 * 3, 1 + 7 * 3)


@torch.no_grad()
@pytest.mark.parametrize("window_seconds", [4.0, 7.3])
def test_windows_give_the_tokens_of_the_whole(
    codec: FocalCodec, sig: Tensor, window_seconds: float
) -> None:
    whole, _ = codec.encode(sig, 16000)
    pieces = list(encode_blocks(codec, sig[0].split(5000), 16000, window_seconds))
    assert len(pieces) > 1 and len(whole.unique()) > 8
    assert torch.equal(torch.cat(pieces), whole[0])
    feats = torch.cat(list(feats_blocks(codec, [sig[0]], 16000, window_seconds)))
    torch.testing.assert_close(feats, codec.sig_to_feats(sig)[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_number_formats(codec: FocalCodec, sig: Tensor) -> None:
    exact = codec.sig_to_feats(sig)
    rounded = set_precision(copy.deepcopy(codec), "bf16")
    assert rounded.encoder.spectrogram.bands.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        mixed = codec.sig_to_feats(sig)
        assert codec.encode(sig, 16000)[0].dtype == torch.int64
    feats = rounded.sig_to_feats(sig)
    assert feats.dtype == torch.bfloat16
    for other in (mixed, feats):
        assert (other.float() - exact).norm() < 0.1 * exact.norm()
    toks, lengths = rounded.encode(sig, 16000)
    assert torch.isfinite(rounded.decode(toks, lengths)).all()
    double = copy.deepcopy(codec).double().sig_to_feats(sig.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), exact, atol=1e-4, rtol=0)


def test_gradients_reach_every_weight(sig: Tensor) -> None:
    encoder = encoder_of().train()
    lengths = torch.tensor([9000, 4321])
    feats, _ = encoder.run(sig[0, :18000].view(2, 9000), lengths)
    feats.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_in_a_codec_folder(codec: FocalCodec, sig: Tensor, tmp_path) -> None:
    codec.save_pretrained(tmp_path)
    again = FocalCodec.from_pretrained(tmp_path)
    assert isinstance(again.encoder, MelEncoder) and again.encoder.config == codec.encoder.config
    assert torch.equal(again.encode(sig, 16000)[0], codec.encode(sig, 16000)[0])


def test_at_most_four_million_parameters() -> None:
    with torch.device("meta"):
        recipe = MelEncoder(256, num_layers=6, dim=256, ffn_dim=640)
    assert sum(parameter.numel() for parameter in recipe.parameters()) <= 4_000_000
