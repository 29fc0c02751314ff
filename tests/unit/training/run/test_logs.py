"""What a run writes to its log, and what of it people see."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import focalcodec
from focalcodec.training.run.logs import LOG_NAME, quiet_libraries, start_logs


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers, sys.excepthook = handlers, hook
    root.setLevel(level)


def test_only_the_runs_own_messages_are_shown(tmp_path: Path, capsys) -> None:
    start_logs(tmp_path, [tmp_path / "my_prepare.py"])
    shown = ["focalcodec.data.prepare", "my_prepare", "__main__"]
    hidden = ["speechbrain.core", "httpx", "transformers.modeling_utils", "my_prepare_2"]
    for name in shown + hidden:
        logging.getLogger(name).warning("message of %s", name)
    logging.getLogger("httpx").error("an error of httpx")
    out = capsys.readouterr().out
    assert out.splitlines() == [*(f"message of {name}" for name in shown), "an error of httpx"]
    log = (tmp_path / LOG_NAME).read_text()
    assert all(f"{name} - WARNING - message of {name}" in log for name in shown + hidden)
    assert "speechbrain.utils.quirks - INFO" in log


def test_warnings_about_other_libraries_are_in_the_log_only(tmp_path: Path, capfd) -> None:
    start_logs(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        quiet_libraries()
        own = str(Path(focalcodec.__file__).parent / "precision.py")
        for text, file in (("torch is old", "/lib/torch/nn.py"), ("bf16 is slow", own)):
            warnings.warn_explicit(text, UserWarning, file, 1)
        logging.captureWarnings(False)
    shown = capfd.readouterr()
    assert "bf16 is slow" in shown.out and "torch is old" not in shown.out + shown.err
    assert "torch is old" in (tmp_path / LOG_NAME).read_text()
