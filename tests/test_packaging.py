"""The package for pip: its requirements, its version, sdist and wheel."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import twine.commands.check

import focalcodec
from focalcodec.cli.recipe import recipe_files
from focalcodec.hub import TTS_FOLDER, shipped

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "corpus/LibriSpeech/test-real/92/1/92-1-0000.flac"
# Names on the package index, where they differ from the module's.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "espeakng_loader": "espeakng-loader",
    "faiss": "faiss-cpu",
    "faster_whisper": "faster-whisper",
    "kokoro_onnx": "kokoro-onnx",
    "ruamel": "ruamel.yaml",
    "vector_quantize_pytorch": "vector-quantize-pytorch",
    "xls_r_sqa": "xls-r-sqa",
}
# Extras whose packages a folder may import at the top of a module; all others are imported late.
EXTRAS = {
    "focalcodec/modeling_focalcodec.py": ["recipes"],  # transformers imports it
    "focalcodec/onnx/weights.py": ["onnx"],
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
    root = ROOT / folder
    for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
        if folder == "focalcodec" and any(other in (path, *path.parents) for other in others):
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
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {focalcodec.__version__}" in changes


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist of a copy of the sources, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    files = ["setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "constraints.txt"]
    sources = [ROOT / name for name in files]
    sources += [path for name in ("focalcodec", "recipes") for path in (ROOT / name).rglob("*")]
    for path in sources:
        if path.is_file() and not {"__pycache__", "results"} & {*path.parts}:
            target = folder / "source" / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    build("sdist", folder / "source", folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)
    return folder


def build(kind: str, source: Path, target: Path) -> None:
    script = f"from setuptools.build_meta import build_{kind}; build_{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=source, check=True, capture_output=True)


def test_wheel(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        info = f"focalcodec-{focalcodec.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        weights = [entry for entry in archive.infolist() if entry.filename.endswith(".safetensors")]
    assert "Description-Content-Type: text/markdown" in metadata and "# FocalCodec" in metadata
    assert {f"{info}/licenses/LICENSE", "focalcodec/py.typed"} <= packed
    assert {f"focalcodec/models/{name}/model.safetensors" for name in shipped()} <= packed
    assert sum(entry.file_size for entry in weights) <= (52e6 if TTS_FOLDER.is_dir() else 37e6)
    assert {"focalcodec/models/speech.flac", "focalcodec/models/speech.md"} <= packed
    for recipe in (ROOT / "recipes").iterdir():
        wanted = {f"focalcodec/recipes/{recipe.name}/{path}" for path in recipe_files(recipe)}
        prefix = f"focalcodec/recipes/{recipe.name}/"
        assert wanted == {name for name in packed if name.startswith(prefix)}
    assert not [name for name in packed if name.startswith(("tests", "corpus", "build"))]


def test_twine_accepts_sdist_and_wheel(distributions: Path) -> None:
    files = [*distributions.glob("*.tar.gz"), *distributions.glob("*.whl")]
    assert len(files) == 2
    assert twine.commands.check.check([str(file) for file in files], strict=True) is False


def test_wheel_works_in_an_empty_environment(distributions: Path, tmp_path: Path) -> None:
    """No checkout: an environment with the packages that setup.py requires, and the wheel."""
    (wheel,) = distributions.glob("*.whl")
    environment = tmp_path / "environment"
    venv.create(environment)
    paths = sysconfig.get_paths(vars={"base": str(environment), "platbase": str(environment)})
    python = Path(paths["scripts"], Path(sys.executable).name)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    # a path file in the folder that this adds is not read, so not that of an editable install
    Path(paths["purelib"], "installed.pth").write_text(sysconfig.get_path("purelib"))

    def run(*words: str) -> str:
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(words, cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run(str(python), "-c", "import focalcodec; print(focalcodec.__file__)")
    assert environment in Path(where.strip()).parents
    shutil.copyfile(CLIP, tmp_path / "my.flac")
    command = Path(paths["scripts"], "focalcodec")
    run(str(command), "resynth", "my.flac", "out.wav", "--model", "demo")
    assert soundfile.info(tmp_path / "out.wav").frames == soundfile.info(CLIP).frames
    run(str(command), "recipe", "copy", "LibriSpeech", "mine")
    assert (tmp_path / "mine" / "train.py").is_file()
