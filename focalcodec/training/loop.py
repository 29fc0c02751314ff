"""The training loop: additions to SpeechBrain's Brain.

Several optimisers take turns, which a GAN needs. Gradients are summed over processes. A loss that
is not finite does not reach the optimiser. Gradients are accumulated up to the last batch of an
epoch. Random numbers depend on the step alone. Checkpoints are written only between two optimiser
steps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

import speechbrain as sb
import torch
from speechbrain.core import INTRA_EPOCH_CKPT_FLAG
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.training.distributed import (
    broadcast_state,
    process_count,
    seed_step,
    sum_gradients,
)
from focalcodec.training.figures import LOSS_KEY, Meters
from focalcodec.training.schedules import make_optimizer, make_scheduler, step_all, trainable

logger = logging.getLogger(__name__)


class Batch(Protocol):
    """What the loop reads of a batch; `AudioBatch` and `TokenBatch` have it."""

    id: list[str]
    group: list[str]

    def to(self, device: torch.device | str) -> Batch:
        """Move the tensors to a device."""


class TurnsBrain(sb.Brain):
    """A Brain with several optimisers, which take turns on each batch.

    Its arguments are those of `speechbrain.Brain`.

    A subclass sets `sampler`, the EpochBatchSampler of the training set. It defines in `trained`
    which modules each optimiser trains, and yields the losses in `turns`.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Names of the modules that each optimiser trains, in the order of their turns."""

    hparams: SimpleNamespace
    modules: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampler: Any = None
        self.meters = Meters()
        self.batch_means: dict[str, tuple[Tensor, float]] = {}
        """Mean of each figure of the present batch, and its weight."""
        self.schedulers: dict[str, Any] = {}
        self.optimizers_dict: dict[str, torch.optim.Optimizer] = {}
        self.epoch = 0
        self.steps_in_epoch = 0

    def turns(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses of one batch in order, each with the name of its optimiser.

        A loss is computed after the optimiser step of the loss before it.
        """
        with self.training_ctx:
            outputs = self.compute_forward(batch, sb.Stage.TRAIN)
            loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
        yield next(iter(self.trained)), loss

    def count_loss(self, loss: Tensor, turn: str, stage: sb.Stage) -> None:
        """Count what `compute_objectives` returned, or the loss of a turn, in the figures."""

    def _wrap_distributed(self) -> None:
        for module in self.modules.values():
            broadcast_state(module)

    def init_optimizers(self) -> None:
        """One optimiser and one schedule for each entry of `trained`."""
        for name in self.trained:
            optimizer = make_optimizer(self.opt_class, self._modules_of(name), self.hparams)
            scheduler = make_scheduler(self.hparams.lr_scheduler, optimizer, self.total_steps)
            self.optimizers_dict[name], self.schedulers[name] = optimizer, scheduler
            self.checkpointer.add_recoverable(f"optimizer_{name}", optimizer)
            self.checkpointer.add_recoverable(f"scheduler_{name}", scheduler)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training: epochs x batches / accumulated batches."""
        batches = -(-len(self.sampler) // self.grad_accumulation_factor)
        return int(self.hparams.number_of_epochs) * batches

    def _modules_of(self, name: str) -> dict[str, nn.Module]:
        return {key: self.modules[key] for key in self.trained[name]}

    def _parameters(self, name: str) -> list[nn.Parameter]:
        return trainable(self._modules_of(name))

    # -- one batch -------------------------------------------------------------------------------

    def fit_batch(self, batch: Batch) -> Tensor:
        """All turns of one batch; an optimiser steps when its group of batches is complete."""
        self.sampler.advance()
        group, should_step = self._accumulation()
        total = torch.zeros(())
        if batch is not None:
            total = self._take_turns(batch.to(self.device), group, should_step)
        else:
            self._pass_over()
        if should_step:
            # If a turn was skipped, the gradients of its group must not be added to the next group.
            self._drop_gradients()
            self.optimizer_step += 1
            if self.hparams.lr_scheduler_interval == "step":
                step_all(self.schedulers.values())
        return total

    def _take_turns(self, batch: Batch, group: int, should_step: bool) -> Tensor:
        total, before = torch.zeros(()), self.meters.state_dict()
        seed_step(self.hparams.seed, self.epoch, self.step)
        for name, loss in self.turns(batch):
            # The loss is global and equal on every process, so all processes decide the same.
            if not bool(torch.isfinite(loss)):
                self.meters.load_state_dict(before)
                self._drop_gradients()
                self._count_nonfinite(f"the {name} loss is {loss.item()}", batch)
                return torch.zeros(())
            self.count_loss(loss, name, sb.Stage.TRAIN)
            self.scaler.scale(loss / group).backward()
            if should_step:
                self._step(name, batch)
            total = loss.detach().float().cpu()
        if should_step:
            self.scaler.update()
        return total

    def _drop_gradients(self) -> None:
        for optimizer in self.optimizers_dict.values():
            optimizer.zero_grad(set_to_none=True)

    def _pass_over(self) -> None:
        if process_count() > 1:
            raise UserError(
                f"epoch {self.epoch}, batch {self.step}: every clip of one process is broken;"
                " see skipped.csv in the run's folder, and remove them from the manifest"
            )

    def _accumulation(self) -> tuple[int, bool]:
        # The last group of an epoch may be smaller; it is used too.
        factor = self.grad_accumulation_factor
        first = (self.step - 1) // factor * factor
        group = min(factor, self.steps_in_epoch - first) if self.steps_in_epoch else factor
        return group, self.step == first + group

    def _count_nonfinite(self, what: str, batch: Batch) -> None:
        self.nonfinite_count += 1
        where = f"epoch {self.epoch}, batch {self.step} ({', '.join(batch.id)})"
        if self.nonfinite_count > self.nonfinite_patience:
            raise UserError(
                f"{where}: {what}; nonfinite_patience={self.nonfinite_patience} is reached:"
                " lower lr, or use --precision fp32"
            )
        logger.warning("%s: %s; no optimiser step is made with it", where, what)

    def _step(self, name: str, batch: Batch) -> None:
        optimizer, parameters = self.optimizers_dict[name], self._parameters(name)
        sum_gradients(parameters)
        self.scaler.unscale_(optimizer)
        limit = self.max_grad_norm if self.max_grad_norm > 0 else math.inf
        norm = nn.utils.clip_grad_norm_(parameters, limit)
        finite = bool(torch.isfinite(norm))
        if finite:
            self.meters.add(f"grad_norm_{name}", norm)
        if self.scaler.is_enabled():
            self.scaler.step(optimizer)
        elif finite:
            optimizer.step()
        else:
            self._count_nonfinite(f"the {name} gradient is not finite", batch)
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def evaluate_batch(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Forward pass and objectives of one batch, without gradients."""
        if batch is None:
            self._pass_over()
            return torch.zeros(())
        batch = batch.to(self.device)
        with self.evaluation_ctx, self.meters.of(batch.group):
            outputs = self.compute_forward(batch, stage)
            loss = self.compute_objectives(outputs, batch, stage)
            self.count_loss(loss, "", stage)
        return loss.detach().float().cpu()

    def update_average(self, loss: Tensor, avg_loss: float) -> float:
        """The progress bar's figure: the meters' average so far."""
        return self.meters.averages().get(LOSS_KEY, float(loss))

    # -- checkpoints -----------------------------------------------------------------------------

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time: float, steps_since_ckpt: int) -> bool:
        # Between two steps of the optimisers: accumulated gradients are in no checkpoint.
        decision = super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt)
        return decision and self._accumulation()[1]

    def _save_intra_epoch_ckpt(self) -> None:
        self.checkpointer.save_and_keep_only(
            end_of_epoch=False,
            num_to_keep=2,
            ckpt_predicate=lambda checkpoint: INTRA_EPOCH_CKPT_FLAG in checkpoint.meta,
            meta={INTRA_EPOCH_CKPT_FLAG: True},
            verbosity=logging.DEBUG,
        )
