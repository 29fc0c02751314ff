"""What an optimiser trains, and at which rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from focalcodec.errors import UserError


def trainable(modules: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    """Parameters of modules that are not frozen, in their order."""
    return [p for module in modules.values() for p in module.parameters() if p.requires_grad]


def make_optimizer(
    opt_class: Callable[..., torch.optim.Optimizer],
    modules: Mapping[str, nn.Module],
    hparams: SimpleNamespace | Any,
) -> torch.optim.Optimizer:
    """Optimiser of what is not frozen; a run that begins with trained weights has a lower rate.

    Parameters
    ----------
    opt_class : callable
        Takes the parameters.
    modules : mapping of str to Module
        What it trains.
    hparams : namespace
        Has `init_from`, `init_lr_factor` and `freeze`.

    Raises
    ------
    UserError
        All of it is frozen.

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
            f"freeze=[{', '.join(hparams.freeze)}]: nothing of {' and '.join(modules)} is left to"
            " train; take one off the list"
        )
    optimizer = opt_class(parameters)
    if hparams.init_from is not None:
        # Before a schedule is made, which begins with the rate that it finds.
        for options in optimizer.param_groups:
            options["lr"] *= hparams.init_lr_factor
    return optimizer
