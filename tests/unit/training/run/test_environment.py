"""env.log describes the Python that runs, not another one on the PATH."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from focalcodec.training.run import environment


def test_packages_are_those_of_this_python(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # the environment is not activated
    lines = environment.describe_environment().splitlines()
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
    monkeypatch.setattr(environment.focalcodec, "__file__", str(package / "__init__.py"))
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project")
    # An environment inside the repository of a project is not part of it.
    assert environment._commit().startswith("no checkout; version ")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "the package")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert environment._commit() == commit
    (package / "__init__.py").write_text("changed = True")
    assert environment._commit() == f"{commit}, with changes that are not committed"
