"""The sets of clips that a recipe's YAML names: those of its dataset, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from focalcodec.data.corpus import SetSource, check_data_folder
from focalcodec.data.manifest import is_prepared, prepared_root, read_manifest, read_prepared
from focalcodec.data.own_folder import OWN_OPTIONS, find_clips, prepare_own
from focalcodec.data.prepare import prepare_sets
from focalcodec.errors import UserError

Rows = Sequence[dict[str, Any]]

CORPUS_KEYS = frozenset(
    "data_folder prepare own_data more_tests skip_prep max_broken_share".split()
)
"""YAML keys that are read here."""


def prepare_corpus(hparams: Mapping[str, Any], manifests: Path) -> None:
    """Make the manifests of a run, unless they are there.

    Parameters
    ----------
    hparams : mapping
        A configuration with `CORPUS_KEYS`.
    manifests : Path
        Folder for them.

    Raises
    ------
    UserError
        A corpus that is not there, or not as the preparation expects it.
    """
    options = {key: hparams[key] for key in ("skip_prep", "max_broken_share")}
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
    """Rows of each set that `prepare_corpus` made or found.

    Parameters
    ----------
    hparams, manifests
        As `prepare_corpus`.

    Returns
    -------
    dict of str to manifest rows
        "train", "valid", "test", further sets of the dataset, and `more_tests`.

    Raises
    ------
    UserError
        A manifest that is not there or damaged, or two sets of one name.
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
    return sets


def prepared_folder(hparams: Mapping[str, Any], manifests: Path) -> Path:
    """Folder with the manifests of a run: its own, or the one that the user prepared before."""
    own = hparams["own_data"]
    return manifests if own is None or not is_prepared(own) else Path(own).expanduser()


def _is_manifest(source: str) -> bool:
    return Path(source).suffix.lower() == ".csv"
