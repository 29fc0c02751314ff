"""The recipes' deltas contain only values that differ from their base."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from focalcodec.training.run.config import BASE_KEY, read_tree, resolve_config

ROOT = Path(__file__).parents[2]
YAMLS = sorted(ROOT.glob("recipes/*/hparams/**/*.yaml"))


def name_of(path: Path) -> str:
    return f"{path.relative_to(ROOT / 'recipes').parts[0]}-{path.stem}"


def plain(node: object) -> object:
    """A YAML node as text, with its tag."""
    from io import StringIO

    text = StringIO()
    YAML().dump({"value": node}, text)
    return text.getvalue()


def repeated(tree: object, base: object) -> list[str]:
    """Keys with the same value as in the base."""
    if not isinstance(tree, dict) or not isinstance(base, dict):
        return []
    found = []
    for key, value in tree.items():
        if key not in base:
            continue
        if isinstance(value, dict) and not getattr(value.tag, "value", None):
            found += [f"{key}.{name}" for name in repeated(value, base[key])]
        elif plain(value) == plain(base[key]):
            found.append(str(key))
    return found


@pytest.mark.parametrize("path", YAMLS, ids=name_of)
def test_a_delta_repeats_nothing_of_its_base(path: Path, tmp_path: Path) -> None:
    tree = YAML().load(path.read_text(encoding="utf-8"))
    bases = tree.pop(BASE_KEY, [])
    if not bases:
        return
    bases = [bases] if isinstance(bases, str) else list(bases)
    below = tmp_path / "bases.yaml"
    joined = {BASE_KEY: [str((path.parent / base).resolve()) for base in bases]}
    with below.open("w", encoding="utf-8") as file:
        YAML().dump(joined, file)
    assert repeated(tree, read_tree(below)) == []


def test_a_repeated_key_is_found() -> None:
    base = YAML().load("lr: 0.1\nmodules: {decoder: {dim: 8, layers: 2}}")
    tree = YAML().load("lr: 0.2\nmodules: {decoder: {dim: 8}}")
    assert repeated(tree, base) == ["modules.decoder.dim"]


@pytest.mark.parametrize(
    "path",
    [path for path in YAMLS if "\nname: " in path.read_text(encoding="utf-8")],
    ids=name_of,
)
def test_each_delta_resolves(path: Path) -> None:
    needed = "old_data: x" if "!PLACEHOLDER" in plain(read_tree(path)) else ""
    assert "!ref" not in resolve_config(path, needed)
