"""The training loop of both stages, with tiny models on clips of a second."""

from __future__ import annotations

import functools
import logging
import shutil
from pathlib import Path

import pytest
import speechbrain as sb
import torch

from focalcodec.errors import UserError
from tests.unit.training import tiny

STAGES = ["quantizer", "vocoder"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def spoiling(stage: str, steps: set[int], what: str = "loss", turn: int = -1) -> type:
    """A Brain whose loss or gradient is not finite at some steps, and that keeps its weights."""

    class Spoilt(tiny.brain_class(stage)):
        def turns(self, batch):
            names = list(self.trained)
            self.kept = getattr(self, "kept", {})
            self.kept[self.optimizer_step] = tiny.weights(self)
            for name, loss in super().turns(batch):
                if self.optimizer_step + 1 in steps and name == names[turn]:
                    if what == "loss":
                        loss = loss * float("nan")
                    else:
                        p = self._parameters(name)[0]
                        p.register_hook(lambda grad: grad * float("inf"))
                yield name, loss

    return Spoilt


# -- losses and gradients that are not finite ----------------------------------------------------


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize(("stage", "turn"), [("quantizer", 0), ("vocoder", 0), ("vocoder", 1)])
def test_nonfinite_never_reaches_the_optimiser(data, tmp_path, caplog, stage, turn, what) -> None:
    brain, *sets = tiny.make_brain(
        stage,
        tmp_path / "run",
        data,
        brain_class=spoiling(stage, {2}, what, turn),
        number_of_epochs=1,
        batch_size=1,
    )
    with caplog.at_level(logging.WARNING):
        if what == "gradient":
            # The hook stays on, so each later step of this optimiser is refused too.
            brain.nonfinite_patience = 10
        tiny.fit(brain, *sets)
    name = list(brain.trained)[turn]
    prefix = brain.trained[name][0]
    assert not tiny.same(brain.kept[0], brain.kept[1], prefix)
    assert tiny.same(brain.kept[1], brain.kept[2], prefix)
    assert all(bool(torch.isfinite(p).all()) for p in brain.modules.parameters())
    told = [r.getMessage() for r in caplog.records if "no optimiser step" in r.getMessage()]
    assert f"the {name} {what}" in told[0] and "1-2-" in told[0]
    assert torch.isfinite(torch.tensor(list(brain.history[0]["train"].values()))).all()


@pytest.mark.parametrize("stage", STAGES)
def test_patience_runs_out_in_one_line(data, tmp_path, stage) -> None:
    brain, *sets = tiny.make_brain(
        stage,
        tmp_path / "run",
        data,
        brain_class=spoiling(stage, set(range(10))),
        batch_size=1,
        nonfinite_patience=2,
    )
    with pytest.raises(UserError, match=r"epoch 1, batch 3 .*nonfinite_patience=2 is reached"):
        tiny.fit(brain, *sets)
    assert not list((tmp_path / "run" / "save").glob("CKPT*"))


@pytest.mark.parametrize("stage", STAGES)
def test_epoch_without_a_finite_loss_is_not_stored(data, tmp_path, stage) -> None:
    def make(steps: set[int], **changes):
        spoilt = spoiling(stage, steps)
        changes = {"nonfinite_patience": 99, "number_of_epochs": 1} | changes
        return tiny.make_brain(stage, tmp_path / "run", data, brain_class=spoilt, **changes)

    brain, *sets = make(set())
    tiny.fit(brain, *sets)
    good = tiny.weights(brain)
    brain, *sets = make(set(range(100)), number_of_epochs=2)
    with pytest.raises(UserError, match="epoch 2: the train loss is nan"):
        tiny.fit(brain, *sets)
    brain, *_ = make(set())
    assert (
        brain.checkpointer.recover_if_possible(**brain.hparams.best_checkpoint).meta["epoch"] == 1
    )
    assert tiny.same(good, tiny.weights(brain))


@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("dev", "valid")])
def test_clips_that_vanish_are_not_a_loss_that_is_nan(tmp_path, split, name) -> None:
    corpus = tiny.write_corpus(tmp_path / "corpus")
    brain, *sets = tiny.make_brain("quantizer", tmp_path / "run", corpus, number_of_epochs=1)
    shutil.rmtree(corpus / split)
    with pytest.raises(UserError, match=f"skipped.csv: none of the {name} clips could be read"):
        tiny.fit(brain, *sets)


