"""Description of the software that a run uses, for its `env.log`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import torch

import focalcodec

_LINE = "=" * 30


def describe_environment() -> str:
    """Python, its installed packages, the commit of this package, and CUDA, one below the other.

    The packages are those of the Python that runs, whether or not its environment is activated.

    Example
    -------
    >>> f"torch=={torch.__version__}" in describe_environment().splitlines()
    True
    """
    packages = {dist.metadata["Name"]: dist.version for dist in distributions()}
    parts = [
        f"Python version:\n{sys.version}\n{sys.executable}",
        "Installed Python packages:\n"
        + "\n".join(f"{name}=={packages[name]}" for name in sorted(packages, key=str.lower)),
        f"Git revision of {Path(focalcodec.__file__).parent}:\n{_commit()}",
        _accelerator(),
    ]
    return f"\n{_LINE}\n".join(["System description", *parts]) + "\n"


def _commit() -> str:
    """Commit of the checkout that this package is part of, and whether its files are changed."""
    folder, name = Path(focalcodec.__file__).parent, "__init__.py"
    try:
        # The environment of a project is often in its repository: the file must be tracked there.
        _git(folder, "ls-files", "--error-unmatch", name)
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return f"no checkout; version {focalcodec.__version__}"
    return f"{commit}, with changes that are not committed" if changed else commit


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def _accelerator() -> str:
    if not torch.cuda.is_available():
        return "CUDA not available"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    kind = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    return "\n".join([f"{kind}:", *names])
