"""Runs of probes from the command line to cards."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile

from focalcodec.errors import UserError
from focalcodec.evaluation import run as evaluation
from focalcodec.metrics.judge import Column, Judge, JudgedClip, Score, Verdict
from focalcodec.probes.cards import probe_table, read_cards
from focalcodec.probes.targets import Pieces
from focalcodec.probes.tokens import ProbeCodec
from focalcodec.tokenize.parts import FocalTokenizer
from focalcodec.training.probe_brain import ProbeBrain
from tests.unit.training import probe_runs

COLUMNS = {"asr": "wer", "sid": "error_rate", "enhancement": "token_error_rate"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probe_runs.write_sets_of(tmp_path_factory.mktemp("sets"))


@pytest.mark.parametrize("probe", COLUMNS)
def test_writes_a_card_of_all_clips(probe: str, sets: Path, tmp_path: Path) -> None:
    out = probe_runs.run(probe, sets, tmp_path / "run")
    card = probe_runs.card(out)
    assert [clip["id"] for clip in card["clips"]] == ["test0", "test1", "test2", "test3"]
    figure = card["figures"][COLUMNS[probe]]
    results = json.loads((out / "results.json").read_text())
    assert figure["value"] == pytest.approx(results["test"][COLUMNS[probe]], abs=1e-3)
    assert figure["low"] <= figure["value"] <= figure["high"] and figure["count"] == 4
    assert card["codec"]["name"] == "tiny_50hz" and card["probe"]["inputs"] == "toks"
    assert COLUMNS[probe] in [column["key"] for column in card["columns"]]


def test_texts_are_scored_by_language(sets: Path, tmp_path: Path) -> None:
    out = probe_runs.run("asr", sets, tmp_path / "run", group_by="language")
    (first, *clips) = (out / "wer_test.txt").read_text().split("\n\n")
    figures = probe_runs.card(out)["figures"]
    assert first == f"WER {figures['wer']['value']:.2f} %, CER {figures['cer']['value']:.2f} %"
    assert [clip.split("\n")[0] for clip in clips] == [f"test{n}" for n in range(4)]
    assert clips[1].split("\n")[1:] == ["REF: 23", "HYP: **", "      D"], "normalised, as scored"
    results = json.loads((out / "results.json").read_text())
    assert {"test", "test-de", "test-en"} <= results.keys()
    assert set(probe_runs.card(out)["splits"]["language"]) == {"de", "en"}
    pieces = Pieces((out / "pieces.model").read_bytes())
    assert len(pieces) == 15 and pieces.to_text(pieces.to_symbols("THREE ONE")) == "THREE ONE"


def test_labels_are_stored_and_unknown_ones_refused(sets: Path, tmp_path: Path) -> None:
    out = probe_runs.run("sid", sets, tmp_path / "run")
    labels = json.loads((out / "labels.json").read_text())
    assert labels == {"column": "spk_id", "names": ["speaker0", "speaker1"]}
    strange = probe_runs.write_sets_of(tmp_path / "strange")
    test = (strange / "test.csv").read_text()
    (strange / "test.csv").write_text(test.replace("speaker1", "nobody"))
    table = list(csv.DictReader((out / "confusion_test.csv").open()))
    assert [row["spk_id"] for row in table] == labels["names"]
    counts = [[int(row[name]) for name in labels["names"]] for row in table]
    assert [sum(row) for row in counts] == [2, 2]
    card, results = probe_runs.card(out), json.loads((out / "results.json").read_text())
    wrong = sum(clip["scores"]["error_rate"][0] for clip in card["clips"]) / 100
    assert counts[0][1] + counts[1][0] == wrong
    assert card["chance"] == results["test chance"] == {"error_rate": 50.0}
    assert (out / "confusion_test.png").read_bytes().startswith(b"\x89PNG")
    assert card["probe"]["tested_epoch"] == results["test"]["epoch"] in (1, 2)
    with pytest.raises(UserError, match="test: 2 of 4 clips .* such as spk_id='nobody'") as said:
        probe_runs.run("sid", strange, tmp_path / "other")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("targets", [["wav"], ["s1", "s2"]])
def test_predictions_are_written_as_audio(sets: Path, tmp_path: Path, targets: list[str]) -> None:
    out = probe_runs.run(
        "enhancement", sets, tmp_path / "run", targets=targets, judge_clips=2, number_of_epochs=1
    )
    names = ["test0", "test1"]
    if len(targets) > 1:
        names = [f"{name}_{target}" for name in names for target in targets]
    for part in ("clean", "estimate"):
        assert sorted(path.stem for path in (out / "test" / part).iterdir()) == names
    noisy = sorted((out / "test" / "noisy").iterdir())
    assert [path.stem for path in noisy] == ["test0", "test1"]
    assert (soundfile.read(noisy[0])[0] == soundfile.read(sets / "test0_noisy.flac")[0]).all()
    lines = (out / "test" / "manifest.csv").read_text().splitlines()
    assert len(lines) == 1 + len(names)
    assert lines[1].startswith(f"{names[0]},0.6,$data_root/clean/{names[0]}.flac,")
    row = next(csv.DictReader(lines))
    assert row["noisy"] == "$data_root/noisy/test0.flac"
    assert row["estimate"] == f"$data_root/estimate/{names[0]}.flac"


class Loudness(Judge):
    """Scores the loudness of the reference, with a weight."""

    name = "loudness"
    columns = (Column("loudness", "Loudness", "", "none"),)

    def describe(self) -> dict[str, str]:
        return {"version": "1"}

    def score(self, clips: Sequence[JudgedClip]) -> list[Verdict]:
        assert all(len(clip.ref_sig) == len(clip.rec_sig) for clip in clips)
        loud = [float(clip.ref_sig.abs().mean()) for clip in clips]
        return [Verdict({"loudness": Score(value, 2.0)}, transcript="OH") for value in loud]


def test_judges_score_each_target(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        evaluation, "load_panel_judges", lambda panel, device: ([Loudness()], ["a: missing"])
    )
    out = probe_runs.run(
        "enhancement", sets, tmp_path / "run", targets=["s1", "s2"], number_of_epochs=1
    )
    card = probe_runs.card(out)
    assert card["judges"] == {"loudness": {"version": "1"}} and card["missing"] == ["a: missing"]
    loud = [soundfile.read(sets / f"test0_{part}.flac")[0] for part in ("s1", "s2")]
    value, weight = card["clips"][0]["scores"]["loudness"]
    assert weight == 4.0
    assert value == pytest.approx(sum(abs(sig).mean() for sig in loud) / 2, rel=1e-4)
    assert card["clips"][0]["transcripts"]["loudness"] == "OH | OH"


def test_beam_search_is_for_the_test(sets: Path, tmp_path: Path) -> None:
    out = probe_runs.run("asr", sets, tmp_path / "run", number_of_epochs=1, beam_size=4)
    assert probe_runs.card(out)["figures"]["wer"]["count"] == 4


@pytest.mark.parametrize("inputs", ["qfeats", "feats", "logmel"])
def test_inputs_can_be_features(sets: Path, tmp_path: Path, inputs: str) -> None:
    out = probe_runs.run("sid", sets, tmp_path / "run", inputs=inputs, number_of_epochs=1)
    card = probe_runs.card(out)
    assert card["probe"]["inputs"] == inputs
    assert (card["codec"]["kbps"] is None) == (inputs != "qfeats"), "features have no bitrate"


def test_cached_features_change_nothing(sets: Path, tmp_path: Path) -> None:
    plain = probe_runs.run("sid", sets, tmp_path / "plain", inputs="feats")
    cached = probe_runs.run(
        "sid", sets, tmp_path / "cached", inputs="feats", feature_cache=str(tmp_path / "kept")
    )
    assert (plain / "results.json").read_text() == (cached / "results.json").read_text()


def test_tokens_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets, encoded = probe_runs.write_sets_of(tmp_path / "sets"), []
    encode = FocalTokenizer.encode

    def counted(self: Any, sigs: Any) -> Any:
        encoded.extend(sigs)
        return encode(self, sigs)

    monkeypatch.setattr(FocalTokenizer, "encode", counted)
    probe_runs.run("asr", sets, tmp_path / "a", number_of_epochs=1)
    assert len(encoded) == sum(probe_runs.SIZES.values())
    probe_runs.run("sid", sets, tmp_path / "b", number_of_epochs=1)
    assert len(encoded) == sum(probe_runs.SIZES.values())


def test_seeds_share_a_cell_of_the_table(sets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    probe_runs.run("sid", sets, folder, "--seed=5", seeds=[1, 2, 3], number_of_epochs=1)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]
    assert probe_runs.card(folder / "2")["seed"] == 2
    table = probe_table(read_cards(folder))
    assert "n=3" in table and "error rate" in table and "tiny_50hz" in table


def test_more_workers_change_nothing(sets: Path, tmp_path: Path) -> None:
    alone = probe_runs.run("asr", sets, tmp_path / "alone")
    two = probe_runs.run("asr", sets, tmp_path / "two", num_workers=2)
    assert probe_runs.history(alone) == probe_runs.history(two)


class Stopped(Exception):
    """Raised instead of a kill within an epoch."""


def test_resumed_run_equals_one_without_interruption(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"number_of_epochs": 3, "ckpt_interval_minutes": 0, "ckpt_interval_steps": ...}
    whole = probe_runs.run("asr", sets, tmp_path / "whole", **options)
    inputs, steps = ProbeBrain.inputs, []

    def stopping(self: Any, batch: Any) -> Any:
        steps.append(batch)
        if len(steps) == 10:
            raise Stopped
        return inputs(self, batch)

    monkeypatch.setattr(ProbeBrain, "inputs", stopping)
    with pytest.raises(Stopped):
        probe_runs.run("asr", sets, tmp_path / "cut", **options)
    cut = probe_runs.run("asr", sets, tmp_path / "cut", **options)
    assert probe_runs.history(cut) == probe_runs.history(whole)
    assert (cut / "results.json").read_text() == (whole / "results.json").read_text()


@pytest.mark.parametrize(
    ("probe", "brain"),
    [
        ("asr", "ctc_brain.CTCBrain"),
        ("sid", "utterance_brain.UtteranceBrain"),
        ("enhancement", "translator_brain.TranslatorBrain"),
    ],
)
def test_older_run_resumes(sets: Path, tmp_path: Path, probe: str, brain: str) -> None:
    out = probe_runs.run(probe, sets, tmp_path / "run", number_of_epochs=1)
    knobs = json.loads((out / "knobs.json").read_text())
    del knobs["encoder"], knobs["encoder.text"]
    knobs |= {"freeze": [], "init_from": None, "init_lr_factor": 0.2, "replace_encoder": False}
    knobs |= {"brain": f"!name:focalcodec.training.{brain}", "experiment": "!name:x.ProbeRuns"}
    (out / "knobs.json").write_text(json.dumps(knobs))
    probe_runs.run(probe, sets, out, number_of_epochs=2)
    assert len(probe_runs.history(out)) == 2
    with pytest.raises(UserError, match="started with dropout=0.1, now dropout=0.2"):
        probe_runs.run(probe, sets, out, number_of_epochs=2, dropout=0.2)


def test_another_codec_in_the_same_folder_is_refused(sets: Path, tmp_path: Path) -> None:
    out = probe_runs.run("sid", sets, tmp_path / "run", number_of_epochs=1)
    (out / "codec.txt").write_text("0" * 64 + "\n")
    with pytest.raises(UserError, match=r"codec\.txt: .* another codec"):
        probe_runs.run("sid", sets, out, number_of_epochs=2)


def test_refuses_in_one_line(sets: Path, tmp_path: Path) -> None:
    for options, message in [
        ({"inputs": "sounds"}, "inputs='sounds'"),
        ({"codec": "original"}, "codec=original"),
        ({"source": "s9"}, "no column 's9'"),
        ({"label": "mood"}, "label=mood"),
        ({"init_from": str(probe_runs.CODEC)}, "init_from"),
        ({"freeze": ["probe"]}, "freeze"),
        ({"group_by": "mood"}, "group_by='mood'"),
        ({"seeds": 3}, "seeds=3"),
    ]:
        with pytest.raises(UserError, match=message) as said:
            probe_runs.run("sid", sets, tmp_path / "run", **options)
        assert "\n" not in str(said.value)


def test_codec_of_another_kind_has_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = ProbeCodec.__new__(ProbeCodec)
    codec.name, codec.coder = "mimi:8", None  # type: ignore[assignment]
    with pytest.raises(UserError, match="use toks"):
        codec.frozen_part("qfeats")
