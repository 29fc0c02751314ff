"""Imports go one way: no circles between modules, and none against the list of floors.

The import graph is read from the source, imports inside functions included; imports for types only
(`if TYPE_CHECKING:`) do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Container
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "focalcodec"

# From the lowest to the highest: names of modules and packages, and why they are on this floor.
# A floor imports lower floors only; names on one floor do not import each other.
FLOORS: list[tuple[tuple[str, ...], str]] = [
    (
        ("errors", "choices", "version"),
        "need nothing: the one exception; values of options; the version",
    ),
    (("processes", "progress"), "work in several processes, and how far it is"),
    (("files", "nn"), "files on disk, layers"),
    (("hub",), "models as files, and where they are: no model, no audio"),
    (("packages",), "optional packages"),
    (("audio_files",), "samples in files of any format"),
    (("audio",), "signals and audio files; masks come from nn"),
    (("audio_stream",), "audio files in blocks"),
    (("blocks",), "exchangeable blocks of compressor and decompressor"),
    (
        ("bsq", "focalnet", "vocos", "wavenext", "wavlm", "knn"),
        "one idea of a paper each",
    ),
    (("quantizers",), "quantizers beside the paper's"),
    (("encoders",), "encoders beside WavLM, and how their weights are converted"),
    (("contracts",), "what each part must have"),
    (("parts",), "knows all parts by name"),
    (("codec_base",), "steps of five parts"),
    (("official_codec",), "the official methods, from these steps"),
    (("precision", "long_audio", "fct"), "number format and device, long audio, token files"),
    (("onnx_runtime",), "a codec without torch"),
    (("audio_codec",), "audio and files of any rate in and out"),
    (("codec",), "composes the parts; checkpoints"),
    (("focalcodec",), "the public names of the package"),
    (("streaming",), "streams, a chunk at a time"),
    (("onnx",), "a codec as graphs"),
    (("executorch",), "a codec as programs"),
    (("modeling_focalcodec",), "a model of transformers"),
    (("conversion",), "recordings of a speaker, of any length"),
    (("coders",), "our codec and others behind one interface"),
    (("data",), "manifests, batches, features of clips"),
    (("tokenize", "metrics"), "tokens of a corpus; judges of clips"),
    (("lm",), "language models of a corpus's tokens, and their speech"),
    (("evaluation",), "judges on coders and sets"),
    (("probes",), "tasks on the tokens of coders"),
    (("report",), "pages from the cards of evaluation and probes"),
    (("training",), "trains codecs and probes, and evaluates them"),
    (("cli",), "the commands"),
    (("__main__",), "python -m focalcodec"),
]

# Still to be removed. An entry that is not needed any more fails the test: delete it.
KNOWN_UPWARD: set[tuple[str, str]] = set()
KNOWN_CIRCLES: set[str] = set()

MAX_FLAT_MODULES = 26


def modules() -> dict[str, Path]:
    """Modules of the package by their full names; `focalcodec.nn` is its `__init__.py`."""
    paths = sorted(ROOT.rglob("*.py"))
    names = [".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imported(tree: ast.Module, known: Container[str]) -> set[str]:
    """Modules of `known` that a module imports, except imports for types only."""
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "relative imports are not used here"
            # `from a import b`: b is a module, or a name in a
            both = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
            names |= {name if name in known else package for name, package in both}
    return {name for name in names if name in known}


def import_graph() -> dict[str, set[str]]:
    """Modules that each module imports."""
    known = modules()
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in known.items()}
    return {name: imported(tree, known) - {name} for name, tree in trees.items()}


def flat_name(module: str) -> str:
    """Module or package right below `focalcodec` that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def floor_of(module: str) -> int:
    """Place of a module in `FLOORS`."""
    name = flat_name(module)
    return next(place for place, (names, _) in enumerate(FLOORS) if name in names)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Modules that a module imports, directly or through others."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for each in graph[waiting.pop()] - found:
            found.add(each)
            waiting.append(each)
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return import_graph()


def test_every_module_has_one_floor() -> None:
    names = [name for floor, _ in FLOORS for name in floor]
    assert sorted(names) == sorted({flat_name(module) for module in modules()})


def test_no_import_circles(graph: dict[str, set[str]]) -> None:
    assert {module for module in graph if module in reachable(graph, module)} == KNOWN_CIRCLES


def test_no_import_goes_up(graph: dict[str, set[str]]) -> None:
    upward = {
        (flat_name(module), flat_name(target))
        for module, targets in graph.items()
        for target in targets
        if flat_name(module) != flat_name(target) and floor_of(target) >= floor_of(module)
    }
    assert upward == KNOWN_UPWARD


def test_late_imports_count() -> None:
    known = {"focalcodec.codec", "focalcodec.nn", "focalcodec.nn.layers"}
    late = "def f():\n    from focalcodec.codec import FocalCodec"
    assert imported(ast.parse(late), known) == {"focalcodec.codec"}
    for_types = "if TYPE_CHECKING:\n    import focalcodec.codec\nelse:\n    import focalcodec.nn"
    assert imported(ast.parse(for_types), known) == {"focalcodec.nn"}
    both = "from focalcodec.nn import layers, something"
    assert imported(ast.parse(both), known) == {"focalcodec.nn", "focalcodec.nn.layers"}


def test_few_modules_are_at_top_level() -> None:
    flat = sorted(path.name for path in ROOT.glob("*.py"))
    assert len(flat) <= MAX_FLAT_MODULES, f"{len(flat)} modules; give some a package: {flat}"
