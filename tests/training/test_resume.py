"""A run that is killed and resumed has the same final weights as an uninterrupted one."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.scripts import run_script
from tests.training.runs import RECIPE, STAGES, arguments, command


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "save").glob("CKPT*"), key=lambda path: path.stat().st_mtime_ns)
    return {
        f"{name}.{key}": tensor
        for name in ("compressor", "decompressor", "decoder", "discriminator")
        if (newest / f"{name}.ckpt").is_file()
        for key, tensor in load_file(newest / f"{name}.ckpt").items()
    }


def run_and_kill(words: list[str], kill_when) -> bool:
    """Start a run and SIGKILL it when a condition is true; False if it ended before."""
    process = subprocess.Popen(
        words, cwd=RECIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        if kill_when():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    return False


@pytest.mark.parametrize("stage", STAGES)
def test_killed_run_ends_with_same_weights(stage: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    interval = ("--ckpt_interval_steps", "2")
    run_script(RECIPE, *arguments(stage, whole, *interval)).check_returncode()

    save = killed / "save"

    def folders() -> set[Path]:
        return set(save.glob("CKPT*"))

    # While the first checkpoint is written; just after one, within an epoch; while a later one is
    # written.
    assert run_and_kill(command(stage, killed, *interval), lambda: bool(folders()))
    assert run_and_kill(
        command(stage, killed, *interval), lambda: bool(list(save.glob("CKPT*/COMPLETE.json")))
    )
    before = folders()
    assert run_and_kill(command(stage, killed, *interval), lambda: bool(folders() - before))
    end = run_script(RECIPE, *arguments(stage, killed, *interval))
    assert end.returncode == 0, end.stderr[-2000:]
    expected, actual = final_weights(whole), final_weights(killed)
    assert expected and expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, actual[name]), name
    log = "train_log.txt"
    assert (whole / log).read_text() == (killed / log).read_text()
