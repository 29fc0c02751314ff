"""CTC losses of batches equal those of each clip; a text that can't be aligned has none."""

from __future__ import annotations

import pytest
import torch

from focalcodec.probes.targets import ctc_losses, frames_needed


def test_ctc_loss_is_pytorchs_clip_by_clip() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(2, 6, 4).log_softmax(dim=2)
    losses, fits = ctc_losses(log_probs, torch.tensor([6, 4]), [[1, 2], [3]])
    assert fits.tolist() == [1, 1]
    for clip, (frames, text) in enumerate([(6, [1, 2]), (4, [3])]):
        alone = torch.nn.functional.ctc_loss(
            log_probs[clip, :frames, None], torch.tensor([text]), [frames], [len(text)]
        )
        assert losses[clip].item() == pytest.approx(alone.item(), rel=1e-5)


def test_a_text_longer_than_its_clip_has_no_loss() -> None:
    log_probs = torch.zeros(1, 3, 4).log_softmax(dim=2).requires_grad_()
    losses, fits = ctc_losses(log_probs, torch.tensor([3]), [[1, 1, 2]])
    assert fits.tolist() == [0]
    losses.sum().backward()
    assert frames_needed([1, 1, 2]) == 4 and losses.item() == 0 and not log_probs.grad.any()
