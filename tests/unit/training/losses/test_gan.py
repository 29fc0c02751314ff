from __future__ import annotations

import pytest
import torch

from focalcodec.training.discriminators import Discriminators
from focalcodec.training.losses.gan import (
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 2, 9), (4, 7), (4, 3)]
    return [[2 * torch.randn(s, generator=generator) for s in shapes] for _ in range(2)]


def test_hinge_losses_equal_their_definition(scores):
    real, fake = scores
    zero = torch.zeros(())
    expected_d = sum(
        torch.maximum(zero, 1 - r).mean() + torch.maximum(zero, 1 + f).mean()
        for r, f in zip(real, fake, strict=True)
    )
    expected_g = sum(torch.maximum(zero, 1 - f).mean() for f in fake)
    torch.testing.assert_close(hinge_discriminator_loss(real, fake).mean(), expected_d)
    torch.testing.assert_close(hinge_generator_loss(fake).mean(), expected_g)


def test_feature_matching_weighs_maps_alike_whatever_their_size():
    real = [[torch.zeros(2, 3, 50), torch.zeros(2, 1)], [torch.zeros(2, 4)]]
    fake = [[torch.ones(2, 3, 50), torch.full((2, 1), 2.0)], [torch.full((2, 4), -3.0)]]
    assert feature_matching_loss(real, fake).tolist() == [2.0, 2.0]


def test_feature_matching_trains_the_generated_side_only():
    real, fake = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    feature_matching_loss([[real]], [[fake]]).sum().backward()
    assert real.grad is None
    assert fake.grad.abs().sum() > 0


def test_each_item_alone_gives_its_own_number():
    """Any split of a batch, over processes or steps, averages to the loss of the whole."""
    torch.manual_seed(0)
    discriminators = Discriminators(32).eval()
    sig, rec_sig = torch.randn(2, 3, 800)
    (real, real_maps), (fake, fake_maps) = discriminators(sig), discriminators(rec_sig)
    whole = torch.stack(
        [
            hinge_discriminator_loss(real, fake),
            hinge_generator_loss(fake),
            feature_matching_loss(real_maps, fake_maps),
        ]
    )
    for item in range(3):
        (r, r_maps), (f, f_maps) = (discriminators(x[item : item + 1]) for x in (sig, rec_sig))
        alone = [
            hinge_discriminator_loss(r, f),
            hinge_generator_loss(f),
            feature_matching_loss(r_maps, f_maps),
        ]
        torch.testing.assert_close(torch.stack(alone), whole[:, item : item + 1])


def test_different_numbers_of_discriminators_are_refused(scores):
    real, fake = scores
    with pytest.raises(ValueError):
        hinge_discriminator_loss(real, fake[:2])


def test_half_precision_scores_give_float32():
    score = torch.full((2, 4000), 0.1, dtype=torch.bfloat16)
    loss = hinge_generator_loss([score])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.full((2,), 0.9), atol=4e-3, rtol=0)


def test_nan_is_not_hidden():
    score = torch.tensor([[0.0], [float("nan")]])
    assert hinge_generator_loss([score]).isnan().tolist() == [False, True]
    assert hinge_discriminator_loss([score], [score]).isnan().tolist() == [False, True]
