"""Learning rates that depend on the step."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def warmup_linear(
    optimizer: Optimizer, warmup_steps: int, total_steps: int, final_factor: float = 0.01
) -> LambdaLR:
    """Linear rise over `warmup_steps`, linear fall until `total_steps`, constant from there.

    Parameters
    ----------
    optimizer : Optimizer
        Its rates are the highest.
    warmup_steps, total_steps : int
        Steps of this optimiser.
    final_factor : float
        Share of the highest rate that is left at the end.

    Returns
    -------
    LambdaLR

    Example
    -------
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> scheduler = warmup_linear(optimizer, warmup_steps=2, total_steps=4, final_factor=0.0)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(optimizer.param_groups[0]["lr"])
    ...     optimizer.step()
    ...     scheduler.step()
    >>> rates
    [0.5, 1.0, 0.5, 0.0, 0.0]
    """

    def factor(step: int) -> float:
        rise = (step + 1) / max(1, warmup_steps)
        fall = (total_steps - step - 1) / max(1, total_steps - warmup_steps)
        return min(rise, max(fall, final_factor), 1.0)

    return LambdaLR(optimizer, factor)


def step_all(schedulers: Iterable[LRScheduler]) -> None:
    """Step schedules that count the run's steps, also those before an optimiser's first.

    Parameters
    ----------
    schedulers : iterable of LRScheduler
        A discriminator that begins late has one that torch would warn of.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for scheduler in schedulers:
            scheduler.step()
