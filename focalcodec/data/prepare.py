"""From a corpus to the manifests of its sets: what each dataset's preparation is built of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from focalcodec.data.found import (
    FoundClip,
    FoundFile,
    PrepareOptions,
    SetSource,
    check_data_folder,
    walk_files,
)
from focalcodec.data.manifest import read_manifest
from focalcodec.data.manifest_builder import Row, build_manifest, build_manifests
from focalcodec.errors import UserError
from focalcodec.files import atomic_path

__all__ = [
    "FoundClip",
    "FoundFile",
    "PrepareOptions",
    "SetSource",
    "check_data_folder",
    "is_prepared",
    "prepare_sets",
    "prepare_shares",
    "prepared_how",
    "prepared_names",
    "prepared_root",
    "read_prepared",
    "walk_files",
    "write_sets",
]

SETS_NAME = "sets.json"


def prepare_sets(
    data_root: str | Path,
    save_folder: str | Path,
    sets: Mapping[str, SetSource],
    options: PrepareOptions,
    skip_prep: bool = False,
    num_threads: int = 8,
) -> None:
    """Make `<name>.csv` for each set, and `sets.json`, which says what there is.

    A set that was made from the same files with the same options is kept. The data folder is only
    read.

    Parameters
    ----------
    data_root : str or path
        Root of the corpus.
    save_folder : str or path
        Where manifests go.
    sets : mapping of str to SetSource
        Sets by name: "train", "valid", "test", and any others.
    options : PrepareOptions
        What to accept.
    skip_prep : bool
        Return at once: the manifests are there.
    num_threads : int
        Threads that read headers.

    Raises
    ------
    UserError
        A missing folder, no clips, an ID twice, or too many broken clips.
    """
    if skip_prep:
        return
    root, folder = check_data_folder(data_root, save_folder), Path(save_folder).expanduser()
    for name, source in sets.items():
        build_manifest(folder / f"{name}.csv", root, source, options, num_threads)
    # As given: a relative root stays one, so that both folders can be moved together.
    write_sets(folder, data_root, list(sets))


def prepare_shares(
    data_root: Path,
    save_folder: str | Path,
    source: SetSource,
    share_out: Callable[[list[Row]], Mapping[str, list[Row]]],
    options: PrepareOptions,
    how: str,
) -> None:
    """Make `train.csv`, `valid.csv` and `test.csv` of one source, as `prepare_sets` does of three.

    Parameters
    ----------
    data_root, save_folder, options
        As `prepare_sets`.
    source : SetSource
        All clips; its details must tell how they are shared out.
    share_out : callable
        Rows of all clips -> those of each set.
    how : str
        How they were shared out, for people.

    Raises
    ------
    UserError
        No clips, an ID twice, or too many broken clips.
    """
    folder = Path(save_folder).expanduser()
    names = ("train", "valid", "test")
    manifests = [folder / f"{name}.csv" for name in names]
    build_manifests(manifests, data_root, source, options, share_out, folder / "skipped.csv")
    write_sets(folder, data_root, names, how)


def write_sets(folder: Path, data_root: str | Path, names: Sequence[str], how: str = "") -> None:
    """Write `sets.json`, unless that is what it says.

    Parameters
    ----------
    folder : Path
        Folder of the manifests.
    data_root : str or path
        What `$data_root` stands for in them.
    names : sequence of str
        Of the sets.
    how : str
        How clips were shared out to them, for people.
    """
    about = {"data_root": str(data_root), "sets": list(names)} | ({"split": how} if how else {})
    text, path = json.dumps(about, indent=2) + "\n", folder / SETS_NAME
    if not path.is_file() or path.read_bytes() != text.encode():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def is_prepared(folder: str | Path) -> bool:
    """Whether a folder holds manifests that `prepare_sets` made."""
    return (Path(folder).expanduser() / SETS_NAME).is_file()


def read_prepared(folder: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of each set of a folder.

    Parameters
    ----------
    folder : str or path
        That `prepare_sets` wrote.

    Returns
    -------
    dict of str to list of dict
        See `read_manifest`.

    Raises
    ------
    UserError
        Not such a folder, or a manifest or audio file that is not there.

    Example
    -------
    >>> read_prepared("no/manifests")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no/manifests/sets.json: not there; run the preparation \
(skip_prep off) first
    """
    place, root = Path(folder).expanduser(), prepared_root(folder)
    return {name: read_manifest(place / f"{name}.csv", root) for name in prepared_names(folder)}


def prepared_names(folder: str | Path) -> list[str]:
    """Names of the sets of a folder that `prepare_sets` wrote."""
    return _read_sets(folder)["sets"]


def prepared_root(folder: str | Path) -> Path:
    """Data root of a folder that `prepare_sets` wrote."""
    return Path(_read_sets(folder)["data_root"]).expanduser()


def prepared_how(folder: str | Path) -> str:
    """How clips were shared out to the sets of a folder; "" where the corpus has its own."""
    return _read_sets(folder)["split"]


def _read_sets(folder: str | Path) -> dict[str, Any]:
    path = Path(folder).expanduser() / SETS_NAME
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        names = [str(name) for name in about["sets"]]
        root, how = str(about["data_root"]), str(about.get("split", ""))
        return {"data_root": root, "sets": names, "split": how}
    except FileNotFoundError as error:
        raise UserError(f"{path}: not there; run the preparation (skip_prep off) first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not as the preparation writes it; prepare again") from error
