"""What the tests share, beside the conftest.py of the examples in docstrings."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def quick_workers() -> Iterator[None]:
    """Start worker processes faster; test_processes.py starts them as users do."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            from tests.workers import context

            patch.setattr("focalcodec.processes.get_context", context)
        yield
