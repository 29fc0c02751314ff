"""Optimisers and their learning rates."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import SimpleNamespace

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from focalcodec.errors import UserError


def warmup_linear(
    optimizer: Optimizer, warmup_steps: int, total_steps: int, final_factor: float = 0.01
) -> LambdaLR:
    """Linear rise over `warmup_steps`, linear fall until `total_steps`, constant after that.

    Parameters
    ----------
    optimizer : Optimizer
        Its rates are the highest.
    warmup_steps, total_steps : int
        Steps of this optimiser. A YAML leaves `total_steps` out: the Brain computes it from data,
        batch size, epochs and accumulation (`make_scheduler`).
    final_factor : float
        Share of the highest rate at the end.

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


def make_scheduler(
    lr_scheduler: Callable[..., LRScheduler], optimizer: Optimizer, total_steps: int
) -> LRScheduler:
    """Schedule of a YAML's `lr_scheduler`, with `total_steps` where it takes that and has none.

    Example
    -------
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> scheduler = make_scheduler(partial(warmup_linear, warmup_steps=1), optimizer, 10)
    """
    given = lr_scheduler.keywords if isinstance(lr_scheduler, partial) else {}
    if "total_steps" in inspect.signature(lr_scheduler).parameters and "total_steps" not in given:
        return lr_scheduler(optimizer, total_steps=total_steps)
    return lr_scheduler(optimizer)


def step_all(schedulers: Iterable[LRScheduler]) -> None:
    """Step schedules that count the run's steps, also those before an optimiser's first step."""
    with warnings.catch_warnings():
        # torch warns of a discriminator's schedule where the discriminator begins later.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for scheduler in schedulers:
            scheduler.step()


def trainable(modules: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    """Parameters of modules that are not frozen, in their order."""
    return [p for module in modules.values() for p in module.parameters() if p.requires_grad]


def make_optimizer(
    opt_class: Callable[..., Optimizer],
    modules: Mapping[str, nn.Module],
    hparams: SimpleNamespace,
) -> Optimizer:
    """Optimiser of what is not frozen, at lr, or at init_lr_factor * lr where there is init_from.

    Raises
    ------
    UserError
        Everything is frozen.

    Example
    -------
    >>> hparams = SimpleNamespace(init_from="codec", init_lr_factor=0.5, freeze=[])
    >>> modules = {"decoder": nn.Linear(1, 1)}
    >>> make_optimizer(torch.optim.AdamW, modules, hparams).param_groups[0]["lr"]
    0.0005
    """
    parameters = trainable(modules)
    if not parameters:
        raise UserError(
            f"freeze=[{', '.join(hparams.freeze)}]: no parameter of {' and '.join(modules)} is"
            " left to train; remove a name from the list"
        )
    optimizer = opt_class(parameters)
    if getattr(hparams, "init_from", None) is not None:
        # Before the schedule is made: a schedule starts from the rate that it finds.
        for options in optimizer.param_groups:
            options["lr"] *= hparams.init_lr_factor
    return optimizer
