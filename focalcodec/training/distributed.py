"""Training with several processes that gives the same result as one process.

Every loss is a sum over the valid frames of the global batch divided by their number; the entropy
of the codebook, which is not a mean over items, is also computed over the global batch. Each
process computes the value of the global loss and the gradient of its own share; gradients are then
summed. This is correct for any split of a batch, needs no wrapper around the modules, and allows
any number of calls of a GAN's discriminator.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from focalcodec.data.randomness import stable_seed

T = TypeVar("T")


def process_count() -> int:
    """Number of processes that train together.

    Example
    -------
    >>> process_count()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Index of this process.

    Example
    -------
    >>> process_rank()
    0
    """
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def leave_together() -> None:
    """Wait for all processes, then close their group: if one exits early, the others fail.

    Once in a process: a second group would read the addresses of the first one and hang or abort.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Set the random state of this process from the step alone.

    So a resumed run has the same random numbers as a run without interruption, on every process.

    Parameters
    ----------
    seed, epoch, step : int
        The run's seed and its position.
    """
    torch.manual_seed(stable_seed(seed, "step", epoch, step, process_rank()))


def gather_objects(mine: T) -> list[T]:
    """Objects of all processes, in the order of their indices.

    Example
    -------
    >>> gather_objects({"clip": 1.0})
    [{'clip': 1.0}]
    """
    if process_count() == 1:
        return [mine]
    shares: list[Any] = [None] * process_count()
    dist.all_gather_object(shares, mine)
    return shares


def global_sum(x: Tensor) -> Tensor:
    """Sum over processes; only this process' share gets a gradient.

    Parameters
    ----------
    x : Tensor
        Any shape, the same on every process.

    Returns
    -------
    Tensor
        Same shape. With gradients summed by `sum_gradients`, any function of it has the gradient
        that one process with the whole batch would compute.

    Example
    -------
    >>> global_sum(torch.tensor(2.0))
    tensor(2.)
    """
    if process_count() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return x + (total - x.detach())


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum gradients over processes, in place, in one message.

    Parameters
    ----------
    parameters : iterable of Parameter
        In the same order on every process; a missing gradient counts as zero.
    """
    if process_count() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    for p in trained:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    grads = [p.grad for p in trained if p.grad is not None]
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    dist.all_reduce(flat)
    for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def broadcast_state(module: nn.Module) -> None:
    """Copy the first process' parameters and buffers to every process.

    Parameters
    ----------
    module : Module
        Changed in place.
    """
    if process_count() == 1:
        return
    with torch.no_grad():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


def average(total: Tensor, count: Tensor) -> tuple[Tensor, float, float]:
    """Mean over the frames of all processes, and the sum and count to report.

    Parameters
    ----------
    total, count : Tensor
        Two scalars (): this process' sum over valid frames, and the number of these frames.

    Returns
    -------
    Tensor, float, float
        Mean, with this process' share of the gradient; global sum; global count.
    """
    global_count = global_sum(count.detach())
    global_total = global_sum(total)
    return global_total / global_count, float(global_total.detach()), float(global_count)
