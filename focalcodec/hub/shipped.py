"""The codec that comes with the package, by its name `demo`."""

from __future__ import annotations

import os
from pathlib import Path

from focalcodec.errors import UserError

DEMO = "demo"
FOLDER = Path(__file__).parents[1] / "models" / DEMO


def is_shipped(source: str | os.PathLike[str]) -> bool:
    """Whether a model's name is that of the shipped one.

    The name always means the shipped codec, wherever a command is run; a folder called demo is
    `./demo`, or a `Path`.

    Example
    -------
    >>> is_shipped("demo"), is_shipped("./demo"), is_shipped(Path("demo"))
    (True, False, False)
    """
    return isinstance(source, str) and source == DEMO


def has_demo() -> bool:
    """Whether this installation has the shipped codec."""
    return any(FOLDER.glob("*.safetensors"))


def shipped_folder(revision: str | None = None) -> Path:
    """Folder of the shipped codec.

    Parameters
    ----------
    revision : str, optional
        Refused: the package's version decides.

    Returns
    -------
    Path
        Folder with `config.json` and `model.safetensors`.

    Raises
    ------
    UserError
        This installation lacks it, or a revision was asked for.

    Example
    -------
    >>> shipped_folder("v2")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: demo: comes with the package, without revisions; leave out v2
    """
    if revision is not None:
        raise UserError(f"{DEMO}: comes with the package, without revisions; leave out {revision}")
    if not has_demo():
        raise UserError(
            f"{DEMO}: not in this installation ({FOLDER}); install focalcodec again, or give the"
            " folder of a codec or a hub repository"
        )
    return FOLDER


def named_folder(source: str | os.PathLike[str]) -> Path:
    """Path that a model's name stands for, where it stands for one.

    Parameters
    ----------
    source : str or path
        `demo`, a folder, or a hub repository.

    Returns
    -------
    Path
        There or not.

    Example
    -------
    >>> named_folder("demo") == FOLDER, named_folder("results/codec").name
    (True, 'codec')
    """
    return FOLDER if is_shipped(source) else Path(source).expanduser()
