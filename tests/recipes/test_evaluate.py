"""evaluate.py as a user runs it, on a tiny codec."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from focalcodec.errors import UserError
from focalcodec.training.config import read_tree

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "LibriSpeech"
YAMLS = sorted((RECIPE / "hparams").glob("*resynthesis*.yaml"))
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
    """What there is stands in the tables; what can't be had is named, and the run ends well."""
    options = [f"--codec={CODEC}", f"--output_folder={tmp_path}", "--panel=none", "--max_clips=2"]
    codecs = f"--codecs=[original, vocoder:{CODEC}, {{mine: {CODEC}}}, mimi]"
    options += [codecs, "--speed_clips=0", "--report=False", "--device=cpu"]
    done = run("hparams/resynthesis_mini.yaml", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "left out: mimi: kyutai/mimi" in done.stderr
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
        (["--codecs=[opus:6]", "--sets=[{name: x}]"], "give name, splits or manifest"),
        (["--codecs=[opus:6]", "--panle=none"], "no key 'panle'"),
    ],
)
def test_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], told: str
) -> None:
    monkeypatch.chdir(RECIPE)
    monkeypatch.syspath_prepend(str(RECIPE))
    main = runpy.run_path("evaluate.py")["main"]
    with pytest.raises(UserError, match=re.escape(told)):
        main(["hparams/resynthesis.yaml", f"--output_folder={tmp_path / 'out'}", *options])
    assert not (tmp_path / "out" / "manifests").exists()


@pytest.mark.parametrize("yaml", YAMLS, ids=lambda path: path.stem)
def test_header_and_name(yaml: Path) -> None:
    lines = yaml.read_text().splitlines()
    assert len(lines) < 80
    assert re.search(
        rf"^#\s+python evaluate\.py hparams/{re.escape(yaml.name)}\b", "\n".join(lines), re.M
    )
    assert read_tree(yaml)["name"] == yaml.stem
