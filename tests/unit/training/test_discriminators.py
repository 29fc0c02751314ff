from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d, pad
from torch.nn.utils.parametrize import is_parametrized

from focalcodec.errors import UserError
from focalcodec.training.discriminators import (
    PERIODS,
    Discriminators,
    PeriodDiscriminator,
    ScaleDiscriminator,
)


def test_paper_size():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in Discriminators().parameters())
    assert count == 70_724_591  # 70.7 M, as HiFi-GAN's two discriminators


def test_widths_and_groups_of_the_paper():
    with torch.device("meta"):
        period, scale = PeriodDiscriminator(2), ScaleDiscriminator()
    assert [conv.out_channels for conv in period.convs] == [32, 128, 512, 1024, 1024]
    assert [conv.out_channels for conv in scale.convs] == [128, 128, 256, 512, 1024, 1024, 1024]
    assert [conv.groups for conv in scale.convs] == [1, 4, 16, 16, 16, 16, 1]


@pytest.mark.parametrize("divisor", [8, 16, 32])
def test_eight_scores_and_54_maps_of_every_size(divisor):
    scores, maps = Discriminators(divisor)(torch.randn(2, 7040))
    assert [len(one) for one in maps] == [6] * 5 + [8] * 3
    assert all(x.shape[0] == 2 for one in maps for x in one)
    assert all(
        torch.equal(score.flatten(), one[-1].flatten())
        for score, one in zip(scores, maps, strict=True)
    )
    assert [score.shape[1] for score in scores[:5]] == list(PERIODS)
    assert [score.shape for score in scores[5:]] == [(2, 110), (2, 56), (2, 28)]


@pytest.mark.parametrize("period", PERIODS)
def test_columns_as_batch_items_equal_two_dimensional_convolution(period):
    torch.manual_seed(0)
    discriminator = PeriodDiscriminator(period, channel_divisor=32)
    sig = torch.randn(3, 701)
    _, maps = discriminator(sig)
    x = pad(sig[:, None], (0, -701 % period), mode="reflect").view(3, 1, -1, period)
    for conv, got in zip([*discriminator.convs, discriminator.to_score], maps, strict=True):
        stride, padding = (conv.stride[0], 1), (conv.padding[0], 0)
        x = conv2d(x, conv.weight[..., None], conv.bias, stride, padding)
        if conv is not discriminator.to_score:
            x = torch.where(x > 0, x, 0.1 * x)
        torch.testing.assert_close(got, x.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)


def test_items_do_not_mix():
    torch.manual_seed(0)
    discriminators = Discriminators(32).eval()
    sig = torch.randn(3, 1000)
    together, alone = discriminators(sig)[0], discriminators(sig[1:2])[0]
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:2], one, atol=1e-6, rtol=1e-4)


def test_norms():
    discriminators = Discriminators(32)
    kinds = {
        type(conv.parametrizations.weight[0]).__name__
        for conv in [*discriminators.scales[0].convs, discriminators.scales[0].to_score]
    }
    assert kinds == {"_SpectralNorm"}
    convs = [
        m for m in discriminators.modules() if hasattr(m, "kernel_size") and hasattr(m, "bias")
    ]
    assert len(convs) == 54 and all(is_parametrized(conv, "weight") for conv in convs)


def test_gradient_reaches_every_parameter_and_the_signal():
    discriminators = Discriminators(32)
    sig = torch.randn(2, 1000, requires_grad=True)
    sum(score.mean() for score in discriminators(sig)[0]).backward()
    assert all(parameter.grad is not None for parameter in discriminators.parameters())
    assert sig.grad.abs().sum() > 0


def test_state_comes_back():
    torch.manual_seed(0)
    first, second = Discriminators(32), Discriminators(32)
    sig = torch.randn(2, 640)
    first(sig)  # one power iteration of the spectral norm
    second.load_state_dict(first.state_dict())
    for a, b in zip(first(sig)[0], second(sig)[0], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("divisor", [0, -1, 3, 64])
def test_other_divisors_are_refused(divisor):
    with pytest.raises(UserError, match=f"channel_divisor={divisor}: give 1, 2, 4, 8, 16 or 32"):
        Discriminators(divisor)


def test_scales_can_be_left_out():
    scores, maps = Discriminators(32, num_scales=0)(torch.randn(2, 1000))
    assert (len(scores), sum(map(len, maps))) == (5, 5 * 6)


def test_periods_can_be_others():
    scores, _ = Discriminators(32, periods=[13], num_scales=0)(torch.randn(2, 1000))
    assert [score.shape[:2] for score in scores] == [(2, 13)]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"periods": [], "num_scales": 0}, "no discriminator is left"),
        ({"periods": [3, 0]}, r"periods=\[3, 0\]: give numbers of samples"),
        ({"num_scales": 4}, "num_scales=4: give 0, 1, 2 or 3"),
    ],
)
def test_other_periods_and_scales_are_refused(knobs, message):
    with pytest.raises(UserError, match=message):
        Discriminators(32, **knobs)
