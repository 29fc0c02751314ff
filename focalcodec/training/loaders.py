"""From the rows of manifests to the batches of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process
from torch.utils.data import DataLoader

from focalcodec.data.dataset import AudioBatch, AudioDataset, pad_collate
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from focalcodec.training.distributed import process_count, process_rank

logger = logging.getLogger(__name__)

Rows = Sequence[dict[str, Any]]


class Loaders:
    """Makes the data loaders of a run as its YAML says.

    Parameters
    ----------
    hparams : mapping
        The run's configuration.
    encoder : Module
        Has the `sample_rate` that clips are read at; its feats are what a cache keeps.
    output_folder : Path
        The run's, where clips that break are listed.
    """

    def __init__(self, hparams: Mapping[str, Any], encoder: Any, output_folder: Path) -> None:
        self.hparams, self.encoder, self.output_folder = hparams, encoder, output_folder
        self.cache: FeatureCache | None = None
        if hparams["feature_cache"] is not None:
            dtype = hparams["feature_cache_dtype"]
            self.cache = FeatureCache(hparams["feature_cache"], encoder, dtype)

    def training(self, rows: Rows) -> DataLoader:
        """Clips of at least `min_seconds`, shuffled and balanced over groups."""
        if self.cache is not None and if_main_process():
            # A mixture is heard beside its clean speech, and both are kept.
            seconds = sum(row["duration"] * (2 if "noisy" in row else 1) for row in rows)
            print(self.cache.describe_cost(seconds), flush=True)
        hparams, rows = self.hparams, self._long_enough(rows)
        # A recipe's own corpus must have the column that its YAML balances.
        column = self._column(rows) if hparams["own_data"] else hparams["group_by"]
        unbalanced = column is None and hparams["group_by"] is not None
        dataset = self._dataset(rows, self.cache, column)
        return self._loader(
            dataset,
            batch_size=hparams["batch_size"],
            sorting=hparams["sorting"],
            passes=hparams["passes_per_epoch"],
            drop_last=True,
            groups=dataset.groups,
            temperature=1.0 if unbalanced else hparams["temperature"],
            with_draws=hparams["mixer"] is not None,
        )

    def validation(self, rows: Rows) -> DataLoader:
        """All clips in order of duration, batches of one group each."""
        return self._figures(rows, self.cache)

    def test(self, rows: Rows) -> DataLoader:
        """As validation, without the cache: a test set is heard once."""
        return self._figures(rows, None)

    def samples(self, rows: Rows) -> list[AudioBatch]:
        """The first clips by ID, one a batch: those that a person hears and sees."""
        rows = sorted(rows, key=lambda row: row["ID"])[: self.hparams["sample_clips"]]
        if not rows:
            return []
        dataset = self._dataset(rows, None, None, needs_sig=True)
        batches = [pad_collate([dataset[index]]) for index in range(len(dataset))]
        return [batch for batch in batches if batch is not None]

    def _figures(self, rows: Rows, cache: FeatureCache | None) -> DataLoader:
        dataset = self._dataset(rows, cache, self._column(rows))
        return self._loader(
            dataset,
            batch_size=self.hparams["valid_batch_size"],
            sorting="ascending",
            groups=dataset.groups,
            pure=True,
        )

    def _column(self, rows: Rows) -> str | None:
        """Column of the groups; a set from elsewhere may have none, and figures of the whole."""
        column = self.hparams["group_by"]
        return column if column in rows[0] else None

    def _loader(self, dataset: AudioDataset, **options: Any) -> DataLoader:
        return batch_loader(dataset, self.hparams, pad_collate, **options)

    def _dataset(
        self,
        rows: Rows,
        cache: FeatureCache | None,
        group_by: str | None,
        needs_sig: bool | None = None,
    ) -> AudioDataset:
        hparams, rate = self.hparams, self.encoder.sample_rate
        mixer = hparams["mixer"]
        if mixer is not None and "noisy" in rows[0]:
            mixer = None  # mixed on disk already
        if mixer is not None:
            mixer = mixer(rows=rows, sample_rate=rate, seed=hparams["seed"])
        return AudioDataset(
            rows,
            rate,
            max_seconds=hparams["max_seconds"],
            report=self.output_folder / "skipped.csv",
            cache=cache,
            with_sig=hparams["brain"].needs_sig(hparams) if needs_sig is None else needs_sig,
            group_by=group_by,
            mixer=mixer,
        )

    def _long_enough(self, rows: Rows) -> Rows:
        shortest = self.hparams["min_seconds"]
        kept = [row for row in rows if row["duration"] >= shortest]
        if not kept:
            raise UserError(f"min_seconds={shortest}: no clip of {len(rows)} is left; lower it")
        if len(kept) < len(rows):
            logger.info("%d clips under %g s are left out", len(rows) - len(kept), shortest)
        return kept


def batch_loader(
    dataset: Any, hparams: Mapping[str, Any], collate: Callable[..., Any], **options: Any
) -> DataLoader:
    """Batches of a data set, dealt out to the processes.

    Parameters
    ----------
    dataset : Dataset
        Has `durations`.
    hparams : mapping
        The run's configuration: `num_workers` and `seed`.
    collate : callable
        Joins the items of a batch.
    **options
        Of `EpochBatchSampler`.

    Returns
    -------
    DataLoader
        Its `batch_sampler` is the `EpochBatchSampler`.
    """
    workers = hparams["num_workers"]
    sampler = EpochBatchSampler(
        dataset.durations,
        seed=hparams["seed"],
        world_size=process_count(),
        rank=process_rank(),
        **options,
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
