"""Messages of a run, and the software that it uses, for its folder.

`log.txt` gets all messages, the screen those of the run itself; `env.log` gets the software.
"""

from __future__ import annotations

import logging
import logging.config
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path
from types import TracebackType
from typing import Any

import speechbrain as sb
import torch

import focalcodec

LOG_NAME = "log.txt"
_WARNINGS = "py.warnings"  # the logger of `logging.captureWarnings`

logger = logging.getLogger(__name__)


def start_logs(folder: Path, sources: Iterable[Path] = ()) -> None:
    """Write messages of this process to `log.txt` in a run's folder, and some to standard output.

    Standard output gets what the package and the run's own modules report, and errors. What other
    libraries report, and Python's warnings about them, are in `log.txt` only.

    Parameters
    ----------
    folder : Path
        The run's folder; the file is continued.
    sources : iterable of Path
        Modules of the run's recipe.
    """
    plain = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"file": {"format": plain}},
        "filters": {"own": {"()": OwnMessages, "sources": list(sources)}},
        "handlers": {
            "console": {
                # It writes above a progress bar.
                "class": "speechbrain.utils.logger.TqdmCompatibleStreamHandler",
                "level": "INFO",
                "filters": ["own"],
                "stream": "ext://sys.stdout",
            },
            "file": {
                "()": LogFile,
                "level": "DEBUG",
                "formatter": "file",
                "filename": str(folder / LOG_NAME),
                "encoding": "utf-8",
            },
        },
        "root": {"level": "DEBUG", "handlers": ["console", "file"]},
    }
    logging.config.dictConfig(config)
    sys.excepthook = _log_exception
    sb.utils.quirks.log_applied_quirks()


class LogFile(logging.FileHandler):
    """Passes over what a full disk does not take: the next checkpoint reports the disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Print no traceback."""


class OwnMessages(logging.Filter):
    """Lets through errors, and what this package or the modules of a recipe report.

    Example
    -------
    >>> own = OwnMessages([Path("recipe/brains.py")])
    >>> names = ["focalcodec.data", "brains", "speechbrain.core"]
    >>> [own.filter(logging.makeLogRecord({"name": name, "levelno": 20})) for name in names]
    [True, True, False]
    """

    def __init__(self, sources: Iterable[Path] = ()) -> None:
        super().__init__()
        package = Path(__file__).parents[2]
        self._names = {package.name, "__main__", *(path.stem for path in sources)}
        # A warning begins with the file whose code caused it.
        self._places = (str(package), *(str(path) for path in sources))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.levelno >= logging.ERROR:
            return True
        if record.name == _WARNINGS:
            return record.getMessage().startswith(self._places)
        return record.name.partition(".")[0] in self._names


def quiet_libraries() -> None:
    """Send Python's warnings to the log; in a process without one, to nothing."""
    logging.captureWarnings(True)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it writes past the log


def _log_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logger.error("Exception:", exc_info=(kind, error, trace))


# -- software --------------------------------------------------------------------------------------


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
