"""What all tests share: no network, one thread, the same examples every time."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from focalcodec.packages import ensure_torchaudio

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

LOCAL = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that leave this machine."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family == getattr(socket, "AF_UNIX", None) or address[0] in LOCAL:
            return connect(self, address)
        raise AssertionError(f"a test reaches for the network: {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def pytest_configure() -> None:
    """Let hypothesis look at the modules that speechbrain imports when they are first used.

    It asks every module for its file, which for those of speechbrain means an import that fails
    where an optional dependency is missing.
    """
    ensure_torchaudio()
    from speechbrain.utils.importutils import LazyModule

    LazyModule.__file__ = None


# -- in CI a test is skipped for these reasons only ------------------------------------------------

ALLOWED_SKIPS = ("needs a GPU", "platform: ", "network: ")


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a failure of a skip, unless it has an allowed reason or names an UNAVAILABLE package."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    assert isinstance(report.longrepr, tuple)  # file, line, reason
    reason = report.longrepr[2].removeprefix("Skipped: ")
    unavailable = os.environ.get("UNAVAILABLE", "").lower().split()
    if reason.startswith(ALLOWED_SKIPS) or any(name in reason.lower() for name in unavailable):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped, which CI does not accept: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the skips of tests."""
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at the skips of whole files."""
    report = yield
    refuse_skip(report)
    return report


@pytest.fixture(autouse=True)
def torch_in_examples(doctest_namespace: dict[str, Any]) -> None:
    """Docstrings' examples need not import torch."""
    doctest_namespace["torch"] = torch
