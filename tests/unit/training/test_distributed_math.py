"""The losses and gradients of a split batch, without starting processes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from focalcodec.training import distributed
from focalcodec.training.distributed import (
    average,
    broadcast_state,
    global_sum,
    seed_step,
    sum_gradients,
)


def test_one_process_changes_nothing() -> None:
    module = nn.Linear(2, 2)
    x = torch.tensor(2.0, requires_grad=True)
    assert global_sum(x) is x
    before = [p.detach().clone() for p in module.parameters()]
    sum_gradients(module.parameters())
    broadcast_state(module)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(p.grad is None for p in module.parameters())


def test_mean_is_over_all_frames() -> None:
    total, count = torch.tensor(6.0, requires_grad=True), torch.tensor(4.0)
    mean, reported, frames = average(total, count)
    mean.backward()
    assert (mean.item(), reported, frames, total.grad.item()) == (1.5, 6.0, 4.0, 0.25)


def test_share_of_each_process_sums_to_the_whole_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two processes with two and one frames; the other one's sums are added by hand.
    x, weight = torch.tensor([1.0, 2.0, 5.0]), torch.tensor(0.5, requires_grad=True)
    whole = (weight * x).square().sum() / 3
    whole.backward()
    expected, weight.grad = weight.grad.clone(), None
    shares = [(x[:2], torch.tensor(2.0)), (x[2:], torch.tensor(1.0))]
    sums = {2.0: 1.0, 1.0: 2.0}
    monkeypatch.setattr(distributed, "process_count", lambda: 2)
    gradient = torch.zeros(())
    for (part, count), (other, _) in zip(shares, shares[::-1], strict=True):
        others = (weight.detach() * other).square().sum()

        def all_reduce(total, count=count, others=others) -> None:
            total += sums[float(total)] if total == count else others

        monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
        loss, _, frames = average((weight * part).square().sum(), count)
        assert frames == 3.0
        assert loss.item() == pytest.approx(whole.item())
        loss.backward()
        gradient += weight.grad
        weight.grad = None
    assert gradient.item() == pytest.approx(expected.item())


def test_unused_parameter_counts_as_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    used.grad = torch.tensor([1.0, 2.0])
    monkeypatch.setattr(distributed, "process_count", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda flat: flat.mul_(2))
    sum_gradients([used, frozen, unused])
    assert used.grad.tolist() == [2.0, 4.0]
    assert unused.grad.tolist() == [0.0] * 3
    assert frozen.grad is None


def test_draws_depend_on_seed_epoch_step_and_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*place: int) -> float:
        seed_step(*place)
        return torch.rand(()).item()

    here = draw(1, 2, 3)
    torch.rand(100)
    assert draw(1, 2, 3) == here
    others = [draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)]
    monkeypatch.setattr("focalcodec.training.distributed.process_rank", lambda: 1)
    assert len({here, *others, draw(1, 2, 3)}) == 5
