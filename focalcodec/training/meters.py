"""Averages that stay right: sums and counts, kept in the checkpoint."""

from __future__ import annotations

from torch import Tensor


class Meters:
    """Running averages of named quantities, weighted by how many frames or items they saw.

    Means of means are wrong when batches differ in size, and a mean that restarts when training
    resumes is wrong too: sums and counts are neither.

    Example
    -------
    >>> meters = Meters()
    >>> meters.add("loss", 6.0, 2.0)
    >>> meters.add("loss", 1.0, 1.0)
    >>> round(meters.averages()["loss"], 3)
    2.333
    """

    def __init__(self) -> None:
        self._totals: dict[str, tuple[float, float]] = {}

    def add(self, name: str, total: Tensor | float, count: Tensor | float = 1.0) -> None:
        """Add a sum over `count` frames or items."""
        old_total, old_count = self._totals.get(name, (0.0, 0.0))
        self._totals[name] = (old_total + float(total), old_count + float(count))

    def averages(self) -> dict[str, float]:
        """Average of each quantity that was seen."""
        return {name: total / count for name, (total, count) in self._totals.items() if count}

    def reset(self) -> None:
        """Forget everything."""
        self._totals.clear()

    def state_dict(self) -> dict[str, list[float]]:
        """Sums and counts, JSON-ready."""
        return {name: list(pair) for name, pair in self._totals.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Take up sums and counts again."""
        self._totals = {name: (pair[0], pair[1]) for name, pair in state.items()}
