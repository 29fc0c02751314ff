"""docs/papers.md: every function that it names exists."""

from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
NAMES = sorted({*re.findall(r"`(focalcodec(?:\.\w+)+)`", PAGE)})
METHODS = sorted({*re.findall(r"`(recipes/\S+\.py)`, `(\w+)\.(\w+)`", PAGE)})


def test_the_page_names_functions() -> None:
    assert len(NAMES) > 40 and METHODS
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
    without = [row for row in rows if "function |" not in row and "`" not in row.split(" | ")[-1]]
    assert not without, "a definition without a function"


@pytest.mark.parametrize("name", NAMES)
def test_a_function_of_the_package_exists(name: str) -> None:
    assert pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize(("path", "kind", "method"), METHODS)
def test_a_method_of_a_recipe_exists(path: str, kind: str, method: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind)
    assert method in [node.name for node in found.body if isinstance(node, ast.FunctionDef)]
