"""Batches of a run: lengths, groups and mixtures follow the YAML."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from focalcodec.data.corpus import PrepareOptions, SetSource
from focalcodec.data.dataset import Mixed
from focalcodec.data.manifest import read_prepared
from focalcodec.data.prepare import prepare_sets
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.training.run.folder import RunFolder
from focalcodec.training.run.loaders import AudioLoaders, warn_of_known_clips
from focalcodec.training.stages import Stage1Brain
from focalcodec.wavenext import WaveNeXt
from tests.unit.training import tiny

HPARAMS = {
    "brain": Stage1Brain,
    "seed": 1,
    "feature_cache": None,
    "own_data": None,
    "group_by": None,
    "temperature": 1.0,
    "mixer": None,
    "batch_size": 4,
    "valid_batch_size": 4,
    "sorting": "random",
    "passes_per_epoch": 1,
    "min_seconds": 0.0,
    "max_seconds": 60.0,
    "num_workers": 0,
    "sample_clips": 2,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Twelve clips of one language, four of another."""
    folder = tmp_path_factory.mktemp("data")
    tiny.write_corpus(folder / "corpus", it=[0.2] * 4, en=[0.3] * 12)

    def find(root: Path, files: Any) -> Any:
        from focalcodec.data.corpus import FoundClip
        from focalcodec.data.librispeech_tree import find_clips

        return [
            FoundClip(clip.wav, clip.wav, extra={"language": clip.wav.split("/")[0]})
            for clip in find_clips(root, files)
        ]

    sets = {"all": SetSource(["it", "en"], find)}
    prepare_sets(folder / "corpus", folder / "manifests", sets, PrepareOptions())
    return read_prepared(folder / "manifests")["all"]


def loaders(rows: Any, folder: Path, tests: Any = None, **changes: Any) -> AudioLoaders:
    sets = {"train": rows, "valid": rows, "test": tests or rows}
    return AudioLoaders(HPARAMS | changes, LogMel(n_mels=8), sets, RunFolder(folder))


def test_training_is_balanced_and_figures_are_pure(rows: Any, tmp_path: Path) -> None:
    made = loaders(rows, tmp_path, group_by="language", temperature=1e9)
    batches = list(made.train)
    assert [Counter(batch.group) for batch in batches] == 4 * [{"en": 2, "it": 2}]
    for loader in (made.valid, made.tests["test"]):
        assert [len(set(batch.group)) for batch in loader] == 4 * [1]
        assert sum(len(batch) for batch in loader) == 16


def test_without_groups_all_are_alike(rows: Any, tmp_path: Path) -> None:
    batches = list(loaders(rows, tmp_path).train)
    assert {group for batch in batches for group in batch.group} == {""}


def test_missing_group_is_refused(rows: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="group_by='langauge'.*language"):
        loaders(rows, tmp_path, group_by="langauge")
    # A test set from elsewhere may lack the column.
    bare = [{key: row[key] for key in row if key != "language"} for row in rows]
    made = loaders(rows, tmp_path, bare, group_by="language")
    assert {group for batch in made.tests["test"] for group in batch.group} == {""}


def test_own_data_need_not_have_groups(rows: Any, tmp_path: Path) -> None:
    bare = [{key: row[key] for key in row if key != "language"} for row in rows]
    options = {"own_data": "folder", "group_by": "language", "temperature": 5.0}
    batches = list(loaders(bare, tmp_path, **options).train)
    assert sum(len(batch) for batch in batches) == 16
    assert {group for batch in batches for group in batch.group} == {""}
    both = list(loaders(rows, tmp_path, **options | {"temperature": 1e9}).train)
    assert [Counter(batch.group) for batch in both] == 4 * [{"en": 2, "it": 2}]


def test_short_clips_are_left_out_of_training_alone(rows: Any, tmp_path: Path) -> None:
    made = loaders(rows, tmp_path, min_seconds=0.25)
    assert sum(len(batch) for batch in made.train) == 12
    assert sum(len(batch) for batch in made.valid) == 16


def test_clips_have_the_rate_of_the_decoder(
    rows: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = loaders(rows, tmp_path, modules={"decoder": WaveNeXt(8, 1, 4, 6)})
    assert made.sample_rate == 24000
    assert next(iter(made.valid)).lengths.tolist() == [4800] * 4
    assert capsys.readouterr().out.splitlines() == [
        "clips of 16000 Hz are upsampled to 24000 Hz, the decoder's rate; above 8000 Hz it learns"
        " silence only"
    ]
    assert loaders(rows, tmp_path).sample_rate == 16000
    assert capsys.readouterr().out == ""


def mixer(rows: Any, sample_rate: int, seed: int) -> Any:
    """The mixture is silence; the clean clip is constant: its number of earlier draws."""
    assert len(rows) and sample_rate == 16000 and seed == 1
    return lambda row, draw: Mixed(torch.zeros(3200), torch.full((3200,), 0.1 * draw))


def test_mixtures_are_new_in_training_and_the_same_in_figures(rows: Any, tmp_path: Path) -> None:
    made = loaders(rows, tmp_path, mixer=partial(mixer), passes_per_epoch=2)
    draws = Counter(float(sig.max()) for batch in made.train for sig in batch.sig)
    assert sorted(draws.values()) == [16, 16]
    for batch in [*made.valid, *made.samples]:
        assert batch.mixture is not None and float(batch.sig.abs().max()) == 0.0


def test_samples_are_the_first_by_id(rows: Any, tmp_path: Path) -> None:
    first = sorted(row["ID"] for row in rows)[:2]
    assert [batch.id for batch in loaders(rows, tmp_path).samples] == [[name] for name in first]
    assert loaders(rows, tmp_path, sample_clips=0).samples == []


def test_clips_of_training_and_test_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"wav": "a.wav"}, {"wav": "b.wav", "start": 0}, {"wav": "b.wav", "start": 5}]
    warn_of_known_clips({"train": rows[:2], "valid": rows[2:], "test": rows})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 2 of 3 clips of 'test' are training clips too")
