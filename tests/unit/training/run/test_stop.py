"""A run that is stopped says where it stands, ends with its exit status, and resumes."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist

from focalcodec.errors import UserError, WriteError
from focalcodec.training import run as steps
from focalcodec.training.brain import CodecBrain
from focalcodec.training.run import checkpointing
from focalcodec.training.run.folder import RunFolder
from focalcodec.training.run.stop import (
    Stopped,
    describe_checkpoint,
    explain,
    quiet_threads,
    stop_signals,
)
from tests.unit.training import tiny

FULL = OSError(errno.ENOSPC, "No space left on device")
WORKER = "Caught {} in DataLoader worker process 0.\nOriginal Traceback ...\n{}: {}\n"


def test_a_stopped_run_says_where_it_stands_and_resumes(tmp_path, monkeypatch) -> None:
    """By a signal, a full disk and Ctrl-C, one after the other; then the run ends as another."""
    data, run = tiny.write_corpus(tmp_path / "data"), tmp_path / "run"
    options = ("--ckpt_interval_steps=1", "--ckpt_interval_minutes=0")
    argv = tiny.arguments("quantizer", run, data, *options, number_of_epochs=3)

    def stop(owner: object, name: str, action: Callable[[], None], epoch: int) -> Stopped:
        before = getattr(owner, name)

        def stop_here(brain: CodecBrain, *args: object) -> object:
            if not isinstance(brain, CodecBrain) or (brain.epoch, brain.step) == (epoch, 2):
                action()
            return before(brain, *args)

        with monkeypatch.context() as patch, pytest.raises(Stopped) as caught, stop_signals():
            patch.setattr(owner, name, stop_here)
            tiny.train(argv)
        assert not (run / ".lock").exists() and "\n" not in caught.value.line
        return caught.value

    def fill_disk() -> None:
        raise FULL

    def interrupt() -> None:
        raise KeyboardInterrupt

    ended = stop(CodecBrain, "fit_batch", lambda: os.kill(os.getpid(), signal.SIGTERM), 1)
    assert ended.code == 143
    assert ended.line.startswith("stopped by SIGTERM; epoch 1 of 3, step 2 of 2; last checkpoint:")
    assert " last checkpoint: epoch 1, step 1; resume with: " in ended.line
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    folders = set((run / "save").iterdir())
    ended = stop(checkpointing, "_mark_complete", fill_disk, 0)
    assert ended.code == 1 and "the disk is full" in ended.line and "MB free" in ended.line
    assert f"{run}" in ended.line and "last checkpoint: epoch 1, step 1;" in ended.line
    assert set((run / "save").iterdir()) == folders  # the incomplete one needs space

    ended = stop(CodecBrain, "fit_batch", interrupt, 2)
    assert ended.code == 130
    assert ended.line.startswith(
        "interrupted; epoch 2 of 3, step 2 of 2; last checkpoint: epoch 2,"
    )

    tiny.train(argv)
    whole = tiny.arguments("quantizer", tmp_path / "whole", data, number_of_epochs=3)
    tiny.train(whole)
    logs = [(folder / "train_log.txt").read_text() for folder in (run, tmp_path / "whole")]
    assert logs[0] == logs[1] and logs[0].count("epoch: ") == 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WriteError("a/card.json: can't be written: x"), "error: a/card.json: can't be written: x"),
        (FULL, "error: {run}: the disk is full ("),
        (OSError(errno.ENOSPC, "No space left", "{run}/log.txt"), "error: {run}/log.txt: the disk"),
        (OSError(errno.EROFS, "Read-only", "{run}/log.txt"), "error: {run}/log.txt: Read-only"),
        (MemoryError(), "error: not enough memory (no memory); use a smaller batch_size"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            "(CUDA out of memory); use a smaller",
        ),
        (
            RuntimeError("[enforce] . DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
            "(pid(s) 7) exited unexpectedly; if memory was too small, give a lower num_workers",
        ),
        (
            OSError(WORKER.format("OSError", "OSError", "[Errno 28] No space left on device")),
            "error: {run}: the disk is full (",
        ),
    ],
    ids=str,
)
def test_the_cause_is_one_line(error, told, tmp_path) -> None:
    if isinstance(error, OSError) and error.filename:
        error = OSError(error.errno, error.strerror, error.filename.format(run=tmp_path))
    stopped = explain(error, tmp_path, "epoch 2 of 9")
    assert stopped is not None and stopped.code == 1
    assert told.format(run=tmp_path) in stopped.line and "\n" not in stopped.line
    assert "; epoch 2 of 9; no checkpoint yet; resume with: " in stopped.line


@pytest.mark.parametrize(
    "error", [ValueError("a"), RuntimeError("a"), UserError("a"), SystemExit()]
)
def test_other_errors_stay(error, tmp_path) -> None:
    with pytest.raises(type(error)), RunFolder(tmp_path):
        raise error
    assert explain(error, tmp_path) is None


def test_the_newest_complete_checkpoint(tmp_path) -> None:
    assert describe_checkpoint(tmp_path) == "no checkpoint yet"
    (tmp_path / "newest.txt").write_text("CKPT+1")
    (tmp_path / "CKPT+1").mkdir()
    (tmp_path / "CKPT+1" / "brain.ckpt").write_text(json.dumps({"step": 0, "history": []}))
    assert describe_checkpoint(tmp_path) == "no checkpoint yet"  # it is incomplete
    (tmp_path / "CKPT+1" / "COMPLETE.json").write_text("{}")
    for step, told in ((0, "end of epoch 4"), (7, "epoch 5, step 7")):
        state = {"step": step, "history": [{"epoch": 3}, {"epoch": 4}]}
        (tmp_path / "CKPT+1" / "brain.ckpt").write_text(json.dumps(state))
        assert describe_checkpoint(tmp_path) == f"last checkpoint: {told}"


# -- processes -------------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def test_the_runs_of_one_command_have_one_group_of_processes(group, tmp_path, monkeypatch) -> None:
    """A second group would read the first one's addresses: it hangs, or aborts."""

    def main(argv: list[str]) -> None:
        with RunFolder(tmp_path):
            pass
        assert dist.is_initialized()

    monkeypatch.setattr(sys, "argv", ["train.py"])
    steps.script(main)
    assert not dist.is_initialized()


