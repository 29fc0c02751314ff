"""Figures of a training: names, units and directions, averages, and usage of the codebook."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.evaluation.summary import column_title
from focalcodec.metrics.judge import Column

LOSS_KEY = "loss"
BEFORE = " before"
"""Ending of a set's name in the results: its figures before fine-tuning."""
CHANCE = " chance"
"""Ending of a set's name in the results: the figures of a guess."""

Stats: TypeAlias = Mapping[str, float]

COLUMNS = (
    Column("loss", "loss", "", "lower"),
    Column("feature_loss", "error of feats", "", "lower"),
    Column("sample_entropy", "entropy of a token", "nats", "lower"),
    Column("codebook_entropy", "entropy of the codebook", "nats", "higher"),
    Column("code_usage", "codes used", "%", "higher"),
    Column("normalized_entropy", "normalised entropy", "%", "higher"),
    Column("toks", "tokens", "", "none"),
    Column("mel_loss", "mel distance", "ln", "lower"),
    Column("adversarial_loss", "adversarial loss", "", "none"),
    Column("matching_loss", "feature matching loss", "", "lower"),
    Column("discriminator_loss", "loss of the discriminator", "", "none"),
    Column("epoch", "epoch that was tested", "", "none"),
    Column("reconstruction_loss", "mel distance and further terms", "", "lower"),
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
        for column in (*self.columns, *COLUMNS):
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

    def is_worse(self, name: str, stats: Stats, before: Stats) -> bool:
        """Whether a figure is in a worse direction than before; False if one of them is missing."""
        if name not in stats or name not in before:
            return False
        signs = {"lower": 1.0, "higher": -1.0, "none": 0.0}
        return (stats[name] - before[name]) * signs[self.column(name).better] > 0.0

    def title(self, name: str, stage: str = "valid") -> str:
        """Title of a figure with its unit, and an arrow in the better direction."""
        return column_title(vars(self.column(name, stage)))


def significant(value: float) -> str:
    """Return a number with three significant digits, or a whole number if it is large.

    Example
    -------
    >>> [significant(value) for value in (3123.0, 45.678, 0.25, -0.00012345, 0.0, 7)]
    ['3,123', '45.7', '0.250', '-0.000123', '0.00', '7']
    """
    if abs(value) >= 999.5 or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


# -- averages --------------------------------------------------------------------------------------


class Meters:
    """Running averages of named quantities, weighted by numbers of frames or items.

    A mean of means is wrong if batches differ in size, and so is a mean that restarts when training
    resumes. So sums and counts are stored, also in the checkpoint.

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
        """Names of the groups of all clips so far."""
        return sorted(group for group in self._totals if group)

    @contextmanager
    def of(self, groups: Sequence[str]) -> Iterator[None]:
        """In this context, `add` counts for the group of these clips and for the whole.

        Parameters
        ----------
        groups : sequence of str
            Group of each clip of a batch, the same for all; "" is no group.

        Raises
        ------
        UserError
            The clips have several groups.
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
        """Average of each quantity over a group, or over all clips."""
        totals = self._totals.get(group, {})
        return {name: total / count for name, (total, count) in totals.items() if count}

    def since(self, before: dict[str, list[float]]) -> dict[str, float]:
        """Average of what was added after `state_dict` returned `before`."""
        added = Meters()
        for name, (total, count) in self._totals[""].items():
            old_total, old_count = before.get(name, (0.0, 0.0))
            added.add(name, total - old_total, count - old_count)
        return added.averages()

    def reset(self) -> None:
        """Remove all sums and counts."""
        self._totals = {"": {}}

    def state_dict(self) -> dict[str, list[float]]:
        """Sums and counts of all clips, for JSON; training, which can resume, has no groups."""
        return {name: list(pair) for name, pair in self._totals[""].items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Continue from stored sums and counts."""
        self._totals = {"": {name: (pair[0], pair[1]) for name, pair in state.items()}}


class CodeUsage:
    """Counts of tokens and probabilities of codes, summed over the batches of a set.

    The codebook's entropy is computed over the whole set: entropies of batches can't be averaged.

    Parameters
    ----------
    codebook_size : int
        K, number of tokens.

    Attributes
    ----------
    counts : Tensor
        (K,) int64, how often each token was used.
    joint : Tensor
        (K,) float64, probability of each code, summed over tokens.

    Example
    -------
    >>> usage = CodeUsage(4)
    >>> usage.add(torch.tensor([1, 1, 0, 0]), torch.tensor([0.5, 0.5, 0.0, 0.0]), toks_seen=2)
    >>> round(usage.entropy(), 3), usage.statistics()["code_usage"]
    (0.693, 50.0)
    """

    def __init__(self, codebook_size: int) -> None:
        self.counts = torch.zeros(codebook_size, dtype=torch.int64)
        self.joint = torch.zeros(codebook_size, dtype=torch.float64)

    def add(self, counts: Tensor, joint: Tensor | None, toks_seen: float) -> None:
        """Add a batch: counts (K,), mean probabilities (K,) and the number of its tokens.

        A quantizer without a soft assignment has no probabilities: None.
        """
        self.counts += counts.cpu()
        if joint is not None:
            self.joint += joint.double().cpu() * toks_seen

    def entropy(self) -> float:
        """Entropy in nats of the mean probabilities of the codes."""
        joint = (self.joint / self.joint.sum()).clamp(min=1e-12)
        return float(-(joint * joint.log()).sum())

    def statistics(self) -> dict[str, float]:
        """`code_statistics` of the counted tokens."""
        return code_statistics(self.counts)


def code_statistics(counts: Tensor) -> dict[str, float]:
    """How evenly tokens use the codebook.

    Parameters
    ----------
    counts : Tensor
        (2^L,) int64, how often each token was used.

    Returns
    -------
    dict of str to float
        `code_usage`: share of the codebook that is used at least once, %; `normalized_entropy`:
        entropy of the token histogram over log2 of the number of codes used, % (as in the paper);
        `toks`: number of tokens.

    Example
    -------
    >>> code_statistics(torch.tensor([2, 2, 0, 0]))
    {'code_usage': 50.0, 'normalized_entropy': 100.0, 'toks': 4.0}
    """
    seen = counts[counts > 0].double()
    share = seen / seen.sum()
    entropy = float(-(share * share.log2()).sum())
    return {
        "code_usage": 100 * len(seen) / len(counts),
        "normalized_entropy": 100 * entropy / math.log2(len(seen)) if len(seen) > 1 else 0.0,
        "toks": float(seen.sum()),
    }
