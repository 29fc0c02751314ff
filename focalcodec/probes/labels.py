"""Answers of the utterance probe: the values of a column of the manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from focalcodec.errors import UserError

Rows = Sequence[Mapping[str, Any]]


class Labels:
    """Values of a column, numbered in the order of their names.

    Parameters
    ----------
    column : str
        Of the manifests.
    names : sequence of str
        Values; each is there once.

    Example
    -------
    >>> labels = Labels.of([{"ID": "a", "spk_id": "7"}, {"ID": "b", "spk_id": "31"}], "spk_id")
    >>> labels.names, labels.number({"ID": "c", "spk_id": "7"})
    (['31', '7'], 1)
    """

    def __init__(self, column: str, names: Sequence[str]) -> None:
        self.column, self.names = column, list(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}

    @classmethod
    def of(cls, rows: Rows, column: str) -> Labels:
        """Labels of a training set.

        Raises
        ------
        UserError
            A clip without one, or fewer than two.
        """
        for row in rows:
            _value(row, column)
        names = sorted({_value(row, column) for row in rows})
        if len(names) < 2:
            raise UserError(f"label={column}: all training clips have {names[0]!r}; two are needed")
        return cls(column, names)

    def __len__(self) -> int:
        """Answers to choose from."""
        return len(self.names)

    def number(self, row: Mapping[str, Any]) -> int:
        """Number of a clip's answer.

        Raises
        ------
        UserError
            The training set does not have it.
        """
        value = _value(row, self.column)
        if value not in self._numbers:
            raise UserError(
                f"clip {row['ID']!r}: {self.column}={value!r} is no answer of the training set;"
                " take it out of the set, or train on it"
            )
        return self._numbers[value]

    def check(self, name: str, rows: Rows) -> None:
        """Refuse a set with an answer that the training set does not have.

        Raises
        ------
        UserError
            There is one: clip and value, and how many such clips.
        """
        strange = [row for row in rows if _value(row, self.column) not in self._numbers]
        if strange:
            raise UserError(
                f"{name}: {len(strange)} of {len(rows)} clips have an answer that the training set"
                f" does not, such as {self.column}={_value(strange[0], self.column)!r} of clip"
                f" {strange[0]['ID']!r}; leave them out of the set, or train on such clips"
            )


def _value(row: Mapping[str, Any], column: str) -> str:
    value = str(row.get(column) or "")
    if not value:
        raise UserError(
            f"label={column}: clip {row['ID']!r} has none; its manifest has {', '.join(row)}"
        )
    return value
