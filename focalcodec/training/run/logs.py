"""Messages of a run: all of them in `log.txt`, those of the run itself on the screen."""

from __future__ import annotations

import logging
import logging.config
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import speechbrain as sb

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
