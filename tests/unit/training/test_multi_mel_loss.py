"""The log-mel distance at several resolutions."""

from __future__ import annotations

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.training.mel_loss import MelLoss
from focalcodec.training.multi_mel_loss import MultiMelLoss


def _sigs(samples: int = 6000) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, samples), torch.randn(2, samples)


def test_is_the_mean_of_its_scales() -> None:
    rec_sig, sig = _sigs()
    scales = [MelLoss(16000, n, n, n // 4, bands) for n, bands in ((256, 20), (1024, 80))]
    expected = (scales[0](rec_sig, sig) + scales[1](rec_sig, sig)) / 2
    torch.testing.assert_close(MultiMelLoss([256, 1024], [20, 80])(rec_sig, sig), expected)


def test_padding_is_not_looked_at() -> None:
    rec_sig, sig = _sigs()
    lengths = torch.tensor([6000, 4100])
    loss = MultiMelLoss()
    alone = loss(rec_sig[1:, :4100], sig[1:, :4100])
    torch.testing.assert_close(loss(rec_sig, sig, lengths)[1:], alone)


def test_the_average_weighs_clips_by_their_samples() -> None:
    lengths = torch.tensor([5, 7])
    assert MultiMelLoss().output_lengths(lengths).equal(lengths)


@pytest.mark.parametrize(("windows", "bands"), [([], []), ([256], [20, 30])])
def test_refuses_windows_without_bands(windows: list[int], bands: list[int]) -> None:
    with pytest.raises(UserError, match=r"windows=.*as many"):
        MultiMelLoss(windows, bands)
