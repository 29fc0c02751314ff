"""Manifests of emotional speech: IEMOCAP, CREMA-D, RAVDESS; without a data folder, toy classes.

All have the columns `emotion` and `gender`; emotions are angry, happy, neutral and sad.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from crema_d import crema_d_source
from iemocap_tree import iemocap_sets
from ravdess import ravdess_source
from toy_emotions import toy_sets

from focalcodec.data.corpus import PrepareOptions, SetSource, check_data_folder
from focalcodec.data.own_folder import ShareOptions, share_out
from focalcodec.data.prepare import Row, prepare_sets, prepare_shares
from focalcodec.errors import UserError

CORPORA = ("iemocap", "crema-d", "ravdess")


def prepare_iemocap(
    data_folder: str | Path | None,
    save_folder: str | Path,
    corpus: str = "iemocap",
    valid_share: float = 0.1,
    test_share: float = 0.1,
    split_seed: int = 1986,
    skip_prep: bool = False,
    max_broken_share: float = 0.05,
) -> None:
    """Write `train.csv`, `valid.csv` and `test.csv`; with toy classes `test-toy.csv`.

    A set that was made from the same files with the same options is kept. The data folder is only
    read.

    Parameters
    ----------
    data_folder : str or path, optional
        Root of the corpus. None: toy classes, made from the embedded corpus.
    save_folder : str or path
        Folder for the manifests, and for the clips of the toy classes.
    corpus : {"iemocap", "crema-d", "ravdess"}
        IEMOCAP has a fixed split: sessions 1 to 4 for training, the actress of session 5 for
        validation, the actor of session 5 for the test.
    valid_share, test_share : float
        Shares of the seconds of CREMA-D and RAVDESS; no actor is in two sets.
    split_seed : int
        Seed of the actors' order. It differs from the run's seed, so that all runs have the same
        sets.
    skip_prep : bool
        Do nothing: the manifests exist.
    max_broken_share : float
        If the share of broken clips in a set is larger, the preparation stops.

    Raises
    ------
    UserError
        A folder is missing, the corpus is another one, there are no clips, two clips have one ID,
        or too many clips are broken.
    """
    if skip_prep:
        return
    if corpus not in CORPORA:
        raise UserError(f"corpus={corpus!r}: not one of {', '.join(CORPORA)}")
    # Some files of RAVDESS are stereo.
    channels = "mix" if corpus == "ravdess" else "error"
    options = PrepareOptions(channels, max_broken_share=max_broken_share)
    if data_folder is None:
        root, sets = toy_sets(save_folder)
        prepare_sets(root, save_folder, sets, options)
        return
    root = check_data_folder(data_folder, save_folder)
    if corpus == "iemocap":
        prepare_sets(root, save_folder, iemocap_sets(root), options)
        return
    shares = ShareOptions("speaker", valid_share, test_share, split_seed)
    source = crema_d_source(root) if corpus == "crema-d" else ravdess_source(root)
    _prepare_by_actor(root, save_folder, source, options, shares)


def _prepare_by_actor(
    root: Path,
    save_folder: str | Path,
    source: SetSource,
    options: PrepareOptions,
    shares: ShareOptions,
) -> None:
    def share(rows: list[Row]) -> dict[str, list[Row]]:
        return share_out(rows, {}, shares, str(root))[0]

    keyed = SetSource(source.folders, source.find, {**source.details, **asdict(shares)})
    prepare_shares(root, save_folder, keyed, share, options, "by actor")
