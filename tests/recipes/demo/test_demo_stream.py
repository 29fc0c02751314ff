"""The command that trains demo-stream: which commands it runs, in which order, and how it fails."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.demo import small

# Stands for train.py, evaluate.py and focalcodec: it adds its words to a list, and may fail.
FAKE = """
import json, sys, time
words, path = sys.argv, "{folder}/calls.jsonl"
with open(path, "a") as file:
    print(json.dumps(words), file=file)
print("epoch 1/1: train loss 0.5\\nother line")
if any("{failing}" in word for word in words):
    sys.exit("error: no such clip")
if "{failing}" in "stream_encoder":
    time.sleep(60)
"""


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(small.RECIPE))
    return importlib.import_module("demo_stream")


def fake(chain: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, failing: str) -> None:
    text = FAKE.replace("{folder}", str(folder)).replace("{failing}", failing)
    for name in ("train", "evaluate", "focalcodec"):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(chain, "FOLDER", folder)


def calls(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def test_steps_of_the_chain(
    chain: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fake(chain, monkeypatch, tmp_path, failing="nothing")
    out = tmp_path / "out"
    assert chain.main([str(out), "--data_folder", "/data/demo", "--precision=bf16"]) == 0
    done = calls(tmp_path)
    names = [next(Path(w).stem for w in words if w.endswith(".yaml")) for words in done[:4]]
    assert sorted(names) == sorted(name for lane in chain.LANES for name in lane)
    for first, second in chain.LANES:
        assert names.index(first) < names.index(second)
    for name, words in zip(names, done, strict=False):
        assert words[-3:] == ["--data_folder", "/data/demo", "--precision=bf16"]
        assert (small.RECIPE / "hparams" / f"{name}.yaml").is_file()
        assert words[3] == str(out / name)
    stage_1 = done[names.index("stream_50hz")]
    assert stage_1[stage_1.index("--distilled") + 1] == str(out / "stream_encoder")
    runs = [str(out / lane[-1]) for lane in chain.LANES]
    assert done[4][1:] == ["export", "--dtype", "float16", "--overwrite", *runs, str(out / "codec")]
    assert done[5][1:4] == ["hparams/resynthesis_demo.yaml", "--codec", str(out / "codec")]
    shown = capfd.readouterr().out
    assert "[stream_50hz] epoch 1/1: train loss 0.5" in shown and "other line" not in shown
    assert "other line" in (out / "stream_50hz.log").read_text()


def test_a_failure_stops_the_rest(
    chain: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fake(chain, monkeypatch, tmp_path, failing="stream_encoder")
    assert chain.main([str(tmp_path / "out")]) == 1
    assert len(calls(tmp_path)) <= 2
    assert "[stream_encoder] failed: error: no such clip" in capfd.readouterr().err


@pytest.mark.parametrize("words", [[], ["--data_folder", "/data/demo"], [""]])
def test_the_folder_comes_first(
    chain: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        chain.main(words)
    assert stopped.value.code == 2 and "OUT" in capsys.readouterr().err
