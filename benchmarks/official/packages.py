"""The official package and this one, loaded into one process under two names."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from focalcodec.cli.verify import official_package
from focalcodec.errors import UserError

MODULES = ("codec", "wavlm", "focalnet", "bsq", "vocos", "wavenext", "version")


class Package:
    """One of the two packages: `package.wavlm` is its module of this name."""

    def __init__(self, module: ModuleType, root: Path) -> None:
        self.module = module
        self.root = root  # the folder of hubconf.py

    def __getattr__(self, name: str) -> ModuleType:
        if name not in MODULES:
            raise AttributeError(name)
        return importlib.import_module(f"{self.module.__name__}.{name}")


@cache
def ours() -> Package:
    """The package of this repository."""
    module = importlib.import_module("focalcodec")
    return Package(module, Path(str(module.__file__)).parents[1])


def official(root: str | Path) -> Package:
    """The official package in `root`, the folder of its repository, as `official_focalcodec`."""
    try:
        return Package(official_package(root), Path(root).resolve())
    except UserError as error:
        raise SystemExit(str(error)) from error
