"""Optimisers and their learning rates."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from focalcodec.blocks.focal import FIRST_ORDER, FocalModulation
from focalcodec.errors import UserError


def warmup_linear(
    optimizer: Optimizer, warmup_steps: int, total_steps: int, final_factor: float = 0.01
) -> LambdaLR:
    """Linear rise over `warmup_steps`, linear fall until `total_steps`, constant after that.

    Parameters
    ----------
    optimizer : Optimizer
        Its learning rates are the highest ones of the schedule.
    warmup_steps, total_steps : int
        Steps of this optimiser. `total_steps` is not in the YAML: the Brain computes it from data,
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
    """Make the schedule `lr_scheduler` of a YAML; add `total_steps` if it is a missing argument.

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
    """Step the schedules that count steps of the run, even before an optimiser's first step."""
    with warnings.catch_warnings():
        # torch warns about a discriminator's schedule if the discriminator begins later.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for scheduler in schedulers:
            scheduler.step()


def trainable(modules: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    """Parameters of modules that are not frozen, in the order of the first version.

    That is the order of the states of optimisers in checkpoints, and of the sum in the norm of a
    gradient.
    """
    ordered = [dict.fromkeys(_ordered(module)) for module in modules.values()]
    return [p for parameters in ordered for p in parameters if p.requires_grad]


def _ordered(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters in the order of registration, but those of focal modulation as they once were."""
    yield from module.parameters(recurse=False)
    children = dict(module.named_children())
    names = FIRST_ORDER if isinstance(module, FocalModulation) else children
    for name in names:
        yield from _ordered(children[name])


def make_optimizer(
    opt_class: Callable[..., Optimizer],
    modules: Mapping[str, nn.Module],
    hparams: SimpleNamespace,
) -> Optimizer:
    """Make the optimiser of all parameters that are not frozen.

    Its rate is lr, or init_lr_factor * lr if there is an init_from.

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
        # Before the schedule is made, because a schedule starts from the optimiser's rate.
        for options in optimizer.param_groups:
            options["lr"] *= hparams.init_lr_factor
    return optimizer
