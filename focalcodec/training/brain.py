"""The training loop of both stages: what SpeechBrain's Brain leaves open, written once.

On top of `speechbrain.Brain`: several optimisers taking turns (a GAN needs it), gradients summed
over processes, non-finite losses stopped before the optimiser, averages that survive a
resume, randomness that depends on the step alone, and checkpoints between two optimiser steps only.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import speechbrain as sb
import torch
from speechbrain.core import INTRA_EPOCH_CKPT_FLAG
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from torch import Tensor, nn

from focalcodec.data.feature_cache import FeatureCache, batch_feats
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from focalcodec.training.distributed import (
    average,
    broadcast_state,
    process_count,
    process_rank,
    seed_step,
    sum_gradients,
)
from focalcodec.training.meters import Meters
from focalcodec.training.monitor import Monitor
from focalcodec.training.optimizers import make_optimizer, trainable
from focalcodec.training.schedules import step_all

logger = logging.getLogger(__name__)

LOSS_KEY = "loss"


@register_checkpoint_hooks
class CodecBrain(sb.Brain):
    """A stage of the codec's training on frozen continuous features.

    Subclasses say which modules each optimiser trains (`trained`), how a batch becomes losses
    (`turns`, `compute_forward`, `compute_objectives`) and what a stage reports.

    Parameters
    ----------
    encoder : Module
        (sig, lengths) -> (feats, lengths). Frozen, in eval mode, on the device; in no checkpoint
        and no optimiser.
    monitor : Monitor
        Where log, curves, audio and pictures go.
    sampler : EpochBatchSampler
        Of the training set; its position is in the checkpoint.
    cache : FeatureCache, optional
        Keeps feats between epochs.
    **kwargs
        As `speechbrain.Brain`: modules, opt_class, hparams, run_opts, checkpointer.
    """

    trained: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Names of the modules that each optimiser trains, in the order of their turns."""

    read_keys: ClassVar[frozenset[str]] = frozenset()
    """YAML keys that this Brain reads, beside those of `experiment.READ_KEYS`."""

    tests_as_is: bool = False
    """Whether a test takes the weights that the modules have, and loads no checkpoint."""

    hparams: SimpleNamespace
    modules: Any

    def __init__(
        self,
        encoder: nn.Module,
        monitor: Monitor,
        sampler: EpochBatchSampler,
        cache: FeatureCache | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sampler, self.cache = sampler, cache
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("sampler", sampler)
        self.encoder: Any = encoder.requires_grad_(False).eval().to(self.device)
        self.monitor = monitor
        self.meters = Meters()
        self.train_stats: dict[str, float] = {}
        self.test_stats: dict[str, float] = {}
        self.test_group_stats: dict[str, dict[str, float]] = {}
        self.history: list[dict[str, Any]] = []
        self.schedulers: dict[str, Any] = {}
        self.optimizers_dict: dict[str, torch.optim.Optimizer] = {}
        self.epoch = 0
        self.steps_in_epoch = 0

    @staticmethod
    def needs_sig(hparams: Mapping[str, Any]) -> bool:
        """Whether training reads sig where the cache has the feats."""
        return True

    # -- for subclasses --------------------------------------------------------------------------

    def turns(self, batch: Any) -> Iterator[tuple[str, Tensor]]:
        """Losses of one batch, each with the optimiser that takes it, in order.

        A loss is computed after the optimiser before it has made its step.
        """
        with self.training_ctx:
            outputs = self.compute_forward(batch, sb.Stage.TRAIN)
            loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
        yield next(iter(self.trained)), loss

    def heard_features(self, batch: Any, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Feats (B, N, D) that the model hears, and their lengths (B,): those of the clips.

        A Brain for noisy or overlapped speech gives those of `batch.mixture`.
        """
        return self.features(batch)

    def stage_stats(self, stage: sb.Stage, group: str = "") -> dict[str, float]:
        """Figures of the stage that just ended, of one group or of all clips.

        The `loss` of all clips decides which checkpoint is best.
        """
        return self.meters.averages(group)

    def write_samples(self, epoch: int | None) -> None:
        """Leave audio and pictures of the fixed validation clips."""

    @property
    def watched(self) -> str:
        """Validation figure whose least value is kept, and waited for before training ends."""
        return self.hparams.best_checkpoint.get("min_key", LOSS_KEY)

    def mean_of(self, name: str, losses: Tensor, weights: Tensor | None = None) -> Tensor:
        """Weighted mean over the global batch of losses of clips or frames; reported as `name`."""
        weights = torch.ones_like(losses) if weights is None else weights
        mean, total, count = average((losses * weights).sum(), weights.sum())
        self.meters.add(name, total, count)
        return mean

    # -- features --------------------------------------------------------------------------------

    @torch.no_grad()
    def features(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Frozen encoder's feats (B, N, D) and their lengths (B,), in float32 at any precision."""
        with torch.autocast(self.device_type, enabled=False):
            return batch_feats(self.encoder, batch, self.cache)

    # -- set-up ----------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Compile, agree on the first weights, make optimisers, resume."""
        super().on_fit_start()
        if self.history:
            self.monitor.write_log(self.history)
        self._stop_if_patience_is_over()

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Load the checkpoint to test; random weights are never tested."""
        if self.tests_as_is:
            return
        found = self.checkpointer.recover_if_possible(max_key=max_key, min_key=min_key)
        if found is None:
            raise UserError(
                f"{self.checkpointer.checkpoints_dir}: no checkpoint of a finished epoch to test;"
                " train first, without --test_only"
            )

    def _wrap_distributed(self) -> None:
        for module in self.modules.values():
            broadcast_state(module)

    def init_optimizers(self) -> None:
        """One optimiser and one schedule for each entry of `trained`."""
        for name in self.trained:
            optimizer = make_optimizer(self.opt_class, self._modules_of(name), self.hparams)
            self.optimizers_dict[name] = optimizer
            self.schedulers[name] = self.hparams.lr_scheduler(optimizer)
            if self.checkpointer is not None:
                self.checkpointer.add_recoverable(f"optimizer_{name}", optimizer)
                self.checkpointer.add_recoverable(f"scheduler_{name}", self.schedulers[name])

    def _modules_of(self, name: str) -> dict[str, nn.Module]:
        return {key: self.modules[key] for key in self.trained[name]}

    def _parameters(self, name: str) -> list[nn.Parameter]:
        return trainable(self._modules_of(name))

    # -- one batch -------------------------------------------------------------------------------

    def fit_batch(self, batch: Any) -> Tensor:
        """All turns of one batch; an optimiser steps when its group of batches is complete."""
        self.sampler.advance()
        group, should_step = self._accumulation()
        total = torch.zeros(())
        if batch is not None:
            total = self._take_turns(batch.to(self.device), group, should_step)
        else:
            self._pass_over()
        if should_step:
            # Where a turn was left out, what its group had gathered is not for the next one.
            self._drop_gradients()
            self.optimizer_step += 1
            if self.hparams.lr_scheduler_interval == "step":
                step_all(self.schedulers.values())
        return total

    def _take_turns(self, batch: Any, group: int, should_step: bool) -> Tensor:
        total, before = torch.zeros(()), self.meters.state_dict()
        seed_step(self.hparams.seed, self.epoch, self.step)
        for name, loss in self.turns(batch):
            # The loss is the global one, the same on every process: all of them decide alike.
            if not bool(torch.isfinite(loss)):
                self.meters.load_state_dict(before)
                self._drop_gradients()
                self._count_nonfinite(f"the {name} loss is {loss.item()}", batch)
                return torch.zeros(())
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
        # The last group of an epoch may be smaller, and is not thrown away.
        factor = self.grad_accumulation_factor
        first = (self.step - 1) // factor * factor
        group = min(factor, self.steps_in_epoch - first) if self.steps_in_epoch else factor
        return group, self.step == first + group

    def _count_nonfinite(self, what: str, batch: Any) -> None:
        self.nonfinite_count += 1
        where = f"epoch {self.epoch}, batch {self.step} ({', '.join(batch.id)})"
        if self.nonfinite_count > self.nonfinite_patience:
            raise UserError(
                f"{where}: {what}; nonfinite_patience={self.nonfinite_patience} is used up:"
                " lower lr, or use --precision fp32"
            )
        logger.warning("%s: %s; no optimiser step is made with it", where, what)

    def _step(self, name: str, batch: Any) -> None:
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
    def evaluate_batch(self, batch: Any, stage: sb.Stage) -> Tensor:
        """Forward pass and objectives of one batch, without gradients."""
        if batch is None:
            self._pass_over()
            return torch.zeros(())
        batch = batch.to(self.device)
        with self.evaluation_ctx, self.meters.of(batch.group):
            outputs = self.compute_forward(batch, stage)
            loss = self.compute_objectives(outputs, batch, stage)
        return loss.detach().float().cpu()

    def update_average(self, loss: Tensor, avg_loss: float) -> float:
        """The progress bar's figure: the meters' average so far."""
        return self.meters.averages().get(LOSS_KEY, float(loss))

    # -- stages ----------------------------------------------------------------------------------

    def _fit_train(self, train_set: Any, epoch: int, enable: bool) -> None:
        self.epoch = epoch
        self.sampler.set_epoch(epoch)
        self.steps_in_epoch = len(self.sampler)
        super()._fit_train(train_set, epoch, enable)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Start the stage's averages, unless an epoch is taken up in its middle."""
        if stage != sb.Stage.TRAIN or self.step == 0:
            self.meters.reset()
        self.nonfinite_count = 0

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None) -> None:
        """Report; after validation also schedule, store and decide whether to go on."""
        stats = self.stage_stats(stage)
        loss = stats.get(LOSS_KEY, math.nan)
        if not math.isfinite(loss):
            raise UserError(
                f"epoch {epoch}: the {stage.name.lower()} loss is {loss}; nothing was stored of"
                " this epoch: lower lr, or look at the data"
            )
        group_stats = {group: self.stage_stats(stage, group) for group in self.meters.groups}
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
        elif stage == sb.Stage.VALID and epoch is not None:
            groups = {f"valid-{group}": figures for group, figures in group_stats.items()}
            self._end_epoch(epoch, {"valid": stats, **groups})
        elif stage == sb.Stage.TEST:
            self.test_stats, self.test_group_stats = stats, group_stats

    def _end_epoch(self, epoch: int, valid: dict[str, dict[str, float]]) -> None:
        valid_stats = valid["valid"]
        rates = {f"lr_{n}": o.param_groups[0]["lr"] for n, o in self.optimizers_dict.items()}
        self.history.append({"epoch": epoch, **rates, "train": self.train_stats, **valid})
        if self.hparams.lr_scheduler_interval == "epoch":
            for scheduler in self.schedulers.values():
                needs_loss = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                scheduler.step(*([valid_stats[LOSS_KEY]] if needs_loss else []))
        interval = self.hparams.sample_interval_epochs
        if interval and epoch % interval == 0:
            self.write_samples(epoch)
        if self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(
                meta={**valid_stats, "epoch": epoch},
                min_keys=[self.watched],
                num_to_keep=2,
            )
        self.monitor.write_log(self.history)
        self._stop_if_patience_is_over()

    def _stop_if_patience_is_over(self) -> None:
        patience = self.hparams.stop_patience_epochs
        if patience is None or not self.history:
            return
        best = min(self.history, key=lambda stats: stats["valid"][self.watched])
        if self.history[-1]["epoch"] - best["epoch"] >= patience:
            logger.info("No better epoch since epoch %d: training ends here", best["epoch"])
            self.hparams.epoch_counter.limit = self.history[-1]["epoch"]

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

    @mark_as_saver
    def _save(self, path: str | os.PathLike[str]) -> None:
        state = {
            "step": self.step,
            "optimizer_step": self.optimizer_step,
            "meters": self.meters.state_dict(),
            "history": self.history,
        }
        if process_rank() == 0:
            Path(path).write_text(json.dumps(state), encoding="utf-8")

    @mark_as_loader
    def _recover(self, path: str | os.PathLike[str], end_of_epoch: bool) -> None:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        self.step = 0 if end_of_epoch else state["step"]
        self.optimizer_step = state["optimizer_step"]
        self.meters.load_state_dict(state["meters"])
        self.history = state["history"]