def test_a_process_that_is_lost_is_one_line(tmp_path, monkeypatch) -> None:
    names: dict[str, Callable[[], None]] = {}
    file = os.path.join("torch", "distributed", "distributed_c10d.py")
    exec(compile("def all_reduce():\n    raise RuntimeError('closed')", file, "exec"), names)
    with pytest.raises(RuntimeError) as caught:
        names["all_reduce"]()
    assert explain(caught.value, tmp_path) is None  # there is no other process
    monkeypatch.setattr("focalcodec.training.run.stop.process_count", lambda: 2)
    stopped = explain(caught.value, tmp_path, "epoch 2")
    assert stopped is not None and stopped.code == 1 and not stopped.is_local
    assert "another process of this training ended; see its message; epoch 2;" in stopped.line


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (UserError("a.yaml: no"), "error: a.yaml: no", 2),
        (
            UserError(WORKER.format("UserError", "focalcodec.errors.UserError", "a.wav: no")),
            "error: a.wav: no",
            2,
        ),
        (WriteError("a.csv: full"), "error: a.csv: full; resume with: ", 1),
        (KeyboardInterrupt(), "interrupted; resume with: ", 130),
    ],
    ids=["user", "worker", "disk", "ctrl-c"],
)
def test_a_script_prints_one_line(error, line, code, monkeypatch, capsys) -> None:
    def main(argv: list[str]) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["train.py", "gone"])
    with pytest.raises(SystemExit) as caught:
        steps.script(main)
    assert caught.value.code == code
    told = capsys.readouterr().err
    assert told.startswith(line) and told.count("\n") == 1


def test_a_thread_that_can_not_write_prints_nothing(monkeypatch) -> None:
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))

    def write(error: Exception) -> None:
        raise error

    mistake = ValueError()
    with quiet_threads():
        for error in (FULL, mistake):
            thread = threading.Thread(target=write, args=[error])
            thread.start()
            thread.join()
    assert reported == [mistake]


def test_nohup_stays(monkeypatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
