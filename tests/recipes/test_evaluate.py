"""evaluate.py as a user runs it, on a tiny codec."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from focalcodec.errors import UserError
from focalcodec.training.run.config import load_config
from focalcodec.training.run.evaluation import clip_sets, evaluate_recipe

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "LibriSpeech"
CODEC = ROOT / "tests" / "data" / "golden" / "tiny_50hz"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "evaluate.py", *arguments],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


def test_mini_without_judges(tmp_path: Path) -> None:
    """The tables have the available codecs; a missing one is reported, and the exit code is 0."""
    options = [f"--codec={CODEC}", f"--output_folder={tmp_path}", "--panel=none", "--max_clips=2"]
    codecs = f"--codecs=[original, vocoder:{CODEC}, {{mine: {CODEC}}}, mimi]"
    options += [codecs, "--speed_clips=0", "--report=False", "--device=cpu"]
    done = run("hparams/resynthesis_mini.yaml", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "skipped: mimi: kyutai/mimi" in done.stderr
    assert "test-mini: 2 clips" in done.stdout and "synthetic speech" in done.stdout
    cards = {
        path.parent.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("card.json")
    }
    names = ("original", "vocoder-tiny_50hz", "mine")
    assert sorted(cards) == sorted(
        f"test-{kind}/{name}" for kind in ("mini", "real") for name in names
    )
    card = json.loads(cards["test-real/mine"].read_text())
    assert card["set"]["kind"] == "real" and card["codec"]["kbps"] == pytest.approx(0.65)
    assert "evaluate.py hparams/resynthesis_mini.yaml" in card["command"]
    clips = json.loads((tmp_path / "test-real" / "clips.json").read_text())["clips"]
    assert all(clip["text"] and clip["speaker"] for clip in clips), "of the manifest"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "codecs: none"),
        (["--codecs=[opus:6]", "--sets=[{source: x}]"], "give name, and optionally source"),
        (["--codecs=[opus:6]", "--panle=none"], "no key 'panle'"),
    ],
)
def test_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], told: str
) -> None:
    monkeypatch.chdir(RECIPE)
    monkeypatch.syspath_prepend(str(RECIPE))
    with pytest.raises(UserError, match=re.escape(told)):
        evaluate_recipe(
            ["hparams/resynthesis.yaml", f"--output_folder={tmp_path / 'out'}", *options]
        )
    assert not (tmp_path / "out" / "manifests").exists()


def test_own_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder or a manifest beside the prepared sets; a set that is not prepared is refused."""
    monkeypatch.syspath_prepend(str(RECIPE))
    hparams = load_config(RECIPE / "hparams" / "resynthesis_mini.yaml")
    real = ROOT / "corpus" / "LibriSpeech" / "test-real"
    hparams["sets"] = [
        {"name": "test-real", "kind": "real"},
        {"name": "mine", "source": str(real), "language": "fr"},
        {"name": "listed", "source": str(tmp_path / "test-real.csv")},
    ]
    hparams["data_folder"] = str(real.parent)
    prepared, mine, listed = clip_sets(hparams, tmp_path)
    assert len(prepared.clips) == len(mine.clips) == len(listed.clips) == 7
    assert (prepared.kind, mine.kind, mine.clips[0].language) == ("real", "", "fr")
    assert listed.sha256 == prepared.sha256
    hparams["sets"] = [{"name": "test-raal"}]
    with pytest.raises(UserError, match="'test-raal' is not prepared; there are: test-mini, test-"):
        clip_sets(hparams, tmp_path)
