"""What a training shows: a bar on a terminal, lines elsewhere; a line an epoch; its results."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from focalcodec.progress import ProgressBar
from focalcodec.training.figures import BEFORE, CHANCE, Figures, Stats, significant

logger = logging.getLogger(__name__)

_BAR = "{percentage:3.0f} %|{bar:12}| {desc}"
_LINE = "{percentage:.0f} % of the run: {desc}"
_RECENT = 100  # batches; older ones do not tell the present speed
_VALID_COST = 0.5  # of a validation batch, in training batches; used before the first validation


class RunClock:
    """Speed of a training, and the time until its last epoch ends.

    A training batch is expected to take as long as the mean of the last 100; a validation, with all
    that is done at the end of an epoch, as long as the last one.

    Parameters
    ----------
    epochs, train, valid : int
        Number of epochs, and of batches in each.

    Example
    -------
    >>> clock = RunClock(epochs=2, train=10, valid=4)
    >>> clock.begin(epoch=1, batch=0, now=0.0)
    >>> clock.add_batch(frames=100, now=1.0)
    >>> clock.frame_rate(), clock.left(now=1.0)  # 19 batches, and 8 of half the time
    (100.0, 23.0)
    """

    def __init__(self, epochs: int, train: int, valid: int) -> None:
        self._epochs, self._train, self._valid = epochs, train, valid
        self._epoch = self._batch = 0
        self._last = 0.0
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._this_epoch: list[tuple[float, int]] = []
        self._validation: float | None = None

    def begin(self, epoch: int, batch: int, now: float) -> None:
        """Begin an epoch, or resume it after some batches."""
        self._epoch, self._batch, self._last = epoch, batch, now
        self._this_epoch = []

    def add_batch(self, frames: int, now: float) -> None:
        """Add a training batch."""
        step = (now - self._last, frames)
        self._recent.append(step)
        self._this_epoch.append(step)
        self._batch, self._last = self._batch + 1, now

    def end(self, now: float) -> None:
        """End the epoch after its validation."""
        self._validation = now - self._last
        self._epoch, self._batch, self._last = self._epoch + 1, 0, now

    def frame_rate(self, of_epoch: bool = False) -> float:
        """Frames a second in training: of the last batches, or of the whole epoch."""
        steps = self._this_epoch if of_epoch else self._recent
        seconds = sum(step[0] for step in steps)
        return sum(step[1] for step in steps) / seconds if seconds else 0.0

    def left(self, now: float) -> float:
        """Seconds until the last epoch ends, with its validation; 0 before the first batch."""
        if not self._recent:
            return 0.0
        step = sum(step[0] for step in self._recent) / len(self._recent)
        validation = self._validation
        if validation is None:
            validation = _VALID_COST * step * self._valid
        epochs = self._epochs - self._epoch + 1
        seconds = (epochs * self._train - self._batch) * step + epochs * validation
        return max(0.0, seconds - (now - self._last))


class TrainingDisplay:
    """The bar of a whole training: all epochs, with their validations.

    Parameters
    ----------
    epochs, train, valid : int
        Number of epochs, and of batches in each.
    figures : Figures
        Names of the figures.
    show : bool
        False: there is no bar, only a line an epoch.
    """

    def __init__(
        self, epochs: int, train: int, valid: int, figures: Figures, show: bool = True
    ) -> None:
        self._epochs, self._train, self._valid, self._figures = epochs, train, valid, figures
        self._clock = RunClock(epochs, train, valid)
        self._where = "start"
        total = epochs * (train + valid)
        self._bar = ProgressBar(total=total, show=show, leave=False, bar=_BAR, line=_LINE)

    def begin(self, epoch: int, batch: int) -> None:
        """Begin an epoch, or resume it after some batches."""
        self._clock.begin(epoch, batch, time.monotonic())
        self._bar.n = (epoch - 1) * (self._train + self._valid) + batch
        self._where = f"epoch {epoch}/{self._epochs}"

    def add_batch(self, frames: int, losses: Stats, rates: Stats) -> None:
        """Add a training batch; show the mean losses of the epoch, and the learning rates."""
        self._clock.add_batch(frames, time.monotonic())
        if not self._bar.disable:
            shown = self._named("train", losses, {})
            self._show([*shown, _rates(rates), _speed(self._clock.frame_rate())])

    def add_valid_batch(self) -> None:
        """Add a validation batch."""
        if not self._bar.disable:
            self._show(["validation"])

    def end(self, entry: Mapping[str, Any], before: Stats) -> None:
        """Write the line of an epoch.

        Parameters
        ----------
        entry : mapping
            Of the history of the training: number, learning rates, figures of each stage.
        before : mapping
            Figures of the validation before fine-tuning.
        """
        now = time.monotonic()
        self._clock.end(now)
        shown = [
            *self._named("train", entry["train"], {}),
            *self._named("valid", entry["valid"], before),
        ]
        rates = _rates({name: rate for name, rate in entry.items() if name.startswith("lr")})
        speed = _speed(self._clock.frame_rate(of_epoch=True))
        parts = [*shown, rates, speed, f"{tqdm.format_interval(self._clock.left(now))} left"]
        line = ", ".join(filter(None, parts))
        logger.info("epoch %d/%d: %s", entry["epoch"], self._epochs, line)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def _show(self, parts: list[str]) -> None:
        left = tqdm.format_interval(self._clock.left(time.monotonic()))
        text = ", ".join(filter(None, [self._where, f"{left} left", *parts]))
        self._bar.set_description_str(text, refresh=False)
        self._bar.update()

    def _named(self, stage: str, stats: Stats, before: Stats) -> Iterator[str]:
        """Yield the figures to show with their names."""
        for name in filter(stats.__contains__, self._figures.shown):
            title = self._figures.column(name, stage).title
            value, was = self._figures.value(name, stats[name]), ""
            if name in before:
                worse = "worse than " if self._figures.is_worse(name, stats, before) else ""
                was = f" ({worse}before {self._figures.value(name, before[name])})"
            yield f"{stage} {title} {value}{was}"


def _rates(rates: Mapping[str, float]) -> str:
    """Learning rates in a few words: once if all are equal."""
    different = dict.fromkeys(f"{rate:.3g}" for rate in rates.values())
    return f"lr {' / '.join(different)}" if different else ""


def _speed(frames: float) -> str:
    return f"{frames:,.0f} frames/s" if frames else ""


# -- results ---------------------------------------------------------------------------------------


def results_table(results: Mapping[str, Stats], figures: Figures) -> str:
    """Table of the test sets' figures; those before fine-tuning and of a guess are beside them.

    Example
    -------
    >>> results = {"test": {"loss": 0.25, "toks": 3123.0}, "test before": {"loss": 0.5}}
    >>> print(results_table(results, Figures()))
    |        |   test |   test before |
    |--------|--------|---------------|
    | loss ↓ |  0.250 |         0.500 |
    | tokens |  3,123 |               |
    """
    order = [_set_of(name) for name in results]
    sets = sorted(results, key=lambda name: order.index(_set_of(name)))
    names = list(dict.fromkeys(name for stats in results.values() for name in stats))
    columns: dict[str, Stats] = {name: results[name] for name in sets}
    chances = {name: stats for name, stats in columns.items() if name.endswith(CHANCE)}
    if chances and all(stats == [*chances.values()][0] for stats in chances.values()):
        columns = {name: stats for name, stats in columns.items() if name not in chances}
        columns[CHANCE.strip()] = [*chances.values()][0]
    grid = [["", *columns]]
    for name in names:
        cells = (stats.get(name) for stats in columns.values())
        grid.append([figures.title(name), *("" if x is None else significant(x) for x in cells)])
    if len(columns) > max(6, len(names)):  # such as a set for each language
        grid = [list(row) for row in zip(*grid, strict=True)]
    numbers = ("left", *["right"] * (len(grid[0]) - 1))
    return tabulate(grid[1:], grid[0], tablefmt="github", disable_numparse=True, colalign=numbers)


def _set_of(name: str) -> str:
    return name.removesuffix(BEFORE).removesuffix(CHANCE)


def best_epoch(
    history: Sequence[Mapping[str, Any]], before: Stats, figures: Figures
) -> Iterator[str]:
    r"""Yield lines on the epoch whose weights are the result of a run.

    Example
    -------
    >>> history = [{"epoch": 1, "valid": {"loss": 0.5}}]
    >>> print(*best_epoch(history, {"loss": 0.25}, Figures()), sep="\n")
    tested: the weights before fine-tuning, valid loss 0.250; each of the 1 epochs is worse
    """
    if not history:
        return
    name = figures.watched
    # Of equal ones the last, as in the checkpointer.
    best = min(reversed(history), key=lambda entry: entry["valid"][name])
    chosen = history[-1] if figures.tests_last else best
    value, title = chosen["valid"][name], f"valid {figures.column(name).title}"
    is_worse = name in before and value > before[name]
    if is_worse and not figures.tests_last:
        yield (
            f"tested: the weights before fine-tuning, {title} {figures.value(name, before[name])};"
            f" each of the {len(history)} epochs is worse"
        )
        return
    also = "the best"
    if chosen is not best:
        also = f"the best is epoch {best['epoch']}, {figures.value(name, best['valid'][name])}"
    yield (
        f"tested: epoch {chosen['epoch']} of {len(history)},"
        f" {title} {figures.value(name, value)}, {also}"
    )
    if is_worse:
        yield (
            f"worse than before fine-tuning: {title} {figures.value(name, before[name])};"
            " the weights before it are still in init_from"
        )


def worse_than_before(results: Mapping[str, Stats], figures: Figures) -> Iterator[str]:
    """Yield a line for each test set that is worse than before fine-tuning."""
    name = figures.watched
    for test, stats in results.items():
        before = results.get(test + BEFORE, {})
        if figures.is_worse(name, stats, before):
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
