"""Runs that begin with trained weights: a lower rate, and frozen parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from focalcodec.errors import UserError
from focalcodec.training.run.start import freeze
from focalcodec.training.schedules import make_optimizer
from tests.unit.training import tiny

WARMUP = "!name:focalcodec.training.schedules.warmup_linear {warmup_steps: 2, total_steps: 100}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def test_schedule_begins_with_the_lowered_rate(data, tmp_path) -> None:
    rates = {}
    for source in (None, "codec"):
        brain, *_ = tiny.make_brain(
            "vocoder",
            tmp_path / str(source),
            data,
            init_from=source,
            init_lr_factor=0.5,
            lr_scheduler=WARMUP,
        )
        brain.init_optimizers()
        for name, optimizer in brain.optimizers_dict.items():
            (group,) = optimizer.param_groups
            rates.setdefault(name, []).append((group["lr"], group["initial_lr"]))
    for first, second in rates.values():
        assert first == pytest.approx((0.0005, 0.001))
        assert second == pytest.approx((0.00025, 0.0005))


def test_lowered_rate_is_lowered_only_once_when_a_run_resumes(data, tmp_path) -> None:
    def rate(epochs: int) -> float:
        brain, *sets = tiny.make_brain(
            "quantizer",
            tmp_path,
            data,
            init_from="codec",
            number_of_epochs=epochs,
            lr_scheduler="!name:torch.optim.lr_scheduler.ConstantLR {factor: 1.0, total_iters: 1}",
        )
        tiny.fit(brain, *sets)
        return brain.optimizers_dict["quantizer"].param_groups[0]["lr"]

    assert rate(1) == rate(2) == pytest.approx(0.001 * 0.2)


@pytest.mark.parametrize(
    ("stage", "names", "kept"),
    [
        ("quantizer", ["compressor"], ["compressor."]),
        ("quantizer", ["decompressor", "compressor.layers.0"], ["decompressor.", "compressor.l"]),
        ("vocoder", ["decoder.head"], ["decoder.head."]),
    ],
)
def test_frozen_parts_keep_their_weights_bit_by_bit(data, tmp_path, stage, names, kept) -> None:
    brain, *sets = tiny.make_brain(stage, tmp_path, data, freeze=names, weight_decay=0.5)
    freeze(brain.hparams.modules, brain.hparams.freeze)
    frozen = {name for name, p in brain.modules.named_parameters() if not p.requires_grad}
    assert frozen and all(any(n.startswith(k) for n in frozen) for k in kept)
    start = tiny.weights(brain)
    tiny.fit(brain, *sets)
    end = tiny.weights(brain)
    assert all(torch.equal(start[name], end[name]) for name in frozen)
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved and not moved & frozen
    still = {name for name, p in brain.modules.named_parameters() if not p.requires_grad}
    assert {n for n in still if not n.startswith("discriminator")} == frozen


@pytest.mark.parametrize("name", ["discriminator", "discriminator.mpd.0"])
def test_discriminator_can_not_be_frozen(data, tmp_path, name) -> None:
    with pytest.raises(UserError, match=f"^freeze={name}: the discriminator is trained"):
        tiny.make_brain("vocoder", tmp_path, data, freeze=[name])


def test_optimiser_with_nothing_to_train_is_refused_in_one_line(data, tmp_path) -> None:
    brain, *sets = tiny.make_brain("vocoder", tmp_path, data, freeze=["decoder"])
    freeze(brain.hparams.modules, brain.hparams.freeze)
    with pytest.raises(UserError, match=r"^freeze=\[decoder\]: no parameter of decoder") as found:
        tiny.fit(brain, *sets)
    assert "\n" not in str(found.value)


def test_rate_stays_without_a_source() -> None:
    hparams = SimpleNamespace(init_from=None, init_lr_factor=0.5, freeze=[])
    optimizer = make_optimizer(torch.optim.AdamW, {"a": nn.Linear(1, 1)}, hparams)
    assert optimizer.param_groups[0]["lr"] == 0.001
