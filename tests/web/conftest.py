"""The built page on a local server, in a headless Chromium.

`make web` builds it; `make test` does so too where npm is installed.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

DIST = Path(__file__).parents[2] / "web" / "dist"
BINARIES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
# The page shows a sentence that contains some words, or that of an error.
SETTLED = """(words) => {
  const message = document.getElementById('message');
  return message.classList.contains('error') || message.textContent.includes(words);
}"""
WAIT = 120_000  # ms: a machine may be busy


class Quiet(SimpleHTTPRequestHandler):
    """Sends files, without the isolation headers, as GitHub Pages does."""

    def log_message(self, *arguments: object) -> None:
        """Write nothing."""


class Server:
    """A server of a folder."""

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        """End it; its address refuses connections."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="package")
def dist() -> Path:
    """The folder of the built page."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: the page for browsers is not built")
    if not (DIST / "sw.js").is_file():
        pytest.skip("web/dist is not there: run make web")
    return DIST


@pytest.fixture
def copy(dist: Path, tmp_path: Path) -> Path:
    """A copy of the page's folder, for tests that change it."""
    return shutil.copytree(dist, tmp_path / "dist")


@pytest.fixture(scope="package")
def serve() -> Iterator[Callable[[Path], Server]]:
    """Start a server of a folder."""
    servers: list[Server] = []

    def started(folder: Path) -> Server:
        servers.append(Server(folder))
        return servers[-1]

    yield started
    for server in servers:
        server.close()


@pytest.fixture(scope="package")
def launch() -> Iterator[Callable[..., Any]]:
    """Start a browser with more arguments."""
    binary = next((found for name in BINARIES if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"none of {', '.join(BINARIES)} on PATH")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        yield lambda *more: playwright.chromium.launch(
            executable_path=binary, args=[*ARGUMENTS, *more]
        )


class Visit:
    """A page in its own browser, and what it must not do."""

    def __init__(self, browser: Any, server: Server, expected: str = "", **options: Any) -> None:
        self.browser, self.address, self.expected = browser, server.address, expected
        self.messages: list[str] = []
        self.requests: list[str] = []
        context = browser.new_context(**options)
        context.set_default_timeout(WAIT)
        context.on("request", lambda request: self.requests.append(request.url))
        self.page = context.new_page()
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))

    def end(self) -> None:
        """Check that there was no message but the expected, and no request of another host."""
        self.browser.close()
        assert not [
            text for text in self.messages if not self.expected or self.expected not in text
        ]
        ours = (self.address, "data:", f"blob:{self.address}")
        assert self.requests and all(url.startswith(ours) for url in self.requests)


@pytest.fixture(scope="package")
def page(dist: Path, serve: Callable[[Path], Server], launch: Callable[..., Any]) -> Iterator[Any]:
    """The page with its codec and first clip, for all tests that do not change its files."""
    visit = Visit(launch(), serve(dist), viewport={"width": 1280, "height": 800})
    visit.page.goto(visit.address)
    settle(visit.page, "Play them")
    yield visit.page
    visit.end()


@pytest.fixture
def open_page(launch: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Open the page of a server in a new browser."""
    visits: list[Visit] = []

    def opened(server: Server, *arguments: str, expected: str = "", **options: Any) -> Any:
        visits.append(Visit(launch(*arguments), server, expected, **options))
        visits[-1].page.goto(server.address)
        settle(visits[-1].page, "Play them")
        return visits[-1].page

    yield opened
    for visit in visits:
        visit.end()


def microphone(spoken: Path) -> tuple[str, ...]:
    """Arguments of the browser for a microphone that plays a file again and again."""
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={spoken}",
    )


def settle(page: Any, words: str) -> str:
    """Wait for a sentence of the page that contains these words, or for an error; return it."""
    page.wait_for_function(SETTLED, arg=words)
    return page.inner_text("#message")


def forget(page: Any) -> None:
    """Remove the sentence, so that `settle` waits for the next one."""
    page.evaluate("""() => {
      const message = document.getElementById('message');
      message.className = message.textContent = '';
    }""")


def open_file(page: Any, path: Path, words: str = "Play them", chooser: str = "#file") -> str:
    """Choose a file, and return the sentence that follows."""
    forget(page)
    page.set_input_files(chooser, path)
    return settle(page, words)


def saved(page: Any, button: str) -> bytes:
    """The file that a button saves."""
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes()
