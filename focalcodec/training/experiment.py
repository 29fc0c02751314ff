"""One run of a recipe: from the command line to the closing table.

A recipe's `train.py` says which data there is; everything that all recipes share is here.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from ruamel.yaml import YAML
from speechbrain.utils.distributed import if_main_process, run_on_main
from torch.utils.data import DataLoader

from focalcodec.data.dataset import AudioDataset, pad_collate
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.training.brain import CodecBrain
from focalcodec.training.checkpointing import RunCheckpointer
from focalcodec.training.config import load_config, refuse_dead_keys, resolve_config
from focalcodec.training.distributed import leave_together, process_count, process_rank
from focalcodec.training.export import ENCODER_NAME, describe_encoder, load_decoder
from focalcodec.training.identity import SAVE_NAME, check_identity, knobs_of
from focalcodec.training.monitor import Monitor

logger = logging.getLogger(__name__)

Rows = Sequence[dict[str, Any]]

READ_KEYS = frozenset(
    """
    seed data_folder output_folder skip_prep max_broken_share
    brain encoder modules quantizer opt_class lr_scheduler lr_scheduler_interval
    epoch_counter number_of_epochs stop_patience_epochs passes_per_epoch
    batch_size valid_batch_size sorting num_workers min_seconds max_seconds
    precision eval_precision max_grad_norm grad_accumulation_factor nonfinite_patience
    ckpt_interval_minutes ckpt_interval_steps sample_clips sample_interval_epochs
    feature_cache feature_cache_dtype
    """.split()
)
"""Top-level YAML keys that every run reads; a Brain adds its own in `read_keys`."""


class Experiment:
    """A run folder, its configuration and its processes.

    Parameters
    ----------
    argv : sequence of str
        Command line: the YAML, then `--key value` for its knobs and SpeechBrain's run options.
    data_keys : sequence of str
        YAML keys that the recipe's `train.py` reads itself.

    Raises
    ------
    UserError
        The YAML, an override or a knob changed since the folder's first run.
    """

    def __init__(self, argv: Sequence[str], data_keys: Sequence[str] = ()) -> None:
        file, run_opts, overrides = sb.parse_arguments(list(argv))
        if "distributed_backend" not in run_opts.overridden_args and not torch.cuda.is_available():
            run_opts = dataclasses.replace(run_opts, distributed_backend="gloo")
        sb.utils.distributed.ddp_init_group(run_opts)
        self.run_opts = run_opts
        self.hparams = load_config(file, overrides)
        refuse_dead_keys(file, READ_KEYS | self.hparams["brain"].read_keys | set(data_keys))
        self.output_folder = Path(self.hparams["output_folder"])
        run_on_main(self._open_folder, args=[file, overrides])

    def _open_folder(self, file: str, overrides: str) -> None:
        resolved = resolve_config(file, overrides)
        options = {
            key: getattr(self.run_opts, key)
            for key in sorted(self.run_opts.overridden_args)
            if key in READ_KEYS or key in ("compile", "remove_vector_weight_decay")
        }
        resumed = check_identity(
            self.output_folder, dict(knobs_of(YAML().load(resolved))) | options
        )
        sb.create_experiment_directory(self.output_folder)
        for source in (file, sys.argv[0]):
            if Path(source).is_file():
                shutil.copy(source, self.output_folder)
        with atomic_path(self.output_folder / "hyperparams.yaml") as path:
            path.write_text(resolved, encoding="utf-8")
        if resumed:
            logger.info("%s: taking up the run of this folder", self.output_folder)

    def on_main(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a function on the first process; the others wait for it."""
        run_on_main(function, args=args, kwargs=kwargs)

    def say(self, line: str) -> None:
        """Print one line, once for all processes."""
        if if_main_process():
            print(line, flush=True)

    def run(self, train: Rows, valid: Rows, tests: Mapping[str, Rows]) -> None:
        """Train, then test the best checkpoint on each test set.

        Parameters
        ----------
        train, valid : sequence of manifest rows
            See `focalcodec.data.manifest`.
        tests : mapping of str to manifest rows
            One closing row each.
        """
        encoder = self.hparams["encoder"]()
        cache = self._feature_cache(encoder, train)
        train = self._long_enough(train)
        train_loader = self._loader(train, encoder, cache, shuffled=True)
        monitor = Monitor(self.output_folder, self._sample_batches(valid, encoder))
        brain = self._brain(encoder, monitor, train_loader.batch_sampler, cache)
        valid_loader = self._loader(valid, encoder, cache)
        brain.fit(self.hparams["epoch_counter"], train_loader, valid_loader)
        results = {}
        for name, rows in tests.items():
            brain.evaluate(self._loader(rows, encoder, None), **brain.selection)
            results[name] = brain.test_stats
        brain.write_samples(None)
        monitor.write_results(results)
        monitor.close()
        leave_together()

    def _brain(self, encoder: Any, monitor: Monitor, sampler: Any, cache: Any) -> CodecBrain:
        if if_main_process():
            with atomic_path(self.output_folder / ENCODER_NAME) as path:
                path.write_text(json.dumps(describe_encoder(encoder), indent=2), encoding="utf-8")
        modules, counter = self.hparams["modules"], self.hparams["epoch_counter"]
        stored = {name: m for name, m in modules.items() if any(True for _ in m.parameters())}
        checkpointer = RunCheckpointer(
            self.output_folder / SAVE_NAME, {**stored, "epoch_counter": counter}
        )
        run_on_main(checkpointer.refuse_if_all_damaged)
        extra = {}
        if self.hparams.get("decoder_source"):
            extra["decoder"] = load_decoder(self.hparams["decoder_source"], encoder)
        return self.hparams["brain"](
            encoder=encoder,
            monitor=monitor,
            sampler=sampler,
            cache=cache,
            modules=modules,
            opt_class=self.hparams["opt_class"],
            hparams=self.hparams,
            run_opts=self.run_opts,
            checkpointer=checkpointer,
            **extra,
        )

    def _feature_cache(self, encoder: Any, train: Rows) -> FeatureCache | None:
        if self.hparams["feature_cache"] is None:
            return None
        dtype = self.hparams["feature_cache_dtype"]
        cache = FeatureCache(self.hparams["feature_cache"], encoder, dtype)
        if if_main_process():
            print(cache.describe_cost(sum(row["duration"] for row in train)), flush=True)
        return cache

    def _long_enough(self, rows: Rows) -> Rows:
        shortest = self.hparams["min_seconds"]
        kept = [row for row in rows if row["duration"] >= shortest]
        if not kept:
            raise UserError(f"min_seconds={shortest}: no clip of {len(rows)} is left; lower it")
        if len(kept) < len(rows):
            logger.info("%d clips under %g s are left out", len(rows) - len(kept), shortest)
        return kept

    def _dataset(
        self, rows: Rows, encoder: Any, cache: FeatureCache | None, with_sig: bool
    ) -> AudioDataset:
        return AudioDataset(
            rows,
            encoder.sample_rate,
            max_seconds=self.hparams["max_seconds"],
            report=self.output_folder / "skipped.csv",
            cache=cache,
            with_sig=with_sig,
        )

    def _loader(
        self, rows: Rows, encoder: Any, cache: FeatureCache | None, shuffled: bool = False
    ) -> DataLoader:
        hparams = self.hparams
        dataset = self._dataset(rows, encoder, cache, hparams["brain"].needs_sig)
        sampler = EpochBatchSampler(
            dataset.durations,
            batch_size=hparams["batch_size" if shuffled else "valid_batch_size"],
            sorting=hparams["sorting"] if shuffled else "ascending",
            seed=hparams["seed"],
            passes=hparams["passes_per_epoch"] if shuffled else 1,
            world_size=process_count(),
            rank=process_rank(),
            drop_last=shuffled,
        )
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=pad_collate,
            num_workers=hparams["num_workers"],
            persistent_workers=hparams["num_workers"] > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _sample_batches(self, valid: Rows, encoder: Any) -> list[Any]:
        rows = sorted(valid, key=lambda row: row["ID"])[: self.hparams["sample_clips"]]
        if not rows:
            return []
        dataset = self._dataset(rows, encoder, None, with_sig=True)
        batches = [pad_collate([dataset[index]]) for index in range(len(dataset))]
        return [batch for batch in batches if batch is not None]


def run_script(main: Callable[[Sequence[str]], None]) -> None:
    """Run a recipe's `main`; what the user can put right is told in one line, exit status 2.

    Parameters
    ----------
    main : callable
        Takes the command line without the script's name.
    """
    try:
        main(sys.argv[1:])
    except UserError as error:
        # Any process may be the one that met it, and the others are about to be stopped.
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
