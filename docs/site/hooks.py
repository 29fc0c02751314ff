"""Pages of the site come from the whole repository: links work here and on a code host alike.

Each file has its path in the repository as its name (`recipes/Demo/README.md`), so MkDocs resolves
and checks relative links by itself. A link to code or to a folder gets a page that shows it.
"""

from __future__ import annotations

import posixpath
import re
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "*/README.md", "corpus/*.md", "recipes/*/README.md", "docs/**/*.md")
CARDS = "focalcodec/models/*/README.md"
PAGES += (CARDS,)
FILES = ("docs/*.svg", "docs/site/*.css", "docs/demo/**/*.*", "docs/course/*.ipynb")
FILES += ("web/dist/**/*.*",)  # the page that runs the codec in a browser, where it is built
BROWSER = "web/dist/index.html"
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s:]+)(?=[)#])")
LANGUAGES = {".py": "python", ".c": "c", ".yaml": "yaml", ".cff": "yaml"}
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
NAME = re.compile(r"<code>(focalcodec\.[\w.]+)</code>(?!</a>)")
MATHS = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def found(patterns: tuple[str, ...]) -> list[str]:
    """Files of the repository, as paths from its root."""
    paths = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def address(name: str) -> str:
    """Where a file of the repository is in the site."""
    name = name.removeprefix("docs/").replace("web/dist/", "web/")
    if not name.endswith(".md"):
        return name
    stem = name.removesuffix(".md").removesuffix(".ipynb")
    folder, _, last = stem.rpartition("/")
    if last in ("README", "index") and (folder or last == "index"):
        return posixpath.join(folder, "index.html")
    return f"{stem.lower() if not folder else stem}/index.html"


def from_page(name: str, target: str) -> str:
    """Path in the repository of a link's target."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def notebook_text(path: Path) -> str:
    """A notebook with its outputs as Markdown, its sounds and pictures embedded."""
    notebook = nbformat.read(path, as_version=4)
    # The cell that installs the package in Colab is for those who run the notebook.
    notebook.cells = [
        cell for cell in notebook.cells if "install" not in cell.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        if "solution" in cell.metadata.get("tags", []):  # folded, as in Jupyter
            title, *code = cell.source.removeprefix("# @title ").splitlines()
            lines = [f'??? question "{title}"', "", "```python", *code, "```"]
            cell.update(cell_type="markdown", source="\n    ".join(lines))
        for output in cell.get("outputs", []):
            if html := output.get("data", {}).get("text/html"):
                lines = map(str.strip, html.splitlines())  # indented ones would be code
                output["data"]["text/html"] = "\n".join(filter(None, lines))
    exporter = MarkdownExporter(config=Config({"ExtractOutputPreprocessor": {"enabled": False}}))
    text, _ = exporter.from_notebook_node(notebook)
    return f"{text}\n\n[Download this notebook]({path.name})\n"


def view_text(path: Path) -> str:
    """Code as a page, or a list of the files of a folder."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        inside = sorted(each for each in path.rglob("*.*") if each.is_file())
        names = [each.relative_to(path.parent).as_posix() for each in inside]
        return f"{UNSEARCHED}# {name}\n\n" + "".join(f"* [{each}]({each})\n" for each in names)
    code = path.read_text(encoding="utf-8")
    return f"{UNSEARCHED}# {name}\n\n`````{LANGUAGES.get(path.suffix, 'text')}\n{code}\n`````\n"


def on_config(config: Any) -> Any:
    """The cards of the models and the chapters of the course enter the navigation."""
    (listen,) = [section["Listen"] for section in config.nav if "Listen" in section]
    listen += [{f"The card of {name.split('/')[2]}": name} for name in found((CARDS,))]
    (course,) = [section["Course"] for section in config.nav if "Course" in section]
    chapters = [f"{name}.md" for name in found(("docs/course/*.ipynb",))]
    course[:0] = [*found(("docs/course/README.md",)), *chapters]
    return config


def on_files(files: Files, config: Any) -> Files:
    """The theme's files, and those of the repository."""
    kept = [file for file in files if file.src_dir != config.docs_dir]
    pages, assets = found(PAGES), found(FILES)
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in pages}
    made = {f"{name}.md": notebook_text(ROOT / name) for name in found(("docs/course/*.ipynb",))}
    for name, text in {**texts, **made}.items():
        for target in (from_page(name, match["target"]) for match in LINK.finditer(text)):
            if target not in {*pages, *assets} and (ROOT / target).exists():
                made.setdefault(f"{target}.md", view_text(ROOT / target))
    where = {"dest_dir": config.site_dir, "use_directory_urls": True}
    for name in [*pages, *assets]:
        kept.append(File(name, str(ROOT), **where, dest_uri=address(name)))
    for name, text in made.items():
        kept.append(File.generated(config, name, content=text))
        kept[-1].dest_uri = address(name)
    return Files(kept)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to code, folders and notebooks lead to the pages that show them.

    Where the text of a link is the name of a file, it becomes the title of the page.
    """
    if files.get_file_from_path(BROWSER):
        markdown = markdown.replace(
            "<!-- link to the page -->", f"[**Open the page**](../{BROWSER})"
        )
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # the whole width
    if page.file.src_uri.endswith(".ipynb.md"):
        page.meta["hide"] = ["toc"]  # width for the code, whose lines have up to 100 characters

    def shown(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        name = from_page(page.file.src_uri, target)
        if view := files.get_file_from_path(f"{name}.md"):
            target = f"{target.rstrip('/')}.md"
        linked = view or files.get_file_from_path(name)
        if linked and linked.page and target.endswith(text) and linked.page.title:
            text = linked.page.title
        return f"[{text}]({target}"

    return LINK.sub(shown, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Equations as MathML, which browsers draw without a script or a font; names as links."""

    def drawn(match: re.Match[str]) -> str:
        return convert(unescape(match[2]), display="block" if match[1] == "div" else "inline")

    return NAME.sub(r'<autoref identifier="\1" optional>\g<0></autoref>', MATHS.sub(drawn, html))
