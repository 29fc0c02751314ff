"""HiFi-GAN as a decoder: lengths, padding, context, other processes, configuration."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from focalcodec.blocks.hifigan import HiFiGAN
from focalcodec.blocks.residual import NormedConv1d
from focalcodec.errors import UserError
from focalcodec.long_audio import part_context
from focalcodec.parts import build_part


def small() -> HiFiGAN:
    torch.manual_seed(0)
    decoder = HiFiGAN(6, 16, [8, 5, 4, 2], [16, 11, 8, 4], [3, 5], [1, 3])
    for name, parameter in decoder.named_parameters():
        if not name.endswith("weight"):
            torch.nn.init.normal_(parameter, mean=0.3, std=0.3)
    return decoder.eval()


def test_sizes_are_those_of_v1() -> None:
    with torch.device("meta"):
        decoder = HiFiGAN()
    assert decoder.hop == 320 and decoder.sample_rate == 16000
    # V1 for 80 bands and rates 8, 8, 2, 2 has 13.9 M
    assert 15e6 < sum(p.numel() for p in decoder.parameters()) < 18e6


def test_padding_changes_nothing() -> None:
    decoder, feats = small(), torch.randn(2, 9, 6)
    feats[1, 4:] = float("nan")
    rec_sig, samples = decoder(feats, lengths=torch.tensor([9, 4]))
    assert rec_sig.shape == (2, 9 * 320) and samples.tolist() == [2880, 1280]
    alone, _ = decoder.run(feats[1:, :4])
    torch.testing.assert_close(rec_sig[1, :1280], alone[0], atol=1e-5, rtol=1e-4)
    assert (rec_sig[1, 1280:] == 0).all()
    torch.testing.assert_close(decoder(feats[:1])[0], rec_sig[:1], atol=1e-5, rtol=1e-4)


def test_context_is_a_bound() -> None:
    decoder = small().double()
    left, right = part_context(decoder).left, part_context(decoder).right
    frames = 2 * left + 5
    feats = torch.randn(1, frames, 6, dtype=torch.float64)
    other = feats.clone()
    other[:, left + 2] += 1
    changed = (decoder.run(feats)[0] != decoder.run(other)[0])[0].nonzero().flatten() // 320
    assert left + 2 - right <= changed.min() and changed.max() <= left + 2 + left
    assert changed.max() - changed.min() >= left  # not far above what is needed


def test_it_goes_to_other_processes_and_files() -> None:
    decoder, feats = small(), torch.randn(1, 3, 6)
    again = pickle.loads(pickle.dumps(decoder))
    assert torch.equal(again.run(feats)[0], decoder.run(feats)[0])
    made = build_part("decoder", "HiFiGAN", json.loads(json.dumps(decoder.config)))
    made.load_state_dict(decoder.state_dict())
    assert torch.equal(made.eval().run(feats)[0], decoder.run(feats)[0])


def test_samples_of_a_model_in_few_bits_are_float32() -> None:
    decoder, feats = small(), torch.randn(1, 3, 6)
    wanted = decoder.run(feats)[0]
    rec_sig = decoder.bfloat16().run(feats)[0]
    assert rec_sig.dtype == torch.float32 and rec_sig.abs().max() <= 1
    torch.testing.assert_close(rec_sig, wanted, atol=0.1, rtol=0.1)


def test_weight_norm_is_that_of_pytorch() -> None:
    conv = NormedConv1d(3, 4, 5)
    wanted = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 4, 5))
    wanted.parametrizations.weight.original1.data.copy_(conv.weight)
    torch.nn.init.uniform_(conv.scale, 0.5, 2.0)
    wanted.parametrizations.weight.original0.data.copy_(conv.scale)
    wanted.bias.data.copy_(conv.bias)
    x = torch.randn(2, 3, 9)
    torch.testing.assert_close(conv(x), wanted(x))


@pytest.mark.parametrize(
    "sizes", [{"rates": [8, 5]}, {"dim": 8}, {"rates": [8, 5, 4, 3]}, {"unit_kernels": [4]}]
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict) -> None:
    with pytest.raises(UserError, match="give"):
        HiFiGAN(6, **sizes)
