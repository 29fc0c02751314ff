"""Make the batches of a run from the corpus of a YAML: manifests, rows, data loaders."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from speechbrain.utils.distributed import if_main_process
from torch.utils.data import DataLoader

from focalcodec.audio_files import AudioFile
from focalcodec.data.corpus import SetSource, check_data_folder
from focalcodec.data.dataset import AudioBatch, AudioDataset, pad_collate
from focalcodec.data.feature_cache import FeatureCache
from focalcodec.data.manifest import is_prepared, prepared_root, read_manifest, read_prepared
from focalcodec.data.own_folder import OWN_OPTIONS, prepare_own
from focalcodec.data.prepare import prepare_sets
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.data.trees import find_clips
from focalcodec.errors import UserError
from focalcodec.training.distributed import process_count, process_rank
from focalcodec.training.run.folder import RunFolder

logger = logging.getLogger(__name__)

Rows: TypeAlias = "Sequence[dict[str, Any]]"


def prepare_corpus(hparams: Mapping[str, Any], manifests: Path) -> None:
    """Write the manifests of a run's corpus or own_data into a folder, unless they exist.

    Raises
    ------
    UserError
        The corpus is missing, or the preparation can't read it.
    """
    options = {
        "skip_prep": hparams["skip_prep"],
        "max_broken_share": hparams["max_broken_share"],
    }
    own = hparams["own_data"]
    if own is None:
        hparams["prepare"](data_folder=hparams["data_folder"], save_folder=manifests, **options)
    elif not is_prepared(own):
        prepare_own(own, manifests, **options)
    for name, source in (hparams.get("more_tests") or {}).items():
        if not _is_manifest(source):
            folder = manifests / "more_tests" / name
            root = check_data_folder(source, folder)
            found = {name: SetSource([""], find_clips)}
            accepted = replace(OWN_OPTIONS, max_broken_share=hparams["max_broken_share"])
            prepare_sets(root, folder, found, accepted, hparams["skip_prep"])


def read_corpus(hparams: Mapping[str, Any], manifests: Path) -> dict[str, Rows]:
    """Rows of each set that `prepare_corpus` wrote or found, by name.

    Returns
    -------
    dict of str to manifest rows
        "train", "valid", "test", further sets of the dataset, and `more_tests`.

    Raises
    ------
    UserError
        A manifest is missing or damaged, or two sets have one name.
    """
    sets: dict[str, Rows] = dict(read_prepared(prepared_folder(hparams, manifests)))
    for name, source in (hparams.get("more_tests") or {}).items():
        if name in sets:
            raise UserError(f"more_tests: {name!r} is the name of another set; rename it")
        if _is_manifest(source):
            path = Path(source).expanduser()
            root = prepared_root(path.parent) if is_prepared(path.parent) else path.parent
            sets[name] = read_manifest(path, root)
        else:
            sets[name] = read_prepared(manifests / "more_tests" / name)[name]
    for name, key in {"train": "tr_splits", "valid": "dev_splits"}.items():
        if name not in sets:
            given = f"{key}={hparams.get(key)}" if hparams["own_data"] is None else "own_data"
            raise UserError(f"{given}: no clips for the set {name!r}, which a training needs")
    return sets


def warn_of_known_clips(sets: Mapping[str, Rows]) -> None:
    """Warn if clips of another set are training clips too."""
    trained = {(row["wav"], row.get("start")) for row in sets["train"]}
    for name, rows in sets.items():
        known = sum((row["wav"], row.get("start")) in trained for row in rows)
        if known and name != "train":
            print(
                f"warning: {known} of {len(rows)} clips of {name!r} are training clips too; its"
                " figures do not show what the model does with new speech",
                file=sys.stderr,
                flush=True,
            )


def prepared_folder(hparams: Mapping[str, Any], manifests: Path) -> Path:
    """Folder with the manifests of a run: the run's own, or one that the user prepared."""
    own = hparams["own_data"]
    return manifests if own is None or not is_prepared(own) else Path(own).expanduser()


def _is_manifest(source: str) -> bool:
    return Path(source).suffix.lower() == ".csv"


