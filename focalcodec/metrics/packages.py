"""What judges need of installed packages: modules, files with a known hash, versions."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

from focalcodec.compat import ensure_torchaudio
from focalcodec.errors import UserError
from focalcodec.files import file_sha256


def need(module: str, install: str) -> Any:
    """Import a module that a judge is made of.

    Parameters
    ----------
    module : str
        Name, with dots.
    install : str
        Command that installs it.

    Returns
    -------
    module
        Imported.

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
    """Import a module that imports torchaudio where it is installed.

    Parameters
    ----------
    module : str
        Name, with dots.
    install : str
        Command that installs it.

    Returns
    -------
    module
        Imported.

    Raises
    ------
    UserError
        It, or something that it imports, is not installed.

    Example
    -------
    >>> need_beside_torchaudio("torch", "pip install torch").__name__
    'torch'
    """
    if util.find_spec("torchaudio") is not None:
        ensure_torchaudio()
    return need(module, install)


def package_folder(package: str, install: str) -> Path:
    """Folder of an installed package, which is not imported: it may be there for its files only.

    Parameters
    ----------
    package : str
        Name without dots.
    install : str
        Command that installs it.

    Returns
    -------
    Path
        Folder.

    Raises
    ------
    UserError
        Not installed.

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
    """Refuse a file that is not there or is another than the one whose figures are known.

    Parameters
    ----------
    path : Path
        File.
    sha256 : str
        64 hexadecimal digits.
    install : str
        Command that brings it.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    UserError
        No such file, or another hash.

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
    """Name and version of distributions, for `describe`.

    Parameters
    ----------
    packages : sequence of str
        Names as on the package index.

    Returns
    -------
    str
        Such as "jiwer 4.0.0, torch 2.13.0"; "?" for a module without a distribution.

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
