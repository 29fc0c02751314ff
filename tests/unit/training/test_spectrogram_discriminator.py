"""The discriminator of spectrograms, alone and among the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.training.discriminators import Discriminators
from focalcodec.training.spectrogram_discriminator import SpectrogramDiscriminator


def test_sees_the_whole_crop() -> None:
    sig = torch.randn(1, 2000, requires_grad=True)
    score, _ = SpectrogramDiscriminator(256, channels=2)(sig)
    score.square().sum().backward()
    assert sig.grad is not None
    assert bool((sig.grad[0, 1:-1] != 0).all())


def test_each_signal_of_a_batch_is_scored_alone() -> None:
    discriminator, sig = SpectrogramDiscriminator(64, channels=4), torch.randn(3, 500)
    scores, _ = discriminator(sig)
    torch.testing.assert_close(discriminator(sig[1:2])[0], scores[1:2])


def test_the_last_map_is_the_score() -> None:
    score, maps = SpectrogramDiscriminator(64, channels=4)(torch.randn(1, 500))
    assert maps[-1] is score


def test_joins_the_papers_discriminators() -> None:
    scores, maps = Discriminators(32, windows=[256, 512])(torch.randn(2, 1000))
    assert (len(scores), sum(map(len, maps))) == (10, 54 + 2 * 4)


def test_scales_can_be_left_out() -> None:
    scores, maps = Discriminators(32, num_scales=0, windows=[256])(torch.randn(2, 1000))
    assert (len(scores), sum(map(len, maps))) == (6, 5 * 6 + 4)


def test_periods_can_be_left_out_or_be_others() -> None:
    scores, _ = Discriminators(32, periods=[], num_scales=0, windows=[256])(torch.randn(2, 1000))
    assert [score.shape for score in scores] == [(2, 1, 16)]
    scores, _ = Discriminators(32, periods=[13], num_scales=0)(torch.randn(2, 1000))
    assert [score.shape[:2] for score in scores] == [(2, 13)]


def test_quiet_bins_count() -> None:
    """A tone 60 dB below another changes what is seen of its bin."""
    seconds = torch.arange(4000) / 16000
    loud, quiet = (torch.sin(2 * torch.pi * f * seconds) for f in (500, 3000))
    discriminator = SpectrogramDiscriminator(512)
    one, both = (discriminator._spectrogram(x[None]) for x in (loud, loud + 1e-3 * quiet))
    assert (both - one).abs().max() > 0.5


def test_none_of_them_changes_the_papers_weights() -> None:
    names = Discriminators(32).state_dict().keys()
    assert all(name.startswith(("periods", "scales")) for name in names)


@pytest.mark.parametrize(("window", "channels"), [(8, 4), (256, 0)])
def test_refuses_what_is_no_discriminator(window: int, channels: int) -> None:
    with pytest.raises(UserError, match="at least 16 samples and one channel"):
        SpectrogramDiscriminator(window, channels)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"periods": [], "num_scales": 0}, "nothing is left to judge with"),
        ({"periods": [3, 0]}, r"periods=\[3, 0\]: give numbers of samples"),
        ({"windows": [8]}, "window=8.*at least 16 samples"),
    ],
)
def test_refuses_other_periods(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Discriminators(32, **knobs)


def test_refuses_other_numbers_of_scales() -> None:
    with pytest.raises(UserError, match="num_scales=4: give 0, 1, 2 or 3"):
        Discriminators(32, num_scales=4)
