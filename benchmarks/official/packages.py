"""The official package and this one, loaded into one process under two names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

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
    folder = Path(root).resolve() / "focalcodec"
    spec = importlib.util.spec_from_file_location(
        "official_focalcodec", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not folder.is_dir():
        raise SystemExit(
            f"{root}: no focalcodec/ in it; give the folder of the official repository"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return Package(module, folder.parent)
