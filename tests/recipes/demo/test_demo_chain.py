"""The command that trains a codec: which commands it runs, in which order, and how it fails."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from focalcodec.training.run.config import read_tree
from tests.recipes.demo import small

# Stands for the scripts and focalcodec: it adds its words to a list, and may fail.
FAKE = """
import json, pathlib, sys, time
words, path = sys.argv, "{folder}/calls.jsonl"
with open(path, "a") as file:
    print(json.dumps(words), file=file)
print("epoch 1/1: train loss 0.5\\nother line")
if any("{failing}.yaml" in word for word in words):
    sys.exit("error: no such clip")
if "--to" in words:
    pathlib.Path(words[-1]).touch()
if "{failing}" == "stream_50hz_joint":
    time.sleep(60)
"""


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(small.RECIPE))
    return importlib.import_module("demo_chain")


def fake(chain: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, failing: str) -> None:
    text = FAKE.replace("{folder}", str(folder)).replace("{failing}", failing)
    for name in ("train", "evaluate", "focalcodec", "fit_words"):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(chain, "FOLDER", folder)


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("codec", ["demo", "demo-25hz", "demo-stream"])
def test_steps_of_the_chain(
    chain: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    codec: str,
) -> None:
    fake(chain, monkeypatch, tmp_path, failing="nothing")
    out = tmp_path / "out"
    words = [codec, str(out), "--data_folder", "/data/demo", "--precision=bf16"]
    assert chain.main(words) == 0
    done = {
        (chain.WORDS if "--to" in words else Path(words[1]).stem): words
        for words in calls(tmp_path)
    }
    trained, parts = chain.needed(chain.CODECS[codec]), chain.CODECS[codec]
    assert sorted(done) == sorted([*trained, "export", "resynthesis_demo"])
    order = list(done)
    for name in trained:
        for option, source in chain.TRAININGS[name].items():
            assert order.index(source) < order.index(name)
            assert f"--{option}={out / source}" in done[name]
        if name != chain.WORDS:
            assert done[name][-2:] == ["--data_folder=/data/demo", "--precision=bf16"]
            assert f"--output_folder={out / name}" in done[name]
    runs = [name if name == "demo" else str(out / name) for name in parts]
    expected = ["export", "--dtype", "float16", "--overwrite", *runs, str(out / codec)]
    assert done["export"][1:] == expected
    assert done["resynthesis_demo"][2:4] == ["--codec", str(out / codec)]
    shown = capfd.readouterr().out
    assert f"[{parts.stage_1}] epoch 1/1: train loss 0.5" in shown and "other line" not in shown
    assert "other line" in (out / f"{parts.stage_1}.log").read_text()
    if chain.WORDS in trained:
        assert done[chain.WORDS][1] == "/data/demo/train-libri"
        assert chain.main(words) == 0, "the reader is not made again"
        assert sum("--to" in again for again in calls(tmp_path)) == 1


def test_the_chains_are_those_of_the_yamls(chain: Any) -> None:
    """A training begins with the runs that its YAML names, which come before it."""
    names = list(chain.TRAININGS)
    for name, sources in chain.TRAININGS.items():
        if name == chain.WORDS:
            continue
        tree = read_tree(small.RECIPE / "hparams" / f"{name}.yaml")
        for option, source in sources.items():
            assert tree[option] == f"results/{source}" + "/1986" * (source != chain.WORDS)
            assert names.index(source) < names.index(name)


def test_a_failure_stops_the_rest(
    chain: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fake(chain, monkeypatch, tmp_path, failing="stream_50hz_joint")
    words = ["demo-stream", str(tmp_path / "out"), "--data_folder", "/data/demo"]
    assert chain.main(words) == 1
    assert len(calls(tmp_path)) <= 2
    assert "[stream_50hz_joint] failed: error: no such clip" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["demo", "out"], "--data_folder"),
        (["--data_folder", "/data/demo"], "CODEC"),
        (["other", "out", "--data_folder=/data"], "choose from"),
    ],
)
def test_the_codec_comes_first(
    chain: Any, words: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        chain.main(words)
    assert stopped.value.code == 2 and missing in capsys.readouterr().err
