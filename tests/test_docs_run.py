"""The documents' Python code and commands run, with a small codec as the quickstart's."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from focalcodec.cli.main import main
from focalcodec.parts import REGISTRY
from tests.unit.small_bundles import bundle

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODEC = "results/quickstart/codec"
NOT_HERE = {"--shard", "eval"}  # a share of a run; judges are slow, and eval has tests of its own
CLIP = "corpus/LibriSpeech/test-real/92/1/92-1-0000.flac"
RUNNABLE = [path for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recordings, and a tiny codec instead of the quickstart's."""
    shutil.copytree(ROOT / "tests" / "data" / "golden" / "tiny_50hz", tmp_path / CODEC)
    for split in ("train-mini/11", "test-real"):
        shutil.copytree(
            ROOT / "corpus/LibriSpeech" / split, tmp_path / "corpus/LibriSpeech" / split
        )
    for name in ("talks/monday.flac", "talks/week/friday.flac", "anna/one.flac", "my.flac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / CLIP, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("focalcodec.parts.REGISTRY", dict(REGISTRY))  # parts.md registers a part
    return tmp_path


def fenced(document: Path) -> list[tuple[str, str]]:
    text = document.read_text(encoding="utf-8")
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", RUNNABLE, ids=lambda path: path.name)
def test_a_document_runs_from_top_to_bottom(document: Path, workplace: Path) -> None:
    if "demo_onnx" in document.read_text(encoding="utf-8"):
        shutil.copytree(bundle("offline"), "demo_onnx")
    session: dict[str, object] = {}
    done = 0
    for language, block in fenced(document):
        if language == "python":
            exec(compile(block, document.name, "exec"), session)
            done += 1
            continue
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["focalcodec"] and CODEC in words and not NOT_HERE & {*words}:
                assert main(words[1:]) == 0, line
                done += 1
    assert done


def run_python(document: Path) -> dict[str, object]:
    """Variables after running the Python of a document."""
    session: dict[str, object] = {}
    for language, block in fenced(document):
        if language == "python":
            exec(compile(block, document.name, "exec"), session)
    return session


def test_readme_code_writes_its_files(workplace: Path) -> None:
    session = run_python(ROOT / "README.md")
    assert Path("my.fct").is_file() and Path("out.wav").is_file()
    assert session["rec_sig"].shape[1:] == session["sig"].shape  # type: ignore[attr-defined]


def test_python_page_code_writes_its_files(workplace: Path) -> None:
    session = run_python(ROOT / "docs" / "python.md")
    for name in ("resynthesis.wav", "talk.fct", "talk.wav", "talk.flac", "my_codec/config.json"):
        assert Path(name).is_file(), name
    sig, pair_sig = session["sig"], session["pair_sig"]
    assert pair_sig.shape == (2, len(sig))  # type: ignore[attr-defined, arg-type]