class AudioLoaders:
    """Data loaders of the two stages: batches of clips, and feats if there is a cache.

    Parameters
    ----------
    hparams : mapping
        The run's configuration.
    encoder : Module
        Clips are read at its `sample_rate`, or at that of a decoder in the YAML's modules; a cache
        stores its feats.
    sets : mapping of str to manifest rows
        Result of `read_corpus`.
    folder : RunFolder
        Broken clips are listed here, in `skipped.csv`.

    Attributes
    ----------
    train, valid : DataLoader
        Training: clips of at least `min_seconds`, shuffled and balanced over groups. Validation:
        all clips in order of duration, batches of one group each.
    tests : dict of str to DataLoader
        Like validation, but without the cache, because a test set is read once.
    samples : list of AudioBatch
        The first validation clips by ID, one in each batch; their audio and pictures are written.
    cache : FeatureCache or None
        Stores feats between epochs.
    sample_rate : int
        Of the clips, Hz.
    """

    def __init__(
        self,
        hparams: Mapping[str, Any],
        encoder: Any,
        sets: Mapping[str, Rows],
        folder: RunFolder,
    ) -> None:
        self.hparams, self.encoder, self.sets = hparams, encoder, sets
        self._report = folder.path / "skipped.csv"
        self.sample_rate = clip_rate(hparams.get("modules", {}), encoder)
        if self.sample_rate > encoder.sample_rate and if_main_process():
            _say_if_upsampled(sets["train"], self.sample_rate)
        self.cache: FeatureCache | None = None
        if hparams["feature_cache"] is not None:
            dtype = hparams["feature_cache_dtype"]
            self.cache = FeatureCache(hparams["feature_cache"], encoder, dtype)
        self.train = self._training(sets["train"])
        self.valid = self._in_order(sets["valid"], self.cache)
        tests = {name: rows for name, rows in sets.items() if name not in ("train", "valid")}
        self.tests = {name: self._in_order(rows, None) for name, rows in tests.items()}
        self.samples = self._samples(sets["valid"])

    def _training(self, rows: Rows) -> DataLoader:
        if self.cache is not None and if_main_process():
            # The cache also stores the feats of mixtures.
            seconds = sum(row["duration"] * (2 if "noisy" in row else 1) for row in rows)
            print(self.cache.describe_cost(seconds), flush=True)
        hparams, rows = self.hparams, long_enough(rows, self.hparams["min_seconds"])
        # The corpus of a recipe must have the column that the YAML balances over.
        column = self._column(rows) if hparams["own_data"] else hparams["group_by"]
        unbalanced = column is None and hparams["group_by"] is not None
        dataset = self._dataset(rows, self.cache, column)
        return batch_loader(
            dataset,
            hparams,
            pad_collate,
            batch_size=hparams["batch_size"],
            sorting=hparams["sorting"],
            passes=hparams["passes_per_epoch"],
            drop_last=True,
            groups=dataset.groups,
            temperature=1.0 if unbalanced else hparams["temperature"],
            with_draws=hparams["mixer"] is not None,
        )

    def _in_order(self, rows: Rows, cache: FeatureCache | None) -> DataLoader:
        dataset = self._dataset(rows, cache, self._column(rows))
        return batch_loader(
            dataset,
            self.hparams,
            pad_collate,
            batch_size=self.hparams["valid_batch_size"],
            sorting="ascending",
            groups=dataset.groups,
            pure=True,
        )

    def _samples(self, rows: Rows) -> list[AudioBatch]:
        rows = sorted(rows, key=lambda row: row["ID"])[: self.hparams["sample_clips"]]
        if not rows:
            return []
        dataset = self._dataset(rows, None, None)
        batches = [pad_collate([dataset[index]]) for index in range(len(dataset))]
        return [batch for batch in batches if batch is not None]

    def _column(self, rows: Rows) -> str | None:
        """Column of the groups, or None if a set from another source lacks it."""
        column = self.hparams["group_by"]
        return column if column in rows[0] else None

    def _dataset(
        self, rows: Rows, cache: FeatureCache | None, group_by: str | None
    ) -> AudioDataset:
        hparams, rate = self.hparams, self.sample_rate
        mixer = hparams["mixer"]
        if mixer is not None and "noisy" in rows[0]:
            mixer = None  # the mixtures are on disk
        if mixer is not None:
            mixer = mixer(rows=rows, sample_rate=rate, seed=hparams["seed"])
        return AudioDataset(
            rows,
            rate,
            max_seconds=hparams["max_seconds"],
            report=self._report,
            cache=cache,
            with_sig=cache is None or hparams["brain"].needs_sig,
            group_by=group_by,
            mixer=mixer,
        )


def clip_rate(modules: Mapping[str, Any], encoder: Any) -> int:
    """Rate of the clips of a training, Hz: that of the decoder in `modules`, or the encoder's.

    It is 0 for a probe of tokens, which has no encoder and reads no audio.
    """
    return getattr(modules.get("decoder"), "sample_rate", getattr(encoder, "sample_rate", 0))


def _say_if_upsampled(rows: Rows, sample_rate: int) -> None:
    """One line if the first clip has a lower rate; the others are assumed to be like it."""
    with suppress(UserError), AudioFile(rows[0]["wav"]) as file:  # a broken clip is left out later
        if file.sample_rate < sample_rate:
            print(
                f"clips of {file.sample_rate} Hz are upsampled to {sample_rate} Hz, the decoder's"
                f" rate; above {file.sample_rate / 2:g} Hz it learns silence only",
                flush=True,
            )


def long_enough(rows: Rows, min_seconds: float) -> Rows:
    """Rows of at least `min_seconds`; UserError if none is left."""
    kept = [row for row in rows if row["duration"] >= min_seconds]
    if not kept:
        raise UserError(f"min_seconds={min_seconds}: no clip of {len(rows)} is left; lower it")
    if len(kept) < len(rows):
        logger.info("%d clips under %g s are left out", len(rows) - len(kept), min_seconds)
    return kept


def batch_loader(
    dataset: Any, hparams: Mapping[str, Any], collate: Callable[..., Any], **options: Any
) -> DataLoader:
    """Batches of a data set, divided among the processes.

    Parameters
    ----------
    dataset : Dataset
        Has `durations`.
    hparams : mapping
        The run's configuration: `num_workers` and `seed`.
    collate : callable
        Joins the items of a batch.
    **options
        Options of `EpochBatchSampler`.

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
