"""The course: every cell runs, and the notebooks are those of the sources."""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
import soundfile
import torch

from focalcodec.errors import UserError

FOLDER = Path(__file__).parents[1] / "docs" / "course"
CHAPTERS = sorted(FOLDER.glob("[0-9]_*.py"))
SOUND = re.compile(r"data:audio/mpeg;base64,([A-Za-z0-9+/=]+)")
LONGEST_CELL = 45  # lines


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A reader's kernel in the folder of the course, in the short mode, without a screen."""
    monkeypatch.setenv("FOCALCODEC_COURSE", "short")
    monkeypatch.chdir(FOLDER)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["ipykernel"])
    matplotlib.use("Agg")
    with matplotlib.rc_context():
        yield
    plt.close("all")
    for name in ("course", "render"):
        sys.modules.pop(name, None)


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == kind]


def ids(path: Path) -> str:
    return path.stem


def test_there_are_eight_chapters() -> None:
    assert [path.name[0] for path in CHAPTERS] == list("12345678")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=ids)
@pytest.mark.filterwarnings("ignore::UserWarning")  # the screen that is not there
def test_every_cell_runs(chapter: Path, short: None) -> None:
    session: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(chapter, "code")):
        exec(compile(cell.source, f"{chapter.name}, code cell {number + 1}", "exec"), session)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=ids)
def test_a_chapter_has_what_a_reader_needs(chapter: Path) -> None:
    text = "\n".join(cell.source for cell in cells(chapter, "markdown"))
    code = [cell.source for cell in cells(chapter, "code")]
    for wanted in ("You need", "Time", "picture to read", "number", "## Exercises"):
        assert wanted in text, wanted
    for call in ("course.listen(", "plt.show()", "course.expect(", "assert "):
        assert any(call in cell or "show_spectrograms" in cell for cell in code), call
    exercises = text.partition("## Exercises")[2]
    assert [line[0] for line in exercises.splitlines() if line[1:3] == ". "] == list("123")
    solutions = [
        cell for cell in cells(chapter, "code") if "solution" in cell.metadata.get("tags", [])
    ]
    assert [cell.source[:19] for cell in solutions] == [f"# @title Solution {n}" for n in (1, 2, 3)]
    for cell in solutions:  # folded in Jupyter and in Colab, and without an output that tells
        assert cell.metadata["jupyter"]["source_hidden"] and cell.metadata["cellView"] == "form"
        assert "assert " in cell.source and "print(" not in cell.source
    too_long = [cell[:60] for cell in code if len(cell.splitlines()) > LONGEST_CELL]
    assert not too_long


def test_the_install_cell_is_the_same_everywhere() -> None:
    """Colab is not tried in tests; its cell clones, installs, and enters the folder."""
    texts = {cells(chapter, "code")[0].source for chapter in CHAPTERS}
    (text,) = texts
    for step in ('"google.colab" in sys.modules', '"clone"', '"pip", "install"', "docs/course"):
        assert step in text


def test_the_install_cell_asks_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    with pytest.raises(SystemExit, match="write the address of the repository"):
        exec(cells(CHAPTERS[0], "code")[0].source, {})


@pytest.mark.parametrize("chapter", CHAPTERS, ids=ids)
def test_the_notebook_is_made_from_the_source(chapter: Path) -> None:
    path = chapter.with_suffix(".ipynb")
    assert path.stat().st_size <= 500_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    source = jupytext.read(chapter)
    message = f"run: python docs/course/render.py {chapter.name}"
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in source.cells], (
        message
    )
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    sounds = SOUND.findall(str(outputs))
    assert sounds and any("image/png" in output.get("data", {}) for output in outputs)
    for sound in sounds:
        assert soundfile.info(io.BytesIO(base64.b64decode(sound))).duration <= 5.0
    assert not re.search(r"/tmp/|/home/|/root/|Traceback|Warning", str(outputs)), "of one machine"


def test_all_sounds_have_one_level(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """People take the louder of two sounds for the better one."""
    import course

    shown: list[str] = []
    monkeypatch.setattr(course, "display", lambda html: shown.append(html.data))
    for gain in (0.01, 0.5):
        course.listen("noise", gain * torch.randn(16000))
    sounds = [base64.b64decode(SOUND.findall(text)[0]) for text in shown]
    levels = [float(soundfile.read(io.BytesIO(sound))[0].std()) for sound in sounds]
    assert levels == pytest.approx([course.LEVEL, course.LEVEL], rel=0.1)


def test_render_writes_a_notebook_that_ran(tmp_path: Path, short: None) -> None:
    import render

    render.main(["1_why_compress.py", "--output", str(tmp_path)])
    notebook = nbformat.read(tmp_path / "1_why_compress.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code) and SOUND.search(str(notebook))


def test_text_changes_without_running(tmp_path: Path, short: None) -> None:
    import render

    render.HERE = tmp_path
    chapter = tmp_path / "1_new.py"
    text = (FOLDER / "1_why_compress.py").read_text()
    shutil.copy(FOLDER / "1_why_compress.ipynb", tmp_path / "1_new.ipynb")
    old = nbformat.read(tmp_path / "1_new.ipynb", as_version=4)
    chapter.write_text(text.replace("How many bits is that?", "How many bits are that?"))
    new = nbformat.read(render.keep_outputs(chapter, tmp_path), as_version=4)
    assert "How many bits are that?" in str(new) and SOUND.search(str(new))
    assert [x.get("outputs") for x in new.cells] == [x.get("outputs") for x in old.cells]
    assert new.metadata == old.metadata, "the site colours code by its language"
    chapter.write_text(text.replace("BITS = 13", "BITS = 12"))
    with pytest.raises(UserError, match="1_new.py: its code has changed"):
        render.keep_outputs(chapter, tmp_path)


def test_render_refuses_sounds_that_mean_nothing(tmp_path: Path, short: None) -> None:
    import render

    with pytest.raises(UserError, match="--output"):
        render.main(["1_why_compress.py"])
    with pytest.raises(UserError, match="9_no.py"):
        render.main(["9_no.py", "--output", str(tmp_path)])


def test_a_cell_that_fails_leaves_the_notebook(tmp_path: Path, short: None) -> None:
    import render

    (tmp_path / "1_broken.ipynb").write_text("as before")
    (tmp_path / "1_broken.py").write_text("# %%\nassert 1 + 1 == 3\n")
    with pytest.raises(UserError, match="1_broken.py: a cell failed"):
        render.render(tmp_path / "1_broken.py", tmp_path)
    assert (tmp_path / "1_broken.ipynb").read_text() == "as before"
