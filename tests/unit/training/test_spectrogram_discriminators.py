"""The discriminators of spectrograms."""

from __future__ import annotations

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.training.spectrogram_discriminators import (
    SpectrogramDiscriminator,
    SpectrogramDiscriminators,
)


def test_output_depends_on_the_whole_crop() -> None:
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


def test_one_for_each_window() -> None:
    several = SpectrogramDiscriminators([256, 512])
    scores, maps = several(torch.randn(2, 1000))
    assert [score.shape for score in scores] == [(2, 1, 16), (2, 1, 8)]
    assert [len(one) for one in maps] == [4, 4]
    assert all(name.startswith("spectrograms.") for name in several.state_dict())


def test_quiet_bins_count() -> None:
    """A tone that is 60 dB weaker than another one still changes the input of its bin."""
    seconds = torch.arange(4000) / 16000
    loud, quiet = (torch.sin(2 * torch.pi * f * seconds) for f in (500, 3000))
    discriminator = SpectrogramDiscriminator(512)
    one, both = (discriminator._spectrogram(x[None]) for x in (loud, loud + 1e-3 * quiet))
    assert (both - one).abs().max() > 0.5


@pytest.mark.parametrize(("window", "channels"), [(8, 4), (256, 0)])
def test_refuses_impossible_sizes(window: int, channels: int) -> None:
    with pytest.raises(UserError, match="at least 16 samples and one channel"):
        SpectrogramDiscriminator(window, channels)


@pytest.mark.parametrize(
    ("windows", "message"),
    [([], r"windows=\[\]: no discriminator is left"), ([8], "window=8.*at least 16 samples")],
)
def test_refuses_other_windows(windows: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpectrogramDiscriminators(windows)


def test_periods_may_be_beside_them() -> None:
    both = SpectrogramDiscriminators([64], periods=[2, 3], channel_divisor=32)
    scores, maps = both(torch.ones(2, 99))
    assert [len(each) for each in maps] == [4, 6, 6] and len(scores) == 3
    alone = SpectrogramDiscriminators([64])
    assert not any("periods" in name for name in alone.state_dict())
