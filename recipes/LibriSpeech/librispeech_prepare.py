"""Manifests of LibriSpeech, or of a corpus in its tree or in LibriTTS's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from focalcodec.audio import Channels
from focalcodec.data.corpus import PrepareOptions, SetSource
from focalcodec.data.librispeech_tree import librispeech_sets, named_sets, with_noisy
from focalcodec.data.prepare import Row, prepare_sets, prepare_shares
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError

SETS = ("train", "valid", "test")


def prepare_librispeech(
    data_folder: str | Path | None,
    save_folder: str | Path,
    tr_splits: Sequence[str] = (),
    dev_splits: Sequence[str] = (),
    te_splits: Sequence[str] = (),
    extra_sets: Mapping[str, Sequence[str]] | None = None,
    skip_prep: bool = False,
    channels: Channels = "error",
    min_seconds: float = 0.05,
    max_broken_share: float = 0.05,
    shares: Sequence[float] | None = None,
    split_seed: int = 1986,
    noisy: bool = False,
) -> None:
    """Make `train.csv`, `valid.csv`, `test.csv` and one `<name>.csv` for each extra set.

    Does nothing for a set that was made from the same files with the same options. The data
    folder is only read.

    Parameters
    ----------
    data_folder : str or path, optional
        Folder with the splits. None: the embedded mini corpus. If this lacks a named split, its
        own splits are used.
    save_folder : str or path
        Folder for the manifests.
    tr_splits, dev_splits, te_splits : sequence of str
        Splits of each set, e.g. `["train-clean-100", "train-clean-360"]`.
    extra_sets : mapping of str to sequence of str, optional
        Further sets by name, e.g. `{"test-real": ["test-real"]}`.
    skip_prep : bool
        Do nothing: the manifests exist.
    channels, min_seconds, max_broken_share
        See `focalcodec.data.corpus.PrepareOptions`.
    shares : sequence of float, optional
        Shares of train, valid and test, such as [0.8, 0.1, 0.1]. The clips of `tr_splits` are
        divided among the three at random, so that each set has all speakers. There are no other
        sets then.
    split_seed : int
        Seed of this division. It differs from the run's seed, so that all runs have the same sets.
    noisy : bool
        Give all clips the column `noisy`: the partner that `augment.py` made, or the clip itself.

    Raises
    ------
    UserError
        A folder or split is missing, there are no clips, two clips have one ID, or too many clips
        are broken.
    """
    if skip_prep:
        return
    options = PrepareOptions(channels, min_seconds, max_broken_share)
    sets = named_sets(tr_splits, dev_splits, te_splits, extra_sets)
    if shares is not None:
        _check_shares(shares, sets)
    root, sources = librispeech_sets(data_folder, save_folder, sets)
    if noisy:
        sources = {name: with_noisy(root, source) for name, source in sources.items()}
    if shares is None:
        prepare_sets(root, save_folder, sources, options)
        return
    _share_out(root, save_folder, sources["train"], shares, split_seed, options)


def _share_out(
    root: Path,
    save_folder: str | Path,
    train: SetSource,
    shares: Sequence[float],
    split_seed: int,
    options: PrepareOptions,
) -> None:
    details = {**train.details, "shares": list(shares), "split_seed": split_seed}
    source = SetSource(train.folders, train.find, details)
    share = partial(share_clips, shares=shares, seed=split_seed)
    how = "by clip, at random within each speaker"
    prepare_shares(root, save_folder, source, share, options, how)


def share_clips(rows: Sequence[Row], shares: Sequence[float], seed: int) -> dict[str, list[Row]]:
    """Divide the clips of each speaker among train, valid and test.

    Parameters
    ----------
    rows : sequence of dict
        Rows of a manifest, each a whole file.
    shares : sequence of float
        Shares of the three sets.
    seed : int
        Seed of the order in which a speaker's clips are taken.

    Returns
    -------
    dict of str to list of dict
        Rows of each set, in their old order.

    Example
    -------
    >>> rows = [{"ID": f"7-{k}", "spk_id": "7"} for k in range(10)]
    >>> sets = share_clips(rows, [0.8, 0.1, 0.1], seed=1986)
    >>> {name: len(some) for name, some in sets.items()}
    {'train': 8, 'valid': 1, 'test': 1}
    """
    clips: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        clips[row["spk_id"]].append(row["ID"])
    chosen: dict[str, str] = {}
    for ids in clips.values():
        ids.sort(key=lambda name: stable_seed(seed, name))
        # Rounded up: a speaker with one clip is in the training set, because a test can predict
        # only training speakers.
        edges = [math.ceil(round(len(ids) * sum(shares[:k]), 6)) for k in (1, 2)]
        chosen |= {name: SETS[sum(k >= edge for edge in edges)] for k, name in enumerate(ids)}
    return {name: [row for row in rows if chosen[row["ID"]] == name] for name in SETS}


def _check_shares(shares: Sequence[float], sets: Mapping[str, Sequence[str]]) -> None:
    if len(shares) != len(SETS) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise UserError(
            f"shares={list(shares)}: give three shares above 0 with a sum of 1, those of train,"
            " valid and test, such as [0.8, 0.1, 0.1]"
        )
    others = [name for name in sets if name != "train"]
    if others:
        raise UserError(
            f"shares: all sets are made from the clips of tr_splits, but {others[0]!r} names"
            " splits too; leave dev_splits, te_splits and extra_sets empty"
        )
