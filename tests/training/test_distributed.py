"""Two processes give the same training as one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts import run_script
from tests.training.runs import RECIPE, STAGES, arguments


def history(folder: Path) -> list[float]:
    """Every loss and figure of every epoch, as stored in the last checkpoint."""
    newest = max((folder / "save").glob("CKPT*"), key=lambda path: path.stat().st_mtime_ns)
    epochs = json.loads((newest / "brain.ckpt").read_text())["history"]
    return [value for e in epochs for stage in ("train", "valid") for value in e[stage].values()]


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_give_the_loss_curve_of_one(stage: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    # A sum in another order rounds differently. If a gradient is zero except for rounding (a bias
    # of the discriminator, a code on the edge), Adam makes a full step from it: keep steps small.
    rate = ("--lr", "0.00001")
    run_script(RECIPE, *arguments(stage, one, *rate)).check_returncode()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for _ in range(2):  # two processes do not always find each other on a busy machine
        shutil.rmtree(two, ignore_errors=True)
        launched = subprocess.run(
            [*launcher, "--nproc_per_node", "2", *arguments(stage, two, *rate)],
            cwd=RECIPE,
            capture_output=True,
            text=True,
        )
        if launched.returncode == 0:
            break
    assert launched.returncode == 0, launched.stderr[-3000:]
    expected, actual = history(one), history(two)
    assert len(expected) > 4
    assert actual == pytest.approx(expected, rel=1e-4, abs=1e-4)
