"""Manifests of emotional speech; without a data folder, toy classes.

All have the columns `emotion` and `gender`; emotions are angry, happy, neutral and sad.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from crema_d import crema_d_source
from emodb import emodb_source
from iemocap_tree import iemocap_sets
from ravdess import ravdess_source
from toy_emotions import toy_sets

from focalcodec.data.corpus import PrepareOptions, SetSource, check_data_folder, walk_files
from focalcodec.data.own_folder import ShareOptions, share_out
from focalcodec.data.prepare import Row, prepare_sets, prepare_shares
from focalcodec.errors import UserError

BY_ACTOR = {"crema-d": crema_d_source, "ravdess": ravdess_source, "emodb": emodb_source}
CORPORA = ("iemocap", *BY_ACTOR)


def prepare_iemocap(
    data_folder: str | Path | None,
    save_folder: str | Path,
    corpus: str = "iemocap",
    valid_share: float = 0.1,
    test_share: float = 0.1,
    split_seed: int = 1986,
    test_actor: str | int | None = None,
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
    corpus : {"iemocap", "crema-d", "ravdess", "emodb"}
        IEMOCAP has a fixed split: sessions 1 to 4 for training, the actress of session 5 for
        validation, the actor of session 5 for the test.
    valid_share, test_share : float
        Shares of the seconds of the other corpora; no actor is in two sets.
    split_seed : int
        Seed of the actors' order. It differs from the run's seed, so that all runs have the same
        sets.
    test_actor : str or int, optional
        Test on this actor of the other corpora alone, validate on the next one, and train on all
        others; None splits by the shares.
    skip_prep : bool
        Do nothing: the manifests exist.
    max_broken_share : float
        If the share of broken clips in a set is larger, the preparation stops.

    Raises
    ------
    UserError
        A folder is missing, the corpus is another one, it has no such actor, there are no clips,
        two clips have one ID, or too many clips are broken.
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
        if test_actor is not None:
            raise UserError(f"test_actor={test_actor}: IEMOCAP has a fixed split; give null")
        prepare_sets(root, save_folder, iemocap_sets(root), options)
        return
    shares = ShareOptions("speaker", valid_share, test_share, split_seed)

    def share(rows: list[Row]) -> dict[str, list[Row]]:
        if test_actor is not None:
            return leave_out(rows, test_actor)
        return share_out(rows, {}, shares, str(root))[0]

    source = BY_ACTOR[corpus](root)
    split = asdict(shares) if test_actor is None else {"test_actor": str(test_actor)}
    keyed = SetSource(source.folders, source.find, {**source.details, **split})
    prepare_shares(root, save_folder, keyed, share, options, "by actor")


def leave_out(rows: list[Row], test_actor: str | int) -> dict[str, list[Row]]:
    """Test on one actor, validate on the next one, train on all others."""
    actors = sorted({row["spk_id"] for row in rows})
    # YAML reads 03 as the number 3.
    places = [place for place, name in enumerate(actors) if test_actor in (name, int(name))]
    if not places or len(actors) < 3:
        raise UserError(f"test_actor={test_actor}: the corpus has {', '.join(actors)}")
    set_of = dict.fromkeys(actors, "train")
    set_of[actors[(places[0] + 1) % len(actors)]] = "valid"
    set_of[actors[places[0]]] = "test"
    sets: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for row in rows:
        sets[set_of[row["spk_id"]]].append(row)
    return sets


def find_actors(data_folder: str | Path, corpus: str) -> list[str]:
    """Actors of a corpus other than IEMOCAP, from the names of its files."""
    if corpus not in BY_ACTOR:
        raise UserError(f"corpus={corpus}: it has a fixed split; give {', '.join(BY_ACTOR)}")
    root = Path(data_folder).expanduser()
    if not root.is_dir():
        raise UserError(f"data_folder {root}: no such folder; name the corpus' root")
    source = BY_ACTOR[corpus](root)
    files = [file for folder in source.folders for file in walk_files(root, folder)]
    return sorted({clip.spk_id for clip in source.find(root, files)} - {""})
