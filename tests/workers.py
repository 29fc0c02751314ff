"""Worker processes that begin with PyTorch, on Linux.

A spawned process takes three seconds to import PyTorch and SciPy. Here the processes of
`in_processes` are forked from one that has done so. They get their work as spawned ones do:
pickled, in a process without the modules and the state of the tests.
"""

from __future__ import annotations

import os
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

import numpy as np

IMPORTED = ["torch", "torch._dynamo", "scipy.signal", "scipy.stats", "soundfile", "soxr"]


class Worker(ForkServerProcess):
    """A process with the environment of the moment at which it was made."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._environment = dict(os.environ)

    def run(self) -> None:
        """Do the work."""
        os.environ.clear()
        os.environ.update(self._environment)
        np.random.seed()  # at import it is drawn, and would be that of all workers
        super().run()


class Context(ForkServerContext):
    """What `multiprocessing.get_context("spawn")` is replaced by."""

    Process = Worker  # type: ignore[assignment]


def context(method: str) -> Context:
    """Context for a start method, which must be the package's."""
    assert method == "spawn"
    made = Context()
    made.set_forkserver_preload(IMPORTED)
    return made
