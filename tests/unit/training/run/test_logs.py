"""What a run writes to its log, what of it people see, and the software in env.log."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import focalcodec
from focalcodec.training.run import logs
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


def test_only_the_runs_own_messages_are_shown(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    # another test may have imported transformers, which keeps its messages from the root
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
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


# -- software --------------------------------------------------------------------------------------


def test_packages_are_those_of_this_python(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # the environment is not activated
    lines = logs.describe_environment().splitlines()
    assert f"speechbrain=={version('speechbrain')}" in lines
    assert sys.executable in lines and sys.version.splitlines()[0] in lines


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_package(tmp_path, monkeypatch) -> None:
    package = tmp_path / "lib" / "focalcodec"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(logs.focalcodec, "__file__", str(package / "__init__.py"))
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project")
    # An environment inside the repository of a project is not part of it.
    assert logs._commit().startswith("no checkout; version ")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "the package")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert logs._commit() == commit
    (package / "__init__.py").write_text("changed = True")
    assert logs._commit() == f"{commit}, with changes that are not committed"
