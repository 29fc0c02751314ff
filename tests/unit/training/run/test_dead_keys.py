"""Keys of a YAML that no code reads, and the search for keys that are read."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from focalcodec.errors import UserError
from focalcodec.training.run.config import resolve_config
from focalcodec.training.run.dead_keys import keys_read_by, refuse_dead_keys

SOURCE = """
class Base:
    def __init__(self, hparams):
        self.a = hparams["subscript"]
        self.b = hparams.get("got", 1)
        self.c = "asked" in hparams

class Brain(Base):
    def loss(self):
        return self.hparams.attribute + getattr(self.hparams, "optional", 0) + self.other.no_key

    def more(self):
        knobs = self.hparams.__dict__["inside"], vars(self.hparams)["listed"]
        return knobs, vars(self.hparams).get("or_none"), self.other.__dict__["no_key"]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A recipe's module with a Brain of its own."""
    (tmp_path / "own_brain.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_brain", raising=False)
    return __import__("own_brain")


def test_keys_are_found_in_the_source(module: ModuleType) -> None:
    found = {"subscript", "got", "asked", "attribute", "optional", "inside", "listed", "or_none"}
    assert keys_read_by(module.Brain) == keys_read_by(module) == found


def test_a_resolved_yaml_may_be_trained(tmp_path: Path) -> None:
    """Its references are values, so nothing reads the keys that they named; they can't be set."""
    base, printed = tmp_path / "base.yaml", tmp_path / "printed.yaml"
    base.write_text("source: hub\nencoder: !name:builtins.dict\n    source: !ref <source>\n")
    printed.write_text(resolve_config(base))
    refuse_dead_keys(printed, {"encoder"})
    with pytest.raises(UserError, match="'source'; in this resolved YAML, change its value where"):
        refuse_dead_keys(printed, {"encoder"}, "source: here")
    delta = tmp_path / "delta.yaml"
    delta.write_text("__base__: printed.yaml\nsource: here\n")
    with pytest.raises(UserError, match="delta.yaml: nothing reads the key 'source'"):
        refuse_dead_keys(delta, {"encoder"})


def test_a_delta_may_leave_a_key_of_its_base_without_use(tmp_path: Path) -> None:
    """Then this key can't be set."""
    base, delta = tmp_path / "base.yaml", tmp_path / "delta.yaml"
    base.write_text("source: hub\nencoder: !name:builtins.dict\n    source: !ref <source>\n")
    delta.write_text("__base__: base.yaml\nencoder: !name:builtins.dict\n    size: 3\n")
    refuse_dead_keys(base, {"encoder"})
    refuse_dead_keys(delta, {"encoder"})
    refuse_dead_keys(base, {"encoder"}, "source: here")
    with pytest.raises(UserError, match="delta.yaml: nothing reads the key 'source'"):
        refuse_dead_keys(delta, {"encoder"}, "source: here")
