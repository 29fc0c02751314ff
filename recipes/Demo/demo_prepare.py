"""Manifests of the demo codec's corpus, which is in LibriSpeech's tree: demo_corpus.py makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from focalcodec.audio import Channels
from focalcodec.data.librispeech_tree import librispeech_sets, named_sets, with_noisy
from focalcodec.data.prepare import PrepareOptions, prepare_sets


def prepare_demo(
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
        Splits of each set, e.g. `["train-synthetic", "train-real"]`.
    extra_sets : mapping of str to sequence of str, optional
        Further sets by name, e.g. `{"test-real": ["test-real"]}`.
    skip_prep : bool
        Return at once: the manifests exist.
    channels, min_seconds, max_broken_share
        See `focalcodec.data.prepare.PrepareOptions`.
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
    sets = named_sets(tr_splits, dev_splits, te_splits, extra_sets)
    root, sources = librispeech_sets(data_folder, save_folder, sets)
    if noisy:
        sources = {name: with_noisy(root, source) for name, source in sources.items()}
    prepare_sets(
        root, save_folder, sources, PrepareOptions(channels, min_seconds, max_broken_share)
    )
