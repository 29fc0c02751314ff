"""Names, units and directions of the figures of a training, and the table of its results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tabulate import tabulate

from focalcodec.evaluation.summary import column_title
from focalcodec.metrics.judge import Column

LOSS_KEY = "loss"
BEFORE = " before"
"""Ending of a set's name in the results: its figures before fine-tuning."""

Stats: TypeAlias = Mapping[str, float]

_COLUMNS = (
    Column("loss", "loss", "", "lower"),
    Column("feature_loss", "squared error of feats", "", "lower"),
    Column("sample_entropy", "entropy of a token", "nats", "lower"),
    Column("codebook_entropy", "entropy of the codebook", "nats", "higher"),
    Column("code_usage", "codes used", "%", "higher"),
    Column("normalized_entropy", "normalised entropy", "%", "higher"),
    Column("toks", "tokens", "", "none"),
    Column("mel_loss", "mel distance", "ln", "lower"),
    Column("adversarial_loss", "adversarial loss", "", "none"),
    Column("matching_loss", "feature matching loss", "", "lower"),
    Column("discriminator_loss", "loss of the discriminator", "", "none"),
)


@dataclass(frozen=True)
class Figures:
    """What is known about the figures of a run.

    Example
    -------
    >>> figures = Figures(valid_loss="mel_loss")
    >>> figures.title("loss", "train"), figures.title("loss", "valid")
    ('loss ↓', 'mel distance, ln ↓')
    """

    columns: tuple[Column, ...] = ()
    """Figures of the recipe, beside those that all recipes share."""
    watched: str = LOSS_KEY
    """Validation figure that selects the checkpoint; low is good."""
    valid_loss: str = LOSS_KEY
    """Training figure that is the same quantity as the loss of validation and test."""
    tests_last: bool = False
    """Whether the last epoch is tested and exported, instead of the best one."""
    chance: Mapping[str, float] = field(default_factory=dict)
    """Figures of a guess."""

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the figures that the bar and the line of an epoch show."""
        names = (LOSS_KEY, self.valid_loss, self.watched, *(column.key for column in self.columns))
        return tuple(dict.fromkeys(names))

    def quantity(self, name: str, stage: str) -> str:
        """Name of what a figure of a stage measures: the same for training and validation."""
        return self.valid_loss if name == LOSS_KEY and stage != "train" else name

    def column(self, name: str, stage: str = "valid") -> Column:
        """Title, unit and direction of a figure."""
        quantity = self.quantity(name, stage)
        for column in (*self.columns, *_COLUMNS):
            if column.key == quantity:
                return column
        title = quantity.replace("_", " ")
        if quantity.startswith("lr"):
            title = f"learning rate{title.removeprefix('lr').replace(' ', ', ', 1)}"
        elif quantity.startswith("grad_norm"):
            title = f"norm of the gradient{title.removeprefix('grad norm').replace(' ', ', ', 1)}"
        return Column(quantity, title, "", "lower" if quantity.endswith("_loss") else "none")

    def value(self, name: str, value: float) -> str:
        """Text of a figure: three significant digits, and % if that is its unit."""
        return significant(value) + (" %" if self.column(name).unit == "%" else "")

    def title(self, name: str, stage: str = "valid") -> str:
        """Title of a figure with its unit, and an arrow in the better direction."""
        return column_title(vars(self.column(name, stage)))


def significant(value: float) -> str:
    """Return a number with three significant digits, or a whole number if it is large.

    Example
    -------
    >>> [significant(value) for value in (3123.0, 45.678, 0.25, -0.00012345, 0.0)]
    ['3,123', '45.7', '0.250', '-0.000123', '0.00']
    """
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def results_table(results: Mapping[str, Stats], figures: Figures) -> str:
    """Table of the test sets' figures; the figures before fine-tuning are beside those after it.

    Example
    -------
    >>> results = {"test": {"loss": 0.25, "toks": 3123.0}, "test before": {"loss": 0.5}}
    >>> print(results_table(results, Figures()))
    |        |   test |   test before |
    |--------|--------|---------------|
    | loss ↓ |  0.250 |         0.500 |
    | tokens |  3,123 |               |
    """
    order = [name.removesuffix(BEFORE) for name in results]
    sets = sorted(results, key=lambda name: order.index(name.removesuffix(BEFORE)))
    names = list(dict.fromkeys(name for stats in results.values() for name in stats))
    columns: dict[str, Stats] = {name: results[name] for name in sets}
    if figures.chance:
        columns["chance"] = figures.chance
    grid = [["", *columns]]
    for name in names:
        cells = (stats.get(name) for stats in columns.values())
        grid.append([figures.title(name), *("" if x is None else significant(x) for x in cells)])
    if len(columns) > max(6, len(names)):  # such as a set for each language
        grid = [list(row) for row in zip(*grid, strict=True)]
    numbers = ("left", *["right"] * (len(grid[0]) - 1))
    return tabulate(grid[1:], grid[0], tablefmt="github", disable_numparse=True, colalign=numbers)


def best_epoch(
    history: Sequence[Mapping[str, Any]], before: Stats, figures: Figures
) -> Iterator[str]:
    r"""Yield lines on the epoch whose weights are the result of a run.

    Example
    -------
    >>> history = [{"epoch": 1, "valid": {"loss": 0.5}}]
    >>> print(*best_epoch(history, {"loss": 0.25}, Figures()), sep="\n")
    tested and exported: epoch 1 of 1, valid loss 0.500, the best
    worse than before fine-tuning: valid loss 0.250; the weights before it are still in init_from
    """
    if not history:
        return
    name = figures.watched
    best = min(history, key=lambda entry: entry["valid"][name])
    chosen = history[-1] if figures.tests_last else best
    value, title = chosen["valid"][name], f"valid {figures.column(name).title}"
    also = "the best"
    if chosen is not best:
        also = f"the best is epoch {best['epoch']}, {figures.value(name, best['valid'][name])}"
    yield (
        f"tested and exported: epoch {chosen['epoch']} of {len(history)},"
        f" {title} {figures.value(name, value)}, {also}"
    )
    if name in before and value > before[name]:
        yield (
            f"worse than before fine-tuning: {title} {figures.value(name, before[name])};"
            " the weights before it are still in init_from"
        )


def worse_than_before(results: Mapping[str, Stats], figures: Figures) -> Iterator[str]:
    """Yield a line for each test set that is worse than before fine-tuning."""
    name = figures.watched
    for test, stats in results.items():
        before = results.get(test + BEFORE, {})
        if name in stats and name in before and stats[name] > before[name]:
            yield (
                f"{test}: worse than before fine-tuning: {figures.column(name).title}"
                f" {figures.value(name, before[name])} -> {figures.value(name, stats[name])}"
            )


def printable(text: str) -> str:
    """Text for standard output; where that has no arrows, "higher" or "lower" stands for them."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.replace("↑", "(higher)").replace("↓", "(lower)")
    return text.encode(encoding, errors="replace").decode(encoding)
