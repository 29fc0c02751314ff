"""Optional packages: import one, find its folder, check its files, name its version."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

from focalcodec.compat import ensure_torchaudio
from focalcodec.errors import UserError
from focalcodec.files import file_sha256


def need(module: str, install: str) -> Any:
    """Import an optional module.

    Parameters
    ----------
    module : str
        Name, with dots.
    install : str
        Command that installs it, for the error.

    Raises
    ------
    UserError
        It, or something that it imports, is not installed.

    Example
    -------
    >>> need("no_such_module", "pip install no-such==1.0")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: no_such_module: not installed; run pip install no-such==1.0
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name}: not installed; run {install}") from error


def need_beside_torchaudio(module: str, install: str) -> Any:
    """Import an optional module that imports torchaudio if that is installed; see `need`."""
    if util.find_spec("torchaudio") is not None:
        ensure_torchaudio()
    return need(module, install)


def package_folder(package: str, install: str) -> Path:
    """Return the folder of an installed package without importing it; `UserError` if missing.

    Example
    -------
    >>> package_folder("torch", "pip install torch").name
    'torch'
    """
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{package}: not installed; run {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def check_sha256(path: Path, sha256: str, install: str) -> Path:
    """Return `path` if the file exists and has this SHA-256 (64 hexadecimal digits).

    Raises
    ------
    UserError
        No such file, or another hash: the figures of other weights are not comparable.

    Example
    -------
    >>> check_sha256(Path("nothing.bin"), "0" * 64, "pip install judge")
    Traceback (most recent call last):
        ...
    focalcodec.errors.UserError: nothing.bin: no such file; run pip install judge
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run {install}")
    found = file_sha256(path)
    if found != sha256:
        raise UserError(f"{path}: sha256 {found}, not {sha256}; remove the package, run {install}")
    return path


def versions(packages: Sequence[str]) -> str:
    """Return names and versions of distributions in one line; "?" for one that has no version.

    Example
    -------
    >>> versions(["no-such-package"])
    'no-such-package ?'
    """
    return ", ".join(f"{package} {_version(package)}" for package in packages)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"
