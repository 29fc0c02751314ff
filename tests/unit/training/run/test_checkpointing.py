"""Checkpoints are complete, or reported and not used."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.epoch_loop import EpochCounter
from torch import nn

from focalcodec.errors import UserError
from focalcodec.files import file_sha256
from focalcodec.focalnet import FocalEncoder
from focalcodec.training.run.checkpointing import MARK_NAME, NEWEST_NAME, RunCheckpointer
from focalcodec.training.schedules import make_optimizer


class Counter:
    """An object with a plain state."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


@register_checkpoint_hooks
class Position:
    """An object whose state is JSON, as that of a Brain."""

    @mark_as_saver
    def save(self, path: str) -> None:
        Path(path).write_text("{}")

    @mark_as_loader
    def load(self, path: str, end_of_epoch: bool) -> None:
        json.loads(Path(path).read_text(encoding="utf-8"))["step"]


def fresh(folder: Path) -> tuple[RunCheckpointer, nn.Linear, Counter]:
    module, counter = nn.Linear(2, 2), Counter()
    return RunCheckpointer(folder, {"module": module, "counter": counter}), module, counter


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Checkpoints with the counts 1 and 2."""
    checkpointer, _, counter = fresh(tmp_path)
    paths = []
    for counter.count in (1, 2):
        paths.append(checkpointer.save_checkpoint(meta={"loss": 1.0}).path)
    return paths


def recovered(folder: Path) -> int:
    checkpointer, _, counter = fresh(folder)
    checkpointer.recover_if_possible()
    return counter.count


def test_complete_checkpoint_is_loaded(tmp_path: Path, two: list[Path]) -> None:
    checkpointer, module, counter = fresh(tmp_path)
    assert checkpointer.recover_if_possible().path == two[1]
    assert counter.count == 2
    stored = load_file(two[1] / "module.ckpt")
    assert all(torch.equal(stored[key], value) for key, value in module.state_dict().items())


def damages() -> dict[str, object]:
    def shorten(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-5])

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    return {
        "no mark": ("not completely written", lambda folder: (folder / MARK_NAME).unlink()),
        "mark is cut": ("not JSON", lambda folder: shorten(folder / MARK_NAME)),
        "file is cut": ("module.ckpt is truncated", lambda folder: shorten(folder / "module.ckpt")),
        "byte changed": ("module.ckpt is truncated or changed", lambda f: flip(f / "module.ckpt")),
        "file is gone": ("counter.ckpt is missing", lambda f: (f / "counter.ckpt").unlink()),
        "meta is gone": ("CKPT.yaml is missing", lambda folder: (folder / "CKPT.yaml").unlink()),
        "meta is cut": ("CKPT.yaml is truncated", lambda folder: shorten(folder / "CKPT.yaml")),
        "mark of other kind": (
            f"{MARK_NAME} is not",
            lambda folder: (folder / MARK_NAME).write_text("[1]"),
        ),
    }


@pytest.mark.parametrize("damage", damages())
def test_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    tmp_path: Path, two: list[Path], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason, do = damages()[damage]
    do(two[1])
    with caplog.at_level(logging.WARNING):
        assert recovered(tmp_path) == 1
    reports = [
        record.getMessage() for record in caplog.records if "is not used" in record.getMessage()
    ]
    assert len(reports) == 1 and str(two[1]) in reports[0] and reason in reports[0]


def test_all_damaged_stops_the_run(tmp_path: Path, two: list[Path]) -> None:
    for path in two:
        (path / MARK_NAME).unlink()
    checkpointer, _, _ = fresh(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}.*none of its 2 checkpoints"):
        checkpointer.refuse_if_all_damaged()


def test_run_stopped_in_its_first_checkpoint_starts_from_the_beginning(
    tmp_path: Path, two: list[Path]
) -> None:
    for path in two:
        (path / MARK_NAME).unlink()
    (tmp_path / NEWEST_NAME).unlink()
    fresh(tmp_path)[0].refuse_if_all_damaged()
    assert recovered(tmp_path) == 0 and not list(tmp_path.glob("CKPT*"))


def test_incomplete_checkpoint_is_removed_with_the_next(tmp_path: Path, two: list[Path]) -> None:
    (two[1] / MARK_NAME).unlink()
    saved = fresh(tmp_path)[0].save_checkpoint()
    assert sorted(tmp_path.glob("CKPT*")) == sorted([two[0], saved.path])


def test_empty_folder_and_one_whole_checkpoint_are_fine(tmp_path: Path, two: list[Path]) -> None:
    (two[1] / MARK_NAME).unlink()
    fresh(tmp_path)[0].refuse_if_all_damaged()
    fresh(tmp_path / "empty")[0].refuse_if_all_damaged()


def test_mark_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer, _, counter = fresh(tmp_path)
    checkpointer.save_checkpoint()
    # As if the power went just before the mark.
    monkeypatch.setattr("focalcodec.training.run.checkpointing.os.replace", _no_power)
    counter.count = 5
    with pytest.raises(OSError, match="power"):
        checkpointer.save_checkpoint()
    monkeypatch.undo()
    assert recovered(tmp_path) == 0
    marks = json.loads(next(tmp_path.glob(f"*/{MARK_NAME}")).read_text())
    assert marks.keys() == {"CKPT.yaml", "module.ckpt", "counter.ckpt"}


def _no_power(*_: object) -> None:
    raise OSError("power")


def test_pickled_code_is_not_run(tmp_path: Path, two: list[Path]) -> None:
    torch.save(Path("x"), two[1] / "counter.ckpt")
    mark_again(two[1], "counter.ckpt")
    checkpointer, _, counter = fresh(tmp_path)
    with pytest.raises(UserError, match=r"counter\.ckpt: holds objects, which may run code"):
        checkpointer.recover_if_possible()
    assert counter.count == 0


def mark_again(checkpoint: Path, name: str) -> None:
    """Store the hash of a file that another program changed."""
    mark = checkpoint / MARK_NAME
    hashes = json.loads(mark.read_text()) | {name: file_sha256(checkpoint / name)}
    mark.write_text(json.dumps(hashes))


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04", b"!!python/object/apply:os.system [reboot]", b"[" * 10**5]
)
@pytest.mark.parametrize("name", ["epoch_counter", "brain"])
def test_position_that_no_run_wrote_is_one_line(tmp_path: Path, content: bytes, name: str) -> None:
    position = EpochCounter(limit=3) if name == "epoch_counter" else Position()
    folder = RunCheckpointer(tmp_path, {name: position}).save_checkpoint().path
    (folder / f"{name}.ckpt").write_bytes(content)
    mark_again(folder, f"{name}.ckpt")
    with pytest.raises(UserError, match="CKPT.*: was not written by a run") as caught:
        RunCheckpointer(tmp_path, {name: position}).recover_if_possible()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", [nn.Linear(3, 2), nn.Bilinear(2, 2, 2), nn.PReLU()])
def test_checkpoint_of_another_model_is_reported_in_one_line(
    tmp_path: Path, two: list[Path], other: nn.Module
) -> None:
    checkpointer = RunCheckpointer(tmp_path, {"module": other})
    with pytest.raises(UserError) as caught:
        checkpointer.recover_if_possible()
    line = str(caught.value)
    assert "\n" not in line and str(two[1]) in line and "module" in line


def test_missing_part_of_a_checkpoint_is_reported(tmp_path: Path, two: list[Path]) -> None:
    checkpointer = RunCheckpointer(tmp_path, {"decoder": nn.Linear(2, 2)})
    with pytest.raises(UserError, match=r"CKPT.*decoder"):
        checkpointer.recover_if_possible()


def test_best_and_newest_are_kept(tmp_path: Path) -> None:
    checkpointer, _, counter = fresh(tmp_path)
    for counter.count, loss in enumerate([3.0, 1.0, 2.0, 5.0, 4.0]):
        checkpointer.save_and_keep_only(
            meta={"loss": loss}, min_keys=["loss"], num_to_keep=2, name=f"{counter.count}"
        )
    kept = {path.name for path in tmp_path.iterdir()}
    assert {"CKPT+1", "CKPT+2", "CKPT+4"} <= kept and "CKPT+0" not in kept
    checkpointer.recover_if_possible(min_key="loss")
    assert counter.count == 1


def test_repeated_saving_does_not_slow_down(tmp_path: Path) -> None:
    # SpeechBrain's default list of importance keys grows with each call.
    checkpointer, _, _ = fresh(tmp_path)
    calls: list[int] = []
    original = checkpointer.delete_checkpoints

    def counted(**kwargs: object) -> None:
        calls.append(len(kwargs["importance_keys"]))  # type: ignore[arg-type]
        original(**kwargs)

    checkpointer.delete_checkpoints = counted  # type: ignore[method-assign]
    for _ in range(3):
        checkpointer.save_and_keep_only()
    assert calls == [1, 1, 1]
    assert len(list(tmp_path.glob("CKPT*"))) == 1


# The order of the parameters of a focal modulation in the first version.
FIRST_ORDER = (
    *("layers.0.0.weight", "layers.0.0.bias", "layers.1.0.weight", "layers.1.0.bias"),
    *("in_proj.weight", "in_proj.bias", "context_proj.weight", "context_proj.bias"),
    *("norm.weight", "norm.bias", "out_proj.weight", "out_proj.bias"),
)


@pytest.mark.parametrize("frozen", [False, True])
def test_optimizer_states_of_the_first_version_fit(tmp_path: Path, frozen: bool) -> None:
    """Today's modules register them in another order, that of the published package."""
    compressor = FocalEncoder(4, 4, [4, 4], [1, 1], use_post_norm=True, focal_window=3)
    named = dict(compressor.named_parameters())
    if frozen:
        compressor.layers[0].requires_grad_(False)
        compressor.layers[1].focal_block.modulation.in_proj.requires_grad_(False)
    # as named_parameters gave them: nothing but the modulation has changed
    first = [name for name in named if ".modulation." not in name]
    for level in (1, 0):
        prefix = f"layers.{level}.focal_block.modulation."
        at = first.index(f"layers.{level}.focal_block.modulation_norm.bias") + 1
        first[at:at] = [prefix + name for name in FIRST_ORDER]
    assert sorted(first) == sorted(named)
    kept = [name for name in first if named[name].requires_grad]
    old = torch.optim.AdamW([named[name] for name in kept])
    for number, name in enumerate(kept):
        named[name].grad = torch.full_like(named[name], number)
    old.step()
    RunCheckpointer(tmp_path, {"optimizer": old}).save_checkpoint()

    hparams = SimpleNamespace(init_from=None, freeze=[])
    new = make_optimizer(torch.optim.AdamW, {"compressor": compressor}, hparams)
    RunCheckpointer(tmp_path, {"optimizer": new}).recover_if_possible()
    for name in kept:
        assert torch.equal(new.state[named[name]]["exp_avg"], old.state[named[name]]["exp_avg"])