def test_nan_in_validation_is_not_zero(data, tmp_path) -> None:
    class Spoilt(tiny.brain_class("quantizer")):
        def compute_objectives(self, outputs, batch, stage):
            if stage == sb.Stage.VALID:
                outputs.qfeats.fill_(float("nan"))
            return super().compute_objectives(outputs, batch, stage)

    brain, *sets = tiny.make_brain("quantizer", tmp_path, data, brain_class=Spoilt)
    with pytest.raises(UserError, match="the valid loss is nan"):
        tiny.fit(brain, *sets)
    assert not list((tmp_path / "save").glob("CKPT*"))


# -- accumulation and clipping -------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_accumulated_batches_are_one_batch(tmp_path, stage) -> None:
    # Clips of the same length, so that means over frames weigh all batches alike.
    data = tiny.write_corpus(tmp_path / "data", train=[1.0] * 8, dev=[1.0])
    changes = {"entropy_weight": 0.0} if stage == "quantizer" else {"adversarial_start_step": 99}
    changes |= {"number_of_epochs": 1, "lr": 0.01, "max_grad_norm": 0.1, "num_workers": 0}
    if stage == "vocoder":
        # A crop is drawn for a clip and a step; whole clips are the same in either run.
        changes |= {"crop_frames": 50, "min_seconds": 1.0}
    ends, norms = [], []
    for size, factor in ((8, 1), (2, 4)):
        brain, *sets = tiny.make_brain(
            stage,
            tmp_path / f"run{size}",
            data,
            batch_size=size,
            grad_accumulation_factor=factor,
            **changes,
        )
        start = tiny.weights(brain)
        tiny.fit(brain, *sets)
        assert brain.optimizer_step == 1
        ends.append(tiny.weights(brain))
        norms.append(brain.history[0]["train"][f"grad_norm_{list(brain.trained)[-1]}"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    learned = "decoder" if stage == "vocoder" else ""
    assert not tiny.same(start, ends[0], learned)
    for name, end in ends[0].items():
        # Adam's first step is the sign of the gradient, where it is not zero but for rounding.
        differs = (end - ends[1][name]).abs() > 1e-4
        assert differs.float().mean() < 0.02, name


@pytest.mark.parametrize("stage", STAGES)
def test_every_optimiser_steps_once_a_group_and_the_last_group_counts(data, tmp_path, stage):
    steps: dict[str, list[int]] = {}

    class Counting(tiny.brain_class(stage)):
        def _step(self, name, batch):
            steps.setdefault(name, []).append(self.step)
            super()._step(name, batch)

    brain, *sets = tiny.make_brain(
        stage,
        tmp_path,
        data,
        brain_class=Counting,
        batch_size=1,
        grad_accumulation_factor=3,
        number_of_epochs=1,
    )
    tiny.fit(brain, *sets)
    # Four batches: a group of three and a last one of one.
    assert steps == {name: [3, 4] for name in brain.trained}
    assert brain.optimizer_step == 2


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_are_clipped_for_every_optimiser(data, tmp_path, stage) -> None:
    norms: dict[str, float] = {}

    class Watching(tiny.brain_class(stage)):
        def init_optimizers(self):
            super().init_optimizers()
            for name, optimizer in self.optimizers_dict.items():
                optimizer.register_step_pre_hook(lambda *_, name=name: self.watch(name))

        def watch(self, name):
            grads = [p.grad for p in self._parameters(name)]
            norms[name] = float(torch.nn.utils.get_total_norm(grads))

    brain, *sets = tiny.make_brain(
        stage,
        tmp_path,
        data,
        run_opts={"max_grad_norm": 1e-3},
        brain_class=Watching,
        number_of_epochs=1,
    )
    tiny.fit(brain, *sets)
    assert norms == {name: pytest.approx(1e-3, rel=0.01) for name in brain.trained}
    before_clipping = brain.history[0]["train"]
    assert all(before_clipping[f"grad_norm_{name}"] > 2e-3 for name in brain.trained)


# -- run options ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_half_precision_trains(data, tmp_path, stage) -> None:
    class Watching(tiny.brain_class(stage)):
        def compute_forward(self, batch, stage):
            self.in_half = torch.is_autocast_enabled("cpu")
            feats, _ = self.encode(batch)
            assert feats.dtype == torch.float32
            return super().compute_forward(batch, stage)

    brain, *sets = tiny.make_brain(
        stage,
        tmp_path,
        data,
        run_opts={"precision": "bf16", "eval_precision": "bf16"},
        brain_class=Watching,
    )
    start = tiny.weights(brain)
    tiny.fit(brain, *sets)
    assert brain.in_half
    end = tiny.weights(brain)
    assert not tiny.same(start, end) and all(p.dtype == torch.float32 for p in end.values())


@pytest.mark.parametrize("stage", STAGES)
def test_compiled_modules_train_and_their_checkpoint_fits_the_plain_ones(
    data, tmp_path, monkeypatch, stage
) -> None:
    # The graphs are captured as always, but run without minutes of C++ compilation.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    # The discriminators would take half a minute more.
    keys = ["decoder"] if stage == "vocoder" else None
    ends = []
    for name in ("plain", "compiled"):
        brain, *sets = tiny.make_brain(
            stage,
            tmp_path / name,
            data,
            run_opts={"compile": name == "compiled", "compile_module_keys": keys},
            number_of_epochs=1,
        )
        tiny.fit(brain, *sets)
        again, *_ = tiny.make_brain(stage, tmp_path / name, data)
        again.checkpointer.recover_if_possible(min_key="loss")
        ends.append(tiny.weights(again))
    assert type(next(iter(brain.modules.values()))).__name__ == "OptimizedModule"
    for name, end in ends[0].items():
        assert torch.allclose(end, ends[1][name], atol=1e-4), name


@pytest.mark.parametrize("stage", STAGES)
def test_debug_limits_batches_and_epochs(data, tmp_path, stage) -> None:
    seen: list[tuple[int, int]] = []

    class Watching(tiny.brain_class(stage)):
        def fit_batch(self, batch):
            seen.append((self.epoch, self.step))
            return super().fit_batch(batch)

    brain, *sets = tiny.make_brain(
        stage,
        tmp_path,
        data,
        run_opts={"debug": True},
        brain_class=Watching,
        batch_size=1,
        number_of_epochs=9,
    )
    tiny.fit(brain, *sets)
    assert seen == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert not list((tmp_path / "save").glob("CKPT*"))


@pytest.mark.parametrize("stage", STAGES)
def test_random_weights_are_never_tested(data, tmp_path, stage) -> None:
    brain, _, valid = tiny.make_brain(stage, tmp_path, data, run_opts={"test_only": True})
    tiny.fit(brain, valid, valid)
    with pytest.raises(UserError, match=f"{tmp_path}.*no checkpoint of a finished epoch"):
        brain.evaluate(valid, min_key="loss")


# -- the frozen encoder --------------------------------------------------------------------------


class NormedEncoder(torch.nn.Module):
    """An encoder with weights, batch statistics and dropout."""

    sample_rate, hop, dim = 16000, 320, 8

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, int] = {}
        self.linear = torch.nn.Linear(320, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.drop = torch.nn.Dropout(0.5)

    def output_lengths(self, lengths):
        return lengths // self.hop

    def forward(self, sig, lengths=None):
        frames = sig[:, : sig.shape[1] // 320 * 320].unflatten(1, (-1, 320))
        feats = self.norm(self.linear(frames).transpose(1, 2)).transpose(1, 2)
        return self.drop(feats), self.output_lengths(lengths)


@pytest.mark.parametrize("stage", STAGES)
def test_encoder_is_frozen(data, tmp_path, monkeypatch, stage) -> None:
    encoder = NormedEncoder()
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    monkeypatch.setattr("focalcodec.encoders.logmel.LogMel", lambda **_: encoder)
    brain, *sets = tiny.make_brain(stage, tmp_path, data, number_of_epochs=1)
    assert brain.encoder is encoder
    tiny.fit(brain, *sets)
    assert all(torch.equal(state[name], tensor) for name, tensor in encoder.state_dict().items())
    assert not encoder.training and not encoder.norm.training
    assert all(not p.requires_grad and p.grad is None for p in encoder.parameters())
    assert {p.device for p in encoder.parameters()} == {torch.device(brain.device)}
    owned = {id(p) for p in encoder.parameters()}
    for optimizer in brain.optimizers_dict.values():
        assert not owned & {id(p) for group in optimizer.param_groups for p in group["params"]}
    (checkpoint,) = (tmp_path / "save").glob("CKPT*")
    assert not [path for path in checkpoint.iterdir() if "encoder" in path.name]
