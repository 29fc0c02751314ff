"""Averages that stay right: sums and counts, of a set and of its groups, kept in the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from focalcodec.errors import UserError


class Meters:
    """Running averages of named quantities, weighted by how many frames or items they saw.

    Means of means are wrong when batches differ in size, and a mean that restarts when training
    resumes is wrong too: sums and counts are neither.

    Example
    -------
    >>> meters = Meters()
    >>> meters.add("loss", 6.0, 2.0)
    >>> with meters.of(["it", "it"]):
    ...     meters.add("loss", 1.0, 1.0)
    >>> round(meters.averages()["loss"], 3), meters.averages("it")
    (2.333, {'loss': 1.0})
    """

    def __init__(self) -> None:
        self._group = ""
        self._totals: dict[str, dict[str, tuple[float, float]]] = {"": {}}

    @property
    def groups(self) -> list[str]:
        """Names of the groups that were seen."""
        return sorted(group for group in self._totals if group)

    @contextmanager
    def of(self, groups: Sequence[str]) -> Iterator[None]:
        """What is added inside counts for the group of these clips as well as for the whole.

        Parameters
        ----------
        groups : sequence of str
            The same for each clip of a batch; "" is no group.

        Raises
        ------
        UserError
            There are several.
        """
        self._group, *others = sorted(set(groups))
        if others:
            raise UserError(
                f"a batch has clips of {self._group!r} and {others[0]!r}: figures of each group"
                " need an EpochBatchSampler with pure=True"
            )
        try:
            yield
        finally:
            self._group = ""

    def add(self, name: str, total: Tensor | float, count: Tensor | float = 1.0) -> None:
        """Add a sum over `count` frames or items."""
        for group in {"", self._group}:
            totals = self._totals.setdefault(group, {})
            old_total, old_count = totals.get(name, (0.0, 0.0))
            totals[name] = (old_total + float(total), old_count + float(count))

    def averages(self, group: str = "") -> dict[str, float]:
        """Average of each quantity that was seen, in a group or in all."""
        totals = self._totals.get(group, {})
        return {name: total / count for name, (total, count) in totals.items() if count}

    def reset(self) -> None:
        """Forget everything."""
        self._totals = {"": {}}

    def state_dict(self) -> dict[str, list[float]]:
        """Sums and counts of the whole, JSON-ready: training, where runs resume, has no groups."""
        return {name: list(pair) for name, pair in self._totals[""].items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Take up sums and counts again."""
        self._totals = {"": {name: (pair[0], pair[1]) for name, pair in state.items()}}
