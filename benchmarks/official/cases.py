"""A case: something a client does with a package, whose result both packages must share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from . import codec_cases, config_cases, part_cases
from .compare import attempt
from .models import CONFIGS
from .packages import Package

RECORDED = ("50hz", "12_5hz", "50hz_4k_causal")  # models whose results the tests keep


@dataclass(frozen=True)
class Case:
    """One line of the table: its model and item, and how a package gives the result."""

    model: str
    item: str
    run: Callable[[Package, str], Any]

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.model}/{self.item}"

    def result(self, package: Package) -> dict[str, Any]:
        """Leaves of what `package` gives, or its error."""
        torch.manual_seed(0)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return attempt(lambda: self.run(package, self.model))


def cases() -> list[Case]:
    """All cases."""
    return [
        Case(model, item, run)
        for model in CONFIGS
        for cases_of in (codec_cases, part_cases, config_cases)
        for item, run in cases_of.table(model).items()
    ]


def recorded_cases() -> list[Case]:
    """Cases whose results are kept in the repository."""
    return [case for case in cases() if case.model in RECORDED]
