"""The site: it builds with valid links, has each public name, and needs no other host."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

if sys.version_info < (3, 11):
    pytest.skip("platform: the site's packages need Python 3.11", allow_module_level=True)
pytest.importorskip("mkdocs", reason="mkdocs-material is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS += sorted((ROOT / "recipes").glob("*/README.md"))
BINARY = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# Addresses in the theme's scripts, and the mark of a page that would open them: diagrams of
# mermaid, figures of a repository on GitHub, and what browsers before 2020 lack.
UNUSED = {
    "https://unpkg.com/mermaid@11/dist/mermaid.min.js": 'class="mermaid"',
    "https://api.github.com/repos/": 'data-md-component="source"',
    "https://api.github.com/users/": 'data-md-component="source"',
    "https://unpkg.com/resize-observer-polyfill": "no page",
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site; built once, also for several processes of pytest."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / "site", shared / "site.done"
    with FileLock(shared / "site.lock"):
        if not done.exists():
            words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
            quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
            built = subprocess.run(words, cwd=ROOT, env=quiet, capture_output=True, text=True)
            assert built.returncode == 0, built.stderr
            done.touch()
    return folder


# -- nothing from other hosts ----------------------------------------------------------------------


class Requests(HTMLParser):
    """Addresses that a browser opens by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        for name in ("src", "srcset", "poster", "data", "action"):
            self.found += [values.get(name, "")]
        if tag != "a":
            self.found += [values.get("href", "")]
        self.found += re.findall(r"url\(([^)]*)\)", values.get("style", ""))


def test_pages_and_styles_request_no_other_host(site: Path) -> None:
    elsewhere = re.compile(r"\s*['\"]?(https?:)?//")
    for path in site.rglob("*.html"):
        page = Requests()
        page.feed(path.read_text(encoding="utf-8"))
        assert page.found
        assert not [each for each in page.found if elsewhere.match(each)], path
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"(?:url\(|@import)([^);]*)", text)
        assert not [each for each in found if elsewhere.match(each)], path


def test_scripts_request_no_other_host(site: Path) -> None:
    pages = [path.read_text(encoding="utf-8") for path in site.rglob("*.html")]
    for path in site.rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        for found in set(re.findall(r"[\"'`](https?://[^\"'`$]+)", text)):
            assert found in UNUSED or "www.w3.org" in found, f"{path.name}: {found}"
            assert not any(UNUSED.get(found, "no page") in page for page in pages), found


# -- in a browser ----------------------------------------------------------------------------------


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(BINARY is None, reason="no chromium on PATH")
def test_in_a_browser(address: str) -> None:
    """Search works, phones scroll down only, dark is dark, and nothing comes from outside."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BINARY, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        page.set_default_timeout(60_000)  # milliseconds: for a machine that does much else
        asked: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        for name in ("", "training/", "api/codec/", "demo/", "teaching/"):
            page.goto(f"{address}/{name}")
            wide, inner = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
            assert wide <= inner, f"{name or 'home'}: {wide} px wide on a screen of {inner}"
        colour = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        assert max(page.evaluate(colour)) < 60
        page.emulate_media(color_scheme="light")
        page.wait_for_function(f"Math.min(...{colour}) > 200")
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(address)
        page.locator(".md-search__input").fill("BSQ")
        page.wait_for_selector(".md-search-result__link")
        page.locator(".md-search-result__link").first.click()
        page.wait_for_url(f"{address}/*/**")
        browser.close()
    assert not [url for url in asked if not url.startswith((f"{address}/", "data:", "blob:"))]
    assert not problems


def test_the_page_that_runs_the_codec(site: Path) -> None:
    """It is in the site, and linked, where `make web` built it."""
    built = (ROOT / "web/dist/index.html").is_file()
    text = (site / "browser/index.html").read_text(encoding="utf-8")
    assert ('href="../web/"' in text) == built
    assert (site / "web/codecs/demo/onnx.json").is_file() == built


# -- the API's pages -------------------------------------------------------------------------------


def documented(site: Path) -> set[str]:
    """Names in the inventory of the API's pages (Sphinx' format)."""
    data = (site / "objects.inv").read_bytes()
    lines = zlib.decompress(data.split(b"\n", 4)[4]).decode().splitlines()
    return {line.split(" ")[0] for line in lines}


def mentioned() -> set[str]:
    """Dotted names that the documents import, or write in `code`, and methods that they call."""
    names: set[str] = set()
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for module, imported in re.findall(
            r"^ *from (focalcodec[\w.]*) import (\([^)]*\)|.*)$", text, re.MULTILINE
        ):
            names |= {f"{module}.{name}" for name in re.findall(r"\w+", imported.split("#")[0])}
        names |= {*re.findall(r"`(focalcodec\.[\w.]+)", text)}
        names |= {f"focalcodec.FocalCodec.{name}" for name in re.findall(r"\bcodec\.(\w+)\(", text)}
    return names


def canonical(name: str) -> str:
    """Where the object of a dotted name is defined; "" if it is a module or a value."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        owner = None
        for part in parts[cut:]:
            owner, found = found, getattr(found, part)
        if not hasattr(found, "__qualname__"):
            return ""
        if isinstance(owner, type):  # a method, which may be of a base: ours, or PyTorch's
            ours = found.__module__.startswith("focalcodec")
            return f"{owner.__module__}.{owner.__qualname__}.{parts[-1]}" if ours else ""
        return f"{found.__module__}.{found.__qualname__}"
    raise AssertionError(f"{name} does not exist")


def test_the_names_of_the_documents_are_in_the_api(site: Path) -> None:
    names = documented(site)
    missing = {name for name in mentioned() if (found := canonical(name)) and found not in names}
    assert not missing


def test_docstrings_become_sections(site: Path) -> None:
    text = (site / "api" / "models" / "index.html").read_text(encoding="utf-8")
    assert "Examples:" in text and "Parameters:" in text
    assert "-------" not in text, "a heading of a docstring was not understood"


# -- the course ------------------------------------------------------------------------------------


def test_a_notebook_keeps_its_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    hooks = importlib.import_module("hooks")
    sound = "<p>a tone\n    <audio controls src='data:audio/wav;base64,AAAA'></audio>\n</p>\n"
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "5 tokens\n"},
        {"output_type": "display_data", "metadata": {}, "data": {"text/html": [sound]}},
        {"output_type": "display_data", "metadata": {}, "data": {"image/png": "iVBORw0K"}},
    ]
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "n = 5"}
    title = {"cell_type": "markdown", "metadata": {}, "source": "# Title\n\n$x^2$"}
    answer = {"source": "# @title Solution 1\nassert n == 5", "metadata": {"tags": ["solution"]}}
    cells = [title, {**cell, "outputs": outputs}, {**cell, **answer, "outputs": []}]
    notebook = {"cells": cells, "metadata": {}}
    path = tmp_path / "1_title.ipynb"
    path.write_text(json.dumps({**notebook, "nbformat": 4, "nbformat_minor": 4}), encoding="utf-8")
    text = hooks.notebook_text(path)
    for part in ("# Title", "n = 5", "5 tokens", "data:image/png;base64,iVBORw0K", "$x^2$"):
        assert part in text, part
    assert '??? question "Solution 1"\n    \n    ```python\n    assert n == 5\n    ```' in text
    assert "\n<audio controls src='data:audio/wav;base64,AAAA'></audio>\n" in text
    maths = hooks.on_page_content(r'<span class="arithmatex">\(x &lt; y\)</span>', None, None, None)
    assert maths.startswith("<math") and "<mi>y</mi>" in maths and "arithmatex" not in maths
