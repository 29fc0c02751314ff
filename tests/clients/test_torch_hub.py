"""`torch.hub.load` of a folder with this repository."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.official.models import CONFIGS, inputs, shared_codec
from benchmarks.official.packages import ours

ROOT = Path(__file__).parents[2]


def hub_load(**options: Any) -> Any:
    return torch.hub.load(str(ROOT), "focalcodec", source="local", **options)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "some.json"
    path.write_text(json.dumps(CONFIGS["50hz"]), encoding="utf-8")
    return path


def test_random_weights(config: Path) -> None:
    codec = hub_load(config=str(config), pretrained=False)
    assert (
        codec.info()["num_total_params"] == shared_codec(ours(), "50hz").info()["num_total_params"]
    )


def test_pretrained_with_overrides(config: Path) -> None:
    codec = shared_codec(ours(), "50hz")
    torch.save(codec.state_dict(), config.with_suffix(".pt"))
    loaded = hub_load(config=str(config), overrides={"encoder_config.max_cached_steps": 0})
    toks = inputs("50hz")["toks"]
    assert loaded.eval().requires_grad_(False).toks_to_sig(toks).equal(codec.toks_to_sig(toks))
    assert loaded.encoder.max_cached_steps == 0
    assert loaded.model_id == str(config)


def test_names_of_the_hub_are_listed() -> None:
    """torch.hub lists all that can be called in the file."""
    names = runpy.run_path(str(ROOT / "hubconf.py"))
    assert [n for n, x in names.items() if callable(x) and n[0] != "_"] == ["focalcodec"]
