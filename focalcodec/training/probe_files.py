"""What a probe's answers mean, kept in the run's folder: the same for as long as the run lasts."""

from __future__ import annotations

from pathlib import Path

from speechbrain.utils.distributed import run_on_main

from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.training.identity import SAVE_NAME


def keep_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file of a run, unless that is what it holds.

    Parameters
    ----------
    folder : Path
        The run's.
    name : str
        Of the file.
    content : bytes
        What it is to hold.

    Raises
    ------
    UserError
        It holds something else, and there are checkpoints that were trained with that.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> keep_file(folder, "labels.json", b"[1]")
    >>> (folder / "labels.json").read_bytes()
    b'[1]'
    """
    path = folder / name
    trained = any((folder / SAVE_NAME).glob("CKPT*"))
    if trained and path.is_file() and path.read_bytes() != content:
        raise UserError(
            f"{path}: the run was started with other data or another codec; bring them back, or"
            " choose a new output_folder"
        )
    run_on_main(_write, args=[path, content])


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
