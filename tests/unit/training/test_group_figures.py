"""Figures of validation clips: for each group alone, and for the whole set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb
import torch
from torch.utils.data import DataLoader

from focalcodec.data.dataset import AudioBatch, AudioDataset, pad_collate
from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.errors import UserError
from tests.unit.training import tiny

STAGES = ["quantizer", "quantizer12", "vocoder"]
GROUPS = ["it", "de_1", "it", "", "de_1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "corpus"
    return tiny.write_corpus(folder, train=[0.8, 0.9, 1.0, 1.1], dev=[0.7, 0.9, 1.37, 0.61, 0.99])


def batches_of(data: Path) -> list[AudioBatch]:
    """One batch of each group; the second batch of "it" has one clip."""
    rows = tiny.clips(data, "dev")
    order = [[0], [1, 4], [2], [3]]
    return [
        replace(tiny.batch_of([rows[k] for k in batch]), group=[GROUPS[k] for k in batch])
        for batch in order
    ]


def evaluated(brain: Any, batches: list[AudioBatch]) -> tuple[dict, dict[str, dict]]:
    brain.modules.eval()
    brain.on_stage_start(sb.Stage.TEST)
    for batch in batches:
        brain.evaluate_batch(batch, sb.Stage.TEST)
    brain.on_stage_end(sb.Stage.TEST, 0.0, None)
    return brain.test_stats, brain.test_group_stats


@pytest.mark.parametrize("stage", STAGES)
def test_figures_of_a_group_are_those_of_its_clips_alone(data, tmp_path, stage) -> None:
    brain, *_ = tiny.make_brain(stage, tmp_path, data)
    batches = batches_of(data)
    whole, groups = evaluated(brain, batches)
    plain = [replace(batch, group=[""] * len(batch)) for batch in batches]
    assert evaluated(brain, plain) == (whole, {})
    assert list(groups) == ["de_1", "it"]
    for name, stats in groups.items():
        chosen = [plain[k] for k, batch in enumerate(batches) if batch.group[0] == name]
        assert evaluated(brain, chosen) == (stats, {})


@pytest.mark.parametrize("stage", STAGES)
def test_figures_of_groups_by_their_weights_are_the_whole_ones(data, tmp_path, stage) -> None:
    brain, *_ = tiny.make_brain(stage, tmp_path, data)
    batches = [batch for batch in batches_of(data) if batch.group[0]]
    whole, groups = evaluated(brain, batches)
    weights = {}
    for name in groups:
        clips = [batch for batch in batches if batch.group[0] == name]
        if stage == "vocoder":
            frames = [brain.compute_forward(batch, sb.Stage.TEST).lengths for batch in clips]
            weights[name] = sum(int(brain.mel_loss.output_lengths(x).sum()) for x in frames)
        else:
            weights[name] = sum(int(brain.encode(batch)[1].sum()) for batch in clips)
    name = "loss" if stage == "vocoder" else "feature_loss"
    total = sum(weights[group] * groups[group][name] for group in groups)
    assert total / sum(weights.values()) == pytest.approx(whole[name], rel=1e-6)
    if stage != "vocoder":
        toks = {group: stats["toks"] for group, stats in groups.items()}
        total = sum(toks[group] * groups[group]["sample_entropy"] for group in groups)
        assert total / sum(toks.values()) == pytest.approx(whole["sample_entropy"], rel=1e-6)
        assert sum(toks.values()) == whole["toks"]
        # The entropy of a mean is not the mean of entropies: each group needs its own counts.
        entropies = [stats["codebook_entropy"] for stats in groups.values()]
        assert whole["codebook_entropy"] > min(entropies)


def test_batch_of_two_groups_is_refused_in_one_line(data, tmp_path) -> None:
    brain, *_ = tiny.make_brain("quantizer", tmp_path, data)
    batch = replace(tiny.batch_of(tiny.clips(data, "dev")[:2]), group=["it", "de"])
    with pytest.raises(UserError, match="clips of 'de' and 'it'"):
        evaluated(brain, [batch])


# -- in a run ------------------------------------------------------------------------------------


class Stop(Exception):
    """Raised instead of a kill."""


def make(stage: str, folder: Path, data: Path, kill_at: tuple[int, int] = (0, 0)) -> Any:
    class Killed(tiny.brain_class(stage)):
        def fit_batch(self, batch: Any) -> torch.Tensor:
            if (self.epoch, self.step) == kill_at:
                raise Stop
            return super().fit_batch(batch)

    options = {"ckpt_interval_steps": 1, "ckpt_interval_minutes": 0}
    brain, train_set, _ = tiny.make_brain(
        stage, folder, data, run_opts=options, brain_class=Killed, batch_size=1
    )
    rows = [
        {**row, "language": group}
        for row, group in zip(tiny.clips(data, "dev"), GROUPS, strict=True)
    ]
    dataset = AudioDataset(rows, 16000, group_by="language")
    sampler = EpochBatchSampler(
        dataset.durations, 2, sorting="ascending", groups=dataset.groups, pure=True
    )
    return brain, train_set, DataLoader(dataset, batch_sampler=sampler, collate_fn=pad_collate)


@pytest.mark.parametrize("stage", ["quantizer", "vocoder"])
def test_history_has_groups_and_a_resumed_run_the_same(data, tmp_path, stage) -> None:
    whole, *sets = make(stage, tmp_path / "whole", data)
    tiny.fit(whole, *sets)
    for entry in whole.history:
        assert list(entry)[-3:] == ["valid", "valid-de_1", "valid-it"]
        assert entry["valid"].keys() == entry["valid-it"].keys()
        assert "toks" not in entry["train"]
    for place in ((1, 3), (2, 4)):
        killed, *sets = make(stage, tmp_path / "killed", data, place)
        with pytest.raises(Stop):
            tiny.fit(killed, *sets)
    resumed, *sets = make(stage, tmp_path / "killed", data)
    tiny.fit(resumed, *sets)
    assert resumed.history == whole.history
    assert tiny.same(tiny.weights(whole), tiny.weights(resumed))
    resumed.evaluate(sets[1], max_key="epoch")
    last = whole.history[-1]
    assert resumed.test_stats == last["valid"]
    assert resumed.test_group_stats == {"de_1": last["valid-de_1"], "it": last["valid-it"]}
    resumed.evaluate(tiny.loader(tiny.clips(data, "dev"), 2), max_key="epoch")
    assert resumed.test_group_stats == {}
