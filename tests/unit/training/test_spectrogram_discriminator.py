"""The discriminator of spectrograms, alone and among the others."""

from __future__ import annotations

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
    assert (len(scores), sum(map(len, maps))) == (10, 54 + 2 * 6)


def test_scales_can_be_left_out() -> None:
    scores, maps = Discriminators(32, num_scales=0, windows=[256])(torch.randn(2, 1000))
    assert (len(scores), sum(map(len, maps))) == (6, 5 * 6 + 6)


def test_none_of_them_changes_the_papers_weights() -> None:
    names = Discriminators(32).state_dict().keys()
    assert all(name.startswith(("periods", "scales")) for name in names)


@pytest.mark.parametrize(("window", "channels"), [(8, 4), (256, 0)])
def test_refuses_what_is_no_discriminator(window: int, channels: int) -> None:
    with pytest.raises(UserError, match="at least 16 samples and one channel"):
        SpectrogramDiscriminator(window, channels)


def test_refuses_other_numbers_of_scales() -> None:
    with pytest.raises(UserError, match="num_scales=4: give 0, 1, 2 or 3"):
        Discriminators(32, num_scales=4)
