"""The Brain of both stages and of the probes: a training on the features of a frozen encoder."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from torch import Tensor, nn
from torch.utils.data import DataLoader

from focalcodec.data.dataset import AudioBatch
from focalcodec.data.feature_cache import batch_feats
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.metrics.judge import Column
from focalcodec.nn.masking import valid_mask, zero_padding
from focalcodec.progress import ProgressBar
from focalcodec.training.display import TrainingDisplay, best_epoch
from focalcodec.training.distributed import average, process_count, process_rank
from focalcodec.training.figures import BEFORE, CHANCE, LOSS_KEY, Figures
from focalcodec.training.loop import TurnsBrain
from focalcodec.training.monitor import STEP_INTERVAL
from focalcodec.training.run.folder import RunFolder
from focalcodec.training.run.loaders import AudioLoaders, Rows, clip_rate
from focalcodec.training.run.start import Start, freeze, initialise

logger = logging.getLogger(__name__)


@register_checkpoint_hooks
class CodecBrain(TurnsBrain):
    """A training on the features of a frozen encoder.

    A subclass defines which modules each optimiser trains (`trained`), how losses are computed
    (`compute_forward`, `compute_objectives`; for a GAN also `turns`) and the figures of a stage.

    Parameters
    ----------
    encoder : Module
        (sig, lengths) -> (feats, lengths). It is frozen, in eval mode, on the device, and not part
        of a checkpoint or an optimiser.
    loaders : AudioLoaders
        Training, validation and test sets; a checkpoint has the position in the training set.
    folder : RunFolder
        Folder for checkpoints, log, curves, audio and pictures.
    hparams : mapping
        The run's configuration. `self.hparams.key` reads a key of the YAML.
    run_opts : RunOptions or mapping, optional
        Run options of `speechbrain.Brain`.
    """

    needs_sig: ClassVar[bool] = True
    """Whether training reads sig even if the cache has the feats."""
    columns: ClassVar[tuple[Column, ...]] = ()
    """Figures of this training that others do not have, and that the line of an epoch shows."""
    valid_loss: ClassVar[str] = LOSS_KEY
    """Training figure that is the same quantity as the loss of validation and test."""

    def __init__(
        self,
        encoder: Encoder,
        loaders: AudioLoaders,
        folder: RunFolder,
        hparams: Mapping[str, Any],
        run_opts: Any = None,
    ) -> None:
        self.folder, self.monitor = folder, folder.monitor
        self.monitor.sample_batches = loaders.samples
        modules = self.make_modules(encoder, hparams, loaders.sets)
        checkpointer = folder.checkpointer(modules, hparams["epoch_counter"])
        super().__init__(modules, hparams["opt_class"], hparams, run_opts, checkpointer)
        self.sampler, self._valid_set = loaders.train.batch_sampler, loaders.valid
        self.checkpointer.add_recoverable("sampler", self.sampler)
        self.cache = loaders.cache
        self.encoder: Any = encoder.requires_grad_(False).eval().to(self.device)
        self.sample_rate = clip_rate(modules, encoder)  # Hz, of the clips
        self.train_stats: dict[str, float] = {}
        self.test_stats: dict[str, float] = {}
        self.test_group_stats: dict[str, dict[str, float]] = {}
        self.history: list[dict[str, Any]] = []
        self.before: dict[str, float] = {}  # validation before fine-tuning
        self._stage = sb.Stage.TRAIN
        self._num_read = 0  # batches of this stage with at least one clip
        self._tests_as_is = False  # a test takes the weights that the modules have
        self._fine_tunes = False
        self.monitor.figures = Figures(
            self.columns,
            self.watched,
            self.valid_loss,
            tests_last=not self.hparams.best_checkpoint.get("min_key"),
        )
        self._written: dict[str, list[float]] = {}  # meters at the last point of TensorBoard
        self._display: TrainingDisplay | None = None
        self._test_bar: ProgressBar | None = None
        folder.position = self.position

    # -- for subclasses --------------------------------------------------------------------------

    def make_modules(
        self, encoder: Encoder, hparams: Mapping[str, Any], sets: Mapping[str, Rows]
    ) -> dict[str, nn.Module]:
        """Modules of the YAML; a probe also makes modules with sizes of the data or the codec."""
        return hparams["modules"]

    def stage_stats(self, stage: sb.Stage, group: str = "") -> dict[str, float]:
        """Figures of the stage that just ended, for one group or for all clips.

        The best checkpoint is the one with the lowest `loss` of all clips.
        """
        return self.meters.averages(group)

    def chance(self, rows: Rows) -> dict[str, float]:
        """Figures of a guess for the clips of a test set."""
        return {}

    def num_frames(self, batch: Any) -> int:
        """Number of frames of a batch, of all processes."""
        lengths = batch.lengths * self.encoder.sample_rate // self.sample_rate
        clips = zip(self.encoder.output_lengths(lengths).tolist(), batch.feats, strict=True)
        return sum(n if feats is None else len(feats) for n, feats in clips) * process_count()

    def write_samples(self, epoch: int | None) -> None:
        """Write audio and pictures of the fixed validation clips."""

    def on_set_start(self, name: str, rows: Rows) -> None:
        """Prepare for a test set."""

    def on_set_end(self, name: str, rows: Rows) -> None:
        """Write further results of a test set."""

    @property
    def watched(self) -> str:
        """Validation figure that should be low: it selects checkpoints and ends training early."""
        return self.hparams.best_checkpoint.get("min_key") or LOSS_KEY

    @torch.no_grad()
    def encode(self, batch: AudioBatch) -> tuple[Tensor, Tensor]:
        """Frozen encoder's feats (B, N, D) and their lengths (B,), in float32 at any precision."""
        with torch.autocast(self.device_type, enabled=False):
            return batch_feats(self.encoder, batch, self.cache, self.sample_rate)

    def mean(self, name: str, losses: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over the global batch of losses (B,), weighted by (B,); reported as `name`."""
        weights = torch.ones_like(losses) if weights is None else weights
        mean, total, count = average((losses * weights).sum(), weights.sum())
        self.meters.add(name, total, count)
        self.batch_means[name] = (mean.detach(), count)
        return mean

    def frame_mean(self, name: str, losses: Tensor, frames: Tensor) -> Tensor:
        """Mean of losses (B, N) over the valid frames of the global batch; reported as `name`."""
        if losses.dim() != 2:
            raise UserError(f"{name}: {tuple(losses.shape)}; give a number per frame, (B, N)")
        mask = valid_mask(frames, losses.shape[1])  # (B, N)
        return self.mean(name, zero_padding(losses, mask), mask.float())

    def position(self) -> str:
        """Epoch and step, for the message of a run that is stopped."""
        if self._stage == sb.Stage.TEST or not self.epoch:
            return "before the first step" if not self.epoch else "testing"
        epoch = f"epoch {self.epoch} of {self.hparams.number_of_epochs}"
        if self._stage == sb.Stage.VALID:
            return f"validation of {epoch}"
        return f"{epoch}, step {self.step} of {self.steps_in_epoch}"

    # -- before and after training ---------------------------------------------------------------

    def start_from(self, start: Start) -> None:
        """Load the first weights of the run, and freeze the modules named in `freeze`."""
        self._fine_tunes = start.trained is not None
        if start.trained is not None:
            initialise(self.modules, start.trained, list(self.modules))
        freeze(self.modules, self.hparams.freeze)
        self.folder.describe(self.encoder)

    def test(self, tests: Mapping[str, DataLoader], label: str = "") -> dict[str, dict[str, float]]:
        """Figures of each test set, and of its groups, with the best checkpoint."""
        # No cache: a test set is read once, and feats of a mixture must not be stored as those of
        # the clean clip.
        self.cache = None
        results = {}
        for name, loader in tests.items():
            rows = loader.dataset.rows  # type: ignore[attr-defined]
            self.on_set_start(name, rows)
            what, number = f"test on {name}{label}", len(loader)
            bar = ProgressBar(what=what, total=number, unit="batches", show=self.shows, leave=False)
            with bar as self._test_bar:
                self.evaluate(loader, **self.hparams.best_checkpoint, progressbar=False)
            self.on_set_end(name, rows)
            epoch = {} if self._tests_as_is else {"epoch": self.folder.tested}
            results[name + label] = {**self.test_stats, **epoch}
            for group, stats in self.test_group_stats.items():
                results[f"{name}-{group}{label}"] = stats
            if chance := self.chance(rows):
                results[name + CHANCE] = chance
        if not self._tests_as_is:
            self.write_samples(None)
        return results

    def test_start(
        self, start: Start, tests: Mapping[str, DataLoader]
    ) -> dict[str, dict[str, float]]:
        """After `init_from`, the same figures with the first weights of the run."""
        if start.trained is None:
            return {}
        known = [name for name in self.modules if name in start.trained.parts]
        initialise(self.modules, start.trained, known)
        self._tests_as_is = True
        return self.test(tests, BEFORE)

    # -- set-up ----------------------------------------------------------------------------------

    @property
    def shows(self) -> bool:
        """Whether this process shows its progress."""
        return process_rank() == 0 and not self.noprogressbar

    def fit(
        self, epoch_counter: Any, train_set: Any, valid_set: Any = None, *_: Any, **options: Any
    ) -> None:
        """Train; the progress is that of the whole run, not of an epoch."""
        try:
            super().fit(epoch_counter, train_set, valid_set, **{**options, "progressbar": False})
        finally:
            if self._display is not None:
                self._display.close()  # an error is written below the bar
        for line in best_epoch(self.history, self.before, self.monitor.figures):
            logger.info(line)

    def on_fit_start(self) -> None:
        """Compile, share the first weights among processes, make optimisers, resume."""
        super().on_fit_start()
        if self.history:
            self.monitor.write_log(self.history, self.before)
        self._stop_if_patience_is_over()
        done = self.history[-1]["epoch"] if self.history else 0
        self.monitor.resume(done, self.optimizer_step)
        most = self.debug_batches if self.debug else math.inf
        epochs = self.debug_epochs if self.debug else int(self.hparams.number_of_epochs)
        train, valid = (int(min(len(x), most)) for x in (self.sampler, self._valid_set))
        self._display = TrainingDisplay(epochs, train, valid, self.monitor.figures, self.shows)
        if self._fine_tunes and not (self.history or self.before or self.step):
            self.before = self._validate()
            self._checkpoint({**self.before, "epoch": 0})  # these weights can be the best

    def _checkpoint(self, meta: dict[str, float]) -> None:
        self.checkpointer.save_and_keep_only(meta, min_keys=[self.watched], num_to_keep=2)

    def _validate(self) -> dict[str, float]:
        """Figures of the validation set with the present weights."""
        self.on_stage_start(sb.Stage.VALID)
        self.modules.eval()
        batches = self.debug_batches if self.debug else None
        for batch in itertools.islice(self._valid_set, batches):
            self.evaluate_batch(batch, sb.Stage.VALID)
        return self.stage_stats(sb.Stage.VALID)

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Load the best checkpoint; random weights are never tested."""
        if self._tests_as_is:
            return
        found = self.checkpointer.recover_if_possible(max_key=max_key, min_key=min_key)
        if found is None:
            raise UserError(
                f"{self.checkpointer.checkpoints_dir}: no checkpoint of a finished epoch to test;"
                " train first, without --test_only"
            )
        self.folder.tested = int(found.meta.get("epoch", self.epoch))

    # -- stages ----------------------------------------------------------------------------------

    def _fit_train(self, train_set: Any, epoch: int, enable: bool) -> None:
        self.epoch = epoch
        self.sampler.set_epoch(epoch)
        self.steps_in_epoch = len(self.sampler)
        if self._display is not None:
            self._display.begin(epoch, self.step)
        super()._fit_train(train_set, epoch, enable)

    def fit_batch(self, batch: Any) -> Tensor:
        """Train on a batch, and show it."""
        loss, done = super().fit_batch(batch), self.optimizer_step
        self._num_read += batch is not None
        last = self.step == self.steps_in_epoch
        if self._accumulation()[1] and (done % STEP_INTERVAL == 0 or last):
            self.monitor.write_steps(self.meters.since(self._written) | self._rates(), done)
            self._written = self.meters.state_dict()
        if self._display is not None:
            frames = 0 if batch is None else self.num_frames(batch)
            self._display.add_batch(frames, self.meters.averages(), self._rates())
        return loss

    def evaluate_batch(self, batch: Any, stage: sb.Stage) -> Tensor:
        """Evaluate a batch, and show it."""
        loss = super().evaluate_batch(batch, stage)
        self._num_read += batch is not None
        if stage == sb.Stage.TEST and self._test_bar is not None:
            self._test_bar.update()
        elif stage == sb.Stage.VALID and self._display is not None:
            self._display.add_valid_batch()
        return loss

    def _rates(self) -> dict[str, float]:
        return {f"lr_{n}": o.param_groups[0]["lr"] for n, o in self.optimizers_dict.items()}

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the stage's averages, unless training resumes within an epoch."""
        self._stage = stage
        if stage != sb.Stage.TRAIN or self.step == 0:
            self.meters.reset()
        self.nonfinite_count, self._written = 0, self.meters.state_dict()
        self._num_read = 0

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None) -> None:
        """Report figures; after validation also step schedules, write a checkpoint, maybe stop."""
        if not (self._num_read or self.meters.averages()):
            raise UserError(
                f"{self.folder.path / 'skipped.csv'}: none of the {stage.name.lower()} clips could"
                " be read; look at their paths, or mount their disk again"
            )
        stats = self.stage_stats(stage)
        loss = stats.get(LOSS_KEY, math.nan)
        if not math.isfinite(loss):
            raise UserError(
                f"epoch {epoch}: the {stage.name.lower()} loss is {loss}; this epoch was not"
                " stored: lower lr, or look at the data"
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
        if self.watched not in valid_stats:
            raise UserError(
                f"best_checkpoint: no figure {self.watched!r} in the validation, which has"
                f" {', '.join(valid_stats)}; name one of them"
            )
        self.history.append({"epoch": epoch, **self._rates(), "train": self.train_stats, **valid})
        if self.hparams.lr_scheduler_interval == "epoch":
            for scheduler in self.schedulers.values():
                needs_loss = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                scheduler.step(*([valid_stats[LOSS_KEY]] if needs_loss else []))
        interval = self.hparams.sample_interval_epochs
        if interval and epoch % interval == 0:
            self.write_samples(epoch)
        self.monitor.write_epoch(self.history[-1])
        self._checkpoint({**valid_stats, "epoch": epoch})
        self.monitor.write_log(self.history, self.before)
        if self._display is not None:
            self._display.end(self.history[-1], self.before)
        self._stop_if_patience_is_over()

    def _stop_if_patience_is_over(self) -> None:
        patience = self.hparams.stop_patience_epochs
        if patience is None or not self.history:
            return
        best = min(self.history, key=lambda stats: stats["valid"][self.watched])
        if self.history[-1]["epoch"] - best["epoch"] >= patience:
            logger.info("No better epoch since epoch %d: training ends", best["epoch"])
            self.hparams.epoch_counter.limit = self.history[-1]["epoch"]

    # -- checkpoints -----------------------------------------------------------------------------

    @mark_as_saver
    def _save(self, path: str | os.PathLike[str]) -> None:
        state = {
            "step": self.step,
            "optimizer_step": self.optimizer_step,
            "meters": self.meters.state_dict(),
            "history": self.history,
            "before": self.before,
        }
        if process_rank() == 0:
            Path(path).write_text(json.dumps(state), encoding="utf-8")

    @mark_as_loader
    def _recover(self, path: str | os.PathLike[str], end_of_epoch: bool) -> None:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        self.step = 0 if end_of_epoch else state["step"]
        self.optimizer_step = state["optimizer_step"]
        self.meters.load_state_dict(state["meters"])
        self.history, self.before = state["history"], state.get("before", {})
