"""Names and averages of figures, and the closing table of a training."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focalcodec.errors import UserError
from focalcodec.training.display import best_epoch, printable, results_table, worse_than_before
from focalcodec.training.figures import CodeUsage, Figures, Meters, code_statistics, significant

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
    guess = {f"test-{n} chance": {"error_rate": 75.0} for n in range(9)}
    lines = results_table(results | guess, Figures()).splitlines()
    assert lines[0].replace(" ", "") == "||errorrate|"
    assert len(lines) == 2 + 10 and lines[-1].replace(" ", "") == "|chance|75.0|"
    # A guess is wrong more often in one set than in another.
    guess["test-1 chance"] = {"error_rate": 60.0}
    lines = results_table(results | guess, Figures()).splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names[:4] == ["test-0", "test-0 chance", "test-1", "test-1 chance"]


def test_epoch_that_was_tested_is_a_whole_number() -> None:
    table = results_table({"test": {"loss": 1.0, "epoch": 7}}, Figures())
    assert table.splitlines()[-1].replace(" ", "") == "|epochthatwastested|7|"


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
    assert line == "tested: epoch 2 of 3, valid loss 0.250, the best"
    # Of equal epochs the checkpointer takes the last.
    equal = [*history, {"epoch": 4, "valid": {"loss": 0.25}}]
    assert next(best_epoch(equal, {}, Figures())).startswith("tested: epoch 4 of 4,")
    # Stage 2 takes its last epoch.
    figures = Figures(valid_loss="mel_loss", tests_last=True)
    line, worse = best_epoch(history, {"loss": 0.3}, figures)
    assert line.endswith("epoch 3 of 3, valid mel distance 0.400, the best is epoch 2, 0.250")
    assert worse.startswith("worse than before fine-tuning: valid mel distance 0.300; the weights")


# -- averages --------------------------------------------------------------------------------------


entries = st.lists(st.tuples(st.floats(-100, 100), st.integers(1, 50)), min_size=1, max_size=20)


@given(entries, st.integers(0, 20))
def test_average_is_over_frames_and_survives_a_resume(values, cut) -> None:
    meters = Meters()
    for place, (total, count) in enumerate(values):
        if place == cut:
            state = json.loads(json.dumps(meters.state_dict()))
            meters = Meters()
            meters.load_state_dict(state)
        meters.add("loss", torch.tensor(total, dtype=torch.float64), count)
    expected = sum(total for total, _ in values) / sum(count for _, count in values)
    assert meters.averages()["loss"] == pytest.approx(expected, abs=1e-9)


def test_average_of_nothing_is_not_zero() -> None:
    meters = Meters()
    meters.add("loss", 0.0, 0.0)
    assert meters.averages() == {}
    meters.add("loss", 1.0)
    meters.reset()
    assert meters.averages() == {}


def test_nan_is_not_hidden() -> None:
    meters = Meters()
    meters.add("loss", float("nan"))
    meters.add("loss", 1.0)
    assert meters.averages()["loss"] != meters.averages()["loss"]


@given(st.lists(st.tuples(st.sampled_from(["", "it", "de"]), st.integers(1, 9)), max_size=20))
def test_groups_together_are_the_whole(clips) -> None:
    meters = Meters()
    for group, count in clips:
        with meters.of([group] * count):
            meters.add("loss", 0.5 * count * count, count)
            meters.add("clips", 0.0, count)
    assert meters.groups == sorted({group for group, _ in clips if group})
    for group in meters.groups:
        counts = [count for name, count in clips if name == group]
        expected = sum(0.5 * count * count for count in counts) / sum(counts)
        assert meters.averages(group)["loss"] == pytest.approx(expected)
    alone = Meters()
    for _, count in clips:
        alone.add("loss", 0.5 * count * count, count)
        alone.add("clips", 0.0, count)
    assert meters.averages() == alone.averages() and meters.state_dict() == alone.state_dict()


def test_values_after_a_group_do_not_count_for_it() -> None:
    meters = Meters()
    with pytest.raises(ZeroDivisionError), meters.of(["it"]):
        meters.add("loss", 1.0)
        meters.add("loss", 1 / 0)
    meters.add("loss", 3.0)
    assert meters.averages("it") == {"loss": 1.0} and meters.averages() == {"loss": 2.0}
    meters.reset()
    assert meters.groups == [] and meters.averages("it") == {}


def test_batch_of_several_groups_is_refused() -> None:
    with pytest.raises(UserError, match="clips of 'de' and 'it': .* pure=True"):
        with Meters().of(["it", "de"]):
            pass


def test_code_statistics() -> None:
    assert code_statistics(torch.tensor([8, 0, 0, 0])) == {
        "code_usage": 25.0,
        "normalized_entropy": 0.0,
        "toks": 8.0,
    }
    even = code_statistics(torch.ones(1024, dtype=torch.int64))
    assert even["code_usage"] == 100.0 and even["normalized_entropy"] == pytest.approx(100.0)
    skewed = code_statistics(torch.tensor([3, 1]))
    assert skewed["normalized_entropy"] == pytest.approx(81.1278, abs=1e-3)


def test_entropy_is_of_all_batches_by_the_tokens_that_they_have() -> None:
    usage = CodeUsage(2)
    usage.add(torch.tensor([3, 0]), torch.tensor([1.0, 0.0]), toks_seen=3)
    assert usage.entropy() == pytest.approx(0.0, abs=1e-9)
    usage.add(torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), toks_seen=1)
    assert usage.entropy() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert usage.counts.tolist() == [3, 1] and usage.statistics()["toks"] == 4.0
