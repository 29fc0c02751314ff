"""evaluate.py of recipes/Demo: its sets and codecs."""

from __future__ import annotations

from pathlib import Path

import pytest

from focalcodec.training.run.config import load_config
from focalcodec.training.run.evaluation import clip_sets, codec_words
from tests.recipes.demo import small


def test_sets_of_the_demo_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic and real speech are separate sets, and the Italian one has its language."""
    monkeypatch.chdir(small.RECIPE)
    monkeypatch.syspath_prepend(str(small.RECIPE))
    hparams = load_config(small.RECIPE / "hparams" / "resynthesis_demo.yaml")
    assert hparams["panel"] == "offline_tiny"
    assert "demo" in codec_words(hparams["codecs"])[2]
    found = {clip_set.name: clip_set for clip_set in clip_sets(hparams, tmp_path)}
    assert {name: (some.kind, len(some.clips)) for name, some in found.items()} == {
        "test-mini": ("synthetic", 24),
        "test-real": ("real", 7),
        "italian": ("real", 16),
    }
    assert {clip.language for clip in found["italian"].clips} == {"it"}
