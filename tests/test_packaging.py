"""The package for pip: its requirements, its version, and the files in a wheel."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import focalcodec
from focalcodec.cli.recipe import recipe_files

ROOT = Path(__file__).parents[1]
# Names on the package index, where they differ from the module's.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "faster_whisper": "faster-whisper",
    "kokoro_onnx": "kokoro-onnx",
    "ruamel": "ruamel.yaml",
    "xls_r_sqa": "xls-r-sqa",
}
# Extras whose packages a folder may import at the top of a module; all others are imported late.
EXTRAS = {
    "focalcodec/probes": ["recipes"],
    "focalcodec/report": ["eval"],
    "focalcodec/training": ["recipes"],
    "focalcodec": [],
    "recipes": ["recipes", "demo-corpus"],
    "benchmarks": ["recipes"],
}
# installed without its dependencies, by the Makefile
UNDECLARED = {"resemblyzer"}


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of `setup` in setup.py."""
    found: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", found.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split("[<>=]", requirement)[0] for requirement in requirements}


def third_party(path: Path, top_level: bool) -> Iterator[str]:
    """Names of the distributions that a module imports: at its top, or anywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if function in ("need", "need_beside_torchaudio", "import_module"):
                modules = [str(node.args[0].value)]
        for module in modules:
            name = module.partition(".")[0]
            beside = any((path.parent / file).exists() for file in (f"{name}.py", name))
            ours = name == "focalcodec" or beside
            if not ours and name not in sys.stdlib_module_names:
                yield DISTRIBUTIONS.get(name, name)


@pytest.mark.parametrize("folder", EXTRAS)
def test_imports_are_declared(folder: str, options: dict[str, Any]) -> None:
    base = names(options["install_requires"])
    extras = {name: names(packages) for name, packages in options["extras_require"].items()}
    at_top = base.union(*(extras[name] for name in EXTRAS[folder]))
    declared = base.union(*extras.values()) | UNDECLARED
    others = [ROOT / other for other in EXTRAS if other != folder]
    checked = 0
    for path in sorted((ROOT / folder).rglob("*.py")):
        if folder == "focalcodec" and any(other in path.parents for other in others):
            continue
        checked += 1
        where = path.relative_to(ROOT)
        undeclared = {*third_party(path, top_level=False)} - declared
        assert not undeclared, f"{where}: {undeclared} in no list of setup.py"
        early = {*third_party(path, top_level=True)} - at_top
        assert not early, f"{where}: {early} imported at the top; import them where they are used"
    assert checked


def test_version_is_written_once(options: dict[str, Any]) -> None:
    assert options["version"] == focalcodec.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {focalcodec.__version__}\n" in citation


def test_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = [ROOT / name for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE")]
    tracked += [path for name in ("focalcodec", "recipes") for path in (ROOT / name).rglob("*")]
    for path in tracked:
        if path.is_file() and "__pycache__" not in path.parts and "results" not in path.parts:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    script = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        info = f"focalcodec-{focalcodec.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "Description-Content-Type: text/markdown" in metadata and "# FocalCodec" in metadata
    assert {f"{info}/licenses/LICENSE", "focalcodec/py.typed"} <= packed
    assert "focalcodec/models/demo/model.safetensors" in packed
    for recipe in (ROOT / "recipes").iterdir():
        wanted = {f"focalcodec/recipes/{recipe.name}/{path}" for path in recipe_files(recipe)}
        prefix = f"focalcodec/recipes/{recipe.name}/"
        assert wanted == {name for name in packed if name.startswith(prefix)}
    assert not [name for name in packed if name.startswith(("tests", "corpus", "build"))]
