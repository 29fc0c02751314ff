"""Losses between the vocoder and its discriminators.

Each returns one number per item. So the mean over the global batch is the sum of these numbers
divided by the number of items, for any number of processes or accumulated steps. There is no
argument `lengths`, because the signals are crops and all samples are valid. The data pipeline
leaves out clips that are shorter than a crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import relu


def hinge_discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Sum over discriminators of max(0, 1 - D(real)) + max(0, 1 + D(fake)).

    Source: Lim and Ye, arXiv 1705.02894; for Vocos, arXiv 2306.00814, section 3.3.

    Parameters
    ----------
    real, fake : sequence of Tensor
        Scores of the discriminators, (B, ...) each; the mean over positions is taken.

    Returns
    -------
    Tensor
        (B,).

    Example
    -------
    >>> hinge_discriminator_loss([torch.tensor([[2.0, 0.0]])], [torch.tensor([[-0.5, -2.0]])])
    tensor([0.7500])
    """
    terms = [
        _item_mean(relu(1 - r)) + _item_mean(relu(1 + f)) for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).sum(dim=0)


def hinge_generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """Sum over discriminators of max(0, 1 - D(fake)).

    Source: Vocos, arXiv 2306.00814, section 3.3: a score above 1 is no longer rewarded.

    Parameters
    ----------
    fake : sequence of Tensor
        Scores of the discriminators, (B, ...) each; the mean over positions is taken.

    Returns
    -------
    Tensor
        (B,).

    Example
    -------
    >>> hinge_generator_loss([torch.tensor([[-1.0], [2.0]]), torch.tensor([[0.5], [1.5]])])
    tensor([2.5000, 0.0000])
    """
    return torch.stack([_item_mean(relu(1 - score)) for score in fake]).sum(dim=0)


def feature_matching_loss(
    real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Mean over all feature maps of the L1 distance between real and generated.

    Source: HiFi-GAN, arXiv 2010.05646, equation 5; a mean, not a sum, over the maps.

    Parameters
    ----------
    real, fake : sequence of sequence of Tensor
        Feature maps of each discriminator, (B, ...) each. No gradient flows into `real`.

    Returns
    -------
    Tensor
        (B,).

    Example
    -------
    >>> real = [[torch.zeros(1, 2, 3)], [torch.zeros(1, 4)]]
    >>> feature_matching_loss(real, [[torch.ones(1, 2, 3)], [torch.full((1, 4), -3.0)]])
    tensor([2.])
    """
    terms = [
        _item_mean((f - r.detach()).abs())
        for real_maps, fake_maps in zip(real, fake, strict=True)
        for r, f in zip(real_maps, fake_maps, strict=True)
    ]
    return torch.stack(terms).mean(dim=0)


def _item_mean(x: Tensor) -> Tensor:
    # Autocast makes maps in half precision; their means are summed in float32.
    return x.flatten(1).float().mean(dim=1)
