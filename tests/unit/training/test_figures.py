"""Names of figures, and the closing table of a training."""

from __future__ import annotations

import io
import sys

import pytest

from focalcodec.training.figures import (
    Figures,
    best_epoch,
    printable,
    results_table,
    significant,
    worse_than_before,
)

RESULTS = {
    "test": {"loss": 0.4567, "toks": 3123.0, "grad_norm_x": 1.0},
    "test-it": {"loss": 1.0},
    "test before": {"loss": 0.4321, "toks": 3123.0},
    "test-it before": {"loss": 2.0},
}


def test_figures_before_fine_tuning_are_beside_those_after_it() -> None:
    lines = results_table(RESULTS, Figures()).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "test", "test before", "test-it", "test-it before"]
    assert cells[2] == ["loss ↓", "0.457", "0.432", "1.00", "2.00"]
    assert cells[3] == ["tokens", "3,123", "3,123", "", ""]
    assert cells[4][0] == "norm of the gradient, x"


def test_a_set_that_became_worse_is_named() -> None:
    (line,) = worse_than_before(RESULTS, Figures())
    assert line == "test: worse than before fine-tuning: loss 0.432 -> 0.457"


def test_many_sets_are_rows_and_chance_is_beside_them() -> None:
    results = {f"test-{n}": {"error_rate": float(n)} for n in range(9)}
    lines = results_table(results, Figures(chance={"error_rate": 75.0})).splitlines()
    assert lines[0].replace(" ", "") == "||errorrate|"
    assert len(lines) == 2 + 10 and lines[-1].replace(" ", "") == "|chance|75.0|"


@pytest.mark.parametrize(
    ("value", "text"),
    [(3123.0, "3,123"), (999.4, "999"), (999.6, "1,000"), (0.05, "0.0500"), (-0.5, "-0.500")],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_arrows_where_standard_output_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert printable("loss ↓, codes used ↑, é") == "loss (lower), codes used (higher), ?"


def test_epoch_that_is_tested_and_exported() -> None:
    history = [{"epoch": k, "valid": {"loss": loss}} for k, loss in ((1, 0.5), (2, 0.25), (3, 0.4))]
    (line,) = best_epoch(history, {"loss": 0.3}, Figures())
    assert line == "tested and exported: epoch 2 of 3, valid loss 0.250, the best"
    # Stage 2 takes its last epoch.
    figures = Figures(valid_loss="mel_loss", tests_last=True)
    line, worse = best_epoch(history, {"loss": 0.3}, figures)
    assert line.endswith("epoch 3 of 3, valid mel distance 0.400, the best is epoch 2, 0.250")
    assert worse.startswith("worse than before fine-tuning: valid mel distance 0.300; the weights")
