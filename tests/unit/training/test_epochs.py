"""State over several epochs: schedules, averages after a resume, patience, best checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import speechbrain as sb

from tests.unit.training import tiny

STAGES = ["quantizer", "vocoder"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_corpus(tmp_path_factory.mktemp("data") / "corpus")


def with_losses(stage: str, losses: list[float]) -> type:
    """A Brain with given validation losses."""

    class Told(tiny.brain_class(stage)):
        def stage_stats(self, stage, group=""):
            stats = super().stage_stats(stage, group)
            if stage == sb.Stage.VALID:
                stats["loss"] = losses[self.epoch - 1]
            return stats

    return Told


@pytest.mark.parametrize(
    ("losses", "decays"),
    [
        ([0.5, -0.1, -0.5, -0.9], 0),
        ([-1.0, -1.5, -2.0, -2.5], 0),
        ([-0.5, -0.5, -0.5, -0.5], 3),
        ([-0.5, -0.4, -0.3, -0.2], 3),
    ],
)
def test_plateau_schedule_works_with_negative_losses(data, tmp_path, losses, decays) -> None:
    plateau = (
        "!name:torch.optim.lr_scheduler.ReduceLROnPlateau"
        " {mode: min, factor: 0.9, patience: 0, threshold: 0.0025, threshold_mode: abs}"
    )
    full = tiny.read_yaml(tiny.RECIPE / "hparams" / "focalcodec_50hz.yaml")
    shipped = full["lr_scheduler"]
    assert dict(shipped) == dict(
        mode="min", factor=0.9, patience=0, threshold=0.0025, threshold_mode="abs"
    )
    brain, *sets = tiny.make_brain(
        "quantizer",
        tmp_path,
        data,
        brain_class=with_losses("quantizer", losses),
        number_of_epochs=4,
        lr_scheduler=plateau,
        lr_scheduler_interval="epoch",
    )
    tiny.fit(brain, *sets)
    rate = brain.optimizers_dict["quantizer"].param_groups[0]["lr"]
    assert rate == pytest.approx(0.001 * 0.9**decays)


@pytest.mark.parametrize("stage", STAGES)
def test_training_ends_when_patience_is_over_and_stays_ended(data, tmp_path, stage) -> None:
    def make():
        return tiny.make_brain(
            stage,
            tmp_path,
            data,
            brain_class=with_losses(stage, [2.0, 1.0, 1.5, 1.2, 0.1, 0.1]),
            number_of_epochs=6,
            stop_patience_epochs=2,
        )

    for _ in range(2):
        brain, *sets = make()
        tiny.fit(brain, *sets)
        assert [entry["epoch"] for entry in brain.history] == [1, 2, 3, 4]


class Stop(Exception):
    """Raised instead of a kill."""


@pytest.mark.parametrize("stage", STAGES)
def test_averages_are_right_after_a_resume(data, tmp_path, stage) -> None:
    class Killed(tiny.brain_class(stage)):
        kill_at = (0, 0)

        def fit_batch(self, batch):
            if (self.epoch, self.step) == self.kill_at:
                raise Stop
            return super().fit_batch(batch)

    def make(name: str):
        return tiny.make_brain(
            stage,
            tmp_path / name,
            data,
            run_opts={"ckpt_interval_steps": 1, "ckpt_interval_minutes": 0},
            brain_class=Killed,
            batch_size=1,
        )

    whole, *sets = make("whole")
    tiny.fit(whole, *sets)
    for place in ((1, 3), (2, 4)):
        killed, *sets = make("killed")
        killed.kill_at = place
        with pytest.raises(Stop):
            tiny.fit(killed, *sets)
    resumed, *sets = make("killed")
    tiny.fit(resumed, *sets)
    assert resumed.history == whole.history
    assert tiny.same(tiny.weights(whole), tiny.weights(resumed))


def test_best_checkpoint_is_tested(data, tmp_path) -> None:
    told = with_losses("quantizer", [1.0, 3.0, 2.0])
    brain, *sets = tiny.make_brain(
        "quantizer", tmp_path, data, brain_class=told, number_of_epochs=3, lr=0.05
    )
    kept = []
    write_log = brain.monitor.write_log
    brain.monitor.write_log = lambda *args: (kept.append(tiny.weights(brain)), write_log(*args))
    tiny.fit(brain, *sets)
    brain.evaluate(sets[1], min_key="loss")
    assert tiny.same(kept[0], tiny.weights(brain)) and not tiny.same(kept[2], tiny.weights(brain))


def test_broken_clip_among_good_ones_is_skipped(tmp_path) -> None:
    data = tiny.write_corpus(tmp_path / "data")
    brain, *sets = tiny.make_brain(
        "quantizer", tmp_path / "run", data, batch_size=1, grad_accumulation_factor=2
    )
    clip = sorted(data.glob("train/**/*.flac"))[1]
    clip.write_bytes(clip.read_bytes()[:200])
    tiny.fit(brain, *sets)
    assert [entry["epoch"] for entry in brain.history] == [1, 2]
