"""Further terms of a stage's loss, `extra_losses` of a YAML."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import speechbrain as sb
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.metrics.judge import Column
from focalcodec.training.brain import CodecBrain
from focalcodec.training.figures import COLUMNS


@dataclass(frozen=True)
class ExtraLoss:
    """A further term of a stage's loss, from `extra_losses` of a YAML."""

    weight: float
    measure: Callable[[Any], Tensor]
    """Stage1Output -> (B, N) or (B,); Stage2Output -> (B,)."""


def check_takes(key: str, function: Any, number: int) -> None:
    """Raise a `UserError` if a function of the YAML does not take so many tensors or outputs."""
    try:
        inspect.signature(function).bind(*range(number))
    except ValueError:
        return  # a compiled function without a signature
    except TypeError as error:
        what = ("", "the output of the stage", "qfeats and targets")[number]
        raise UserError(f"{key}: {error}; give a function of {what}") from error


def read_extra_losses(given: Any, taken: Collection[str]) -> dict[str, ExtraLoss]:
    """Check `extra_losses` of a YAML: name -> {weight, loss}.

    `taken` are names of other figures. Raises a `UserError` for anything else.

    Example
    -------
    >>> read_extra_losses({"size_loss": {"weight": 0.1, "loss": torch.norm}}, ["loss"])["size_loss"]
    ... # doctest: +ELLIPSIS
    ExtraLoss(weight=0.1, measure=<function norm at ...>)
    """
    terms = {}
    for name, about in (given or {}).items():
        form = "extra_losses: give {name: {weight: 0.1, loss: !name:my_parts.my_loss}}"
        if not isinstance(about, Mapping) or about.keys() != {"weight", "loss"}:
            raise UserError(f"{form}, not {name}: {about!r}")
        if name in taken or not str(name).isidentifier():
            raise UserError(f"extra_losses: {name!r} is no name for a figure, or has a meaning")
        weight = about["weight"]
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise UserError(f"{form}; the weight of {name} is {weight!r}, not a number")
        if not callable(about["loss"]):
            raise UserError(f"{form}; the loss of {name} is {about['loss']!r}, not a function")
        check_takes(f"extra_losses: {name}", about["loss"], 1)
        terms[str(name)] = ExtraLoss(float(weight), about["loss"])
    return terms


class StageBrain(CodecBrain):
    """What both stages share: further terms of the loss, `extra_losses` of the YAML.

    Each term is a figure of its own. Whatever `compute_objectives` adds to a stage's own formula
    counts in the loss of training, validation and test, so it counts in the choice of the best
    checkpoint too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given, taken = getattr(self.hparams, "extra_losses", {}), [each.key for each in COLUMNS]
        self.terms = read_extra_losses(given, taken)
        for name, term in self.terms.items():
            if hasattr(term.measure, "load"):
                if self.sample_rate != self.encoder.sample_rate:
                    raise UserError(
                        f"extra_losses: {name}: needs clips of {self.encoder.sample_rate} Hz, the"
                        f" decoder has {self.sample_rate} Hz; leave it out"
                    )
                term.measure.load(self.encoder, getattr(self.hparams, "__trust__", ()))
            if isinstance(term.measure, nn.Module):
                term.measure.requires_grad_(False).eval().to(self.device)
        columns = [Column(name, name.replace("_", " "), "", "lower") for name in self.terms]
        figures = self.monitor.figures
        self.monitor.figures = replace(figures, columns=(*figures.columns, *columns))

    @property
    def draw(self) -> tuple[int, int, int]:
        """Seed, epoch and step: random numbers of a clip depend on them and its ID."""
        return self.hparams.seed, self.epoch, self.step

    def term_mean(self, name: str, losses: Tensor, out: Any) -> Tensor:
        """Mean of the losses of a term over the valid frames or clips of the global batch."""
        raise NotImplementedError

    def extra_loss(self, out: Any, stage: sb.Stage) -> Tensor | float:
        """Weighted sum of the terms of `extra_losses`; 0 without any."""
        total: Tensor | float = 0.0
        for name, term in self.terms.items():
            total = total + term.weight * self.term_mean(name, term.measure(out), out)
        return total
