"""Run chapters of the course and write the notebooks: `python render.py [CHAPTER.py ...]`.

Without names it runs all. A notebook is written only if every cell of its chapter ran. With
`--output FOLDER` they are written there. The short mode (`FOCALCODEC_COURSE=short`) needs it,
because its sounds mean nothing. With `--text` nothing runs: outputs stay, and only text changes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from focalcodec.errors import UserError
from focalcodec.files import atomic_path

HERE = Path(__file__).resolve().parent
CHAPTERS = sorted(HERE.glob("[0-9]_*.py"))
LARGEST = 500_000  # bytes of a notebook
CELL_SECONDS = 1800


def notebook_of(chapter: Path) -> nbformat.NotebookNode:
    """Return the cells of a chapter, without outputs."""
    notebook = jupytext.read(chapter)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # jupytext's are random: the file would always differ
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": python})
    return notebook


def render(chapter: Path, output: Path) -> Path:
    """Run a chapter in a new kernel, in this folder, and write its notebook into `output`."""
    notebook = notebook_of(chapter)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        coalesce_streams=True,
        resources={"metadata": {"path": HERE}},
        extra_arguments=["--log-level=40"],  # errors of the kernel only
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise UserError(
            f"{chapter.name}: a cell failed; its notebook is as before\n{error}"
        ) from error
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
    return write(notebook, chapter, output)


def keep_outputs(chapter: Path, output: Path) -> Path:
    """Write the text of a chapter into its notebook; code and outputs must be as before."""
    notebook = notebook_of(chapter)
    old = nbformat.read(HERE / f"{chapter.stem}.ipynb", as_version=4)
    notebook.metadata = old.metadata
    code, old_code = ([x for x in n.cells if x.cell_type == "code"] for n in (notebook, old))
    if [cell.source for cell in code] != [cell.source for cell in old_code]:
        raise UserError(f"{chapter.name}: its code has changed; run it, without --text")
    for cell, before in zip(code, old_code, strict=True):
        cell.update(outputs=before.outputs, execution_count=before.execution_count)
    return write(notebook, chapter, output)


def write(notebook: nbformat.NotebookNode, chapter: Path, output: Path) -> Path:
    """Write the notebook of a chapter into `output`."""
    text = nbformat.writes(notebook)
    if len(text.encode()) > LARGEST:
        raise UserError(
            f"{chapter.name}: {len(text.encode())} bytes; take fewer sounds or pictures"
        )
    path = output / f"{chapter.stem}.ipynb"
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def main(argv: list[str]) -> None:
    """Render the named chapters, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("chapters", nargs="*", type=Path, help="default: all")
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder; default: beside the chapters"
    )
    parser.add_argument("--text", action="store_true", help="only text has changed: run nothing")
    options = parser.parse_args(argv)
    if os.environ.get("FOCALCODEC_COURSE") == "short" and options.output.resolve() == HERE:
        raise UserError("FOCALCODEC_COURSE=short: give --output; sounds of this mode mean nothing")
    chapters = [HERE / path.name for path in options.chapters] or CHAPTERS
    for chapter in chapters:
        if chapter not in CHAPTERS:
            names = ", ".join(path.name for path in CHAPTERS)
            raise UserError(f"{chapter.name}: no chapter of the course; they are {names}")
        start = time.monotonic()
        path = (keep_outputs if options.text else render)(chapter, options.output)
        size = path.stat().st_size / 1000
        print(f"{path}: {size:.0f} kB, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
