"""Weights of the papers' judges: a folder, or a repository on the hub.

No hash of theirs is pinned: a judge's `describe` records which file its figures are from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from focalcodec.errors import UserError
from focalcodec.hub.locations import hub_folder


def judge_folder(source: str, patterns: Sequence[str], weights: Sequence[str]) -> tuple[Path, Path]:
    """Folder of a judge's model, from the hub where `source` is no folder here.

    Parameters
    ----------
    source : str
        Folder, or repository on the hub.
    patterns : sequence of str
        Files to have beside the weights, as shell patterns.
    weights : sequence of str
        Names that the weights may have, the best first: the first that is there is taken, and no
        other downloaded.

    Returns
    -------
    folder, weights : Path
        The folder and the weights within.

    Raises
    ------
    UserError
        Neither here nor on the hub nor in its cache.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "model.safetensors").write_bytes(b"")
    ...     judge_folder(folder, ["*.json"], ["model.safetensors"])[1].name
    'model.safetensors'
    """
    files = " ".join(f"--include '{pattern}'" for pattern in (*patterns, *weights))
    way_out = f"where there is a network, run hf download {source} {files}"
    path = Path(source)
    for name in weights:
        try:
            folder = path if path.is_dir() else hub_folder(source, [*patterns, name])
        except UserError as error:
            raise UserError(
                f"{source}: not a folder, not in the hub's cache, and the hub gave none; {way_out}"
            ) from error
        if (folder / name).is_file():
            return folder, folder / name
    raise UserError(f"{source}: no {' or '.join(weights)} in it; {way_out}")
