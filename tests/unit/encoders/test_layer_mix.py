"""Several layers as one stream of feats."""

from __future__ import annotations

import pytest
import torch

from focalcodec.encoders.layer_mix import LayerMix
from focalcodec.errors import UserError


def test_mix_is_the_principal_components_of_the_standardised_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(500, 2, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    frames = frames * torch.tensor([1.0, 100.0])[:, None] + 7
    mix = LayerMix(num_layers=2, dim=6, components=3)
    mix.fit(frames.split(100))
    feats = mix([frames[None, :, 0], frames[None, :, 1]])[0]
    mean = ((frames - frames.mean(0)) / frames.std(0)).mean(dim=1)
    values, vectors = torch.linalg.eigh(torch.cov(mean.T))
    expected = mean @ vectors.flip(1)[:, :3]
    expected = expected / expected.square().mean().sqrt()
    torch.testing.assert_close(feats.abs(), expected.abs(), atol=1e-3, rtol=1e-3)
    assert feats.square().mean() == pytest.approx(1, abs=1e-3)
    kept = feats.var(dim=0)
    torch.testing.assert_close(kept / kept[0], values.flip(0)[:3] / values[-1], atol=1e-3, rtol=0)


def test_mix_refuses_what_it_can_not_fit() -> None:
    with pytest.raises(UserError, match="components=7: give 1 to 6"):
        LayerMix(1, 6, 7)
    for frames in (torch.ones(9, 1, 2), torch.full((9, 1, 2), torch.nan)):
        with pytest.raises(UserError, match="9 frames: a channel of a layer never changes there"):
            LayerMix(1, 2, 2).fit([frames])
