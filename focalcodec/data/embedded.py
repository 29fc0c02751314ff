"""The small corpus inside the repository, taken when no data folder is given."""

from __future__ import annotations

from pathlib import Path

from focalcodec.errors import UserError

_CORPUS = Path(__file__).resolve().parents[2] / "corpus"


def embedded_corpus(dataset: str) -> Path:
    """Folder of the embedded mini corpus in the layout of a dataset.

    Parameters
    ----------
    dataset : str
        Name of the layout: "LibriSpeech" or "VoxPopuli".

    Returns
    -------
    Path
        Use it as the `data_folder` of that dataset's preparation.

    Raises
    ------
    UserError
        The package is installed without the repository, or there is no such dataset.

    Example
    -------
    >>> embedded_corpus("LibriSpeech").name
    'LibriSpeech'
    """
    folder = _CORPUS / dataset
    if not folder.is_dir():
        raise UserError(
            f"{folder}: the embedded corpus is not there; run from a clone of the repository,"
            " or name your own with --data_folder"
        )
    return folder
