"""The page itself: sizes, errors as sentences, use without a network, keys, screens."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

from focalcodec.audio import read_audio, write_audio
from tests.web.conftest import Server, forget, open_file, settle

CLIP = Path(__file__).parents[2] / "corpus/LibriSpeech/test-real/92/1/92-1-0000.flac"
FIRST_LOAD = 18_000_000  # bytes with gzip
WHOLE = 60_000_000  # bytes on disk
SIZES = "() => [document.scrollingElement.scrollWidth, document.scrollingElement.scrollHeight]"
PLAYING = "() => document.getElementById('play').getAttribute('aria-label') === 'Pause'"
# Elements that a person can use, but that have no name.
UNNAMED = """() => [...document.querySelectorAll('button, input:not([hidden]), select, canvas')]
  .filter((each) => !(each.ariaLabel || each.labels?.[0]?.textContent || each.textContent.trim() ||
    document.getElementById(each.getAttribute('aria-labelledby'))?.textContent || '').trim())
  .map((each) => each.outerHTML)"""


def test_sizes(dist: Path) -> None:
    files = [path for path in dist.rglob("*") if path.is_file()]
    codecs = sorted(path.name for path in (dist / "codecs").iterdir())
    others = [dist / "codecs" / name for name in codecs if name != "demo"]
    first = [path for path in files if not any(other in path.parents for other in others)]
    packed = sum(len(gzip.compress(path.read_bytes(), 6)) for path in first)
    assert packed < FIRST_LOAD
    assert sum(path.stat().st_size for path in files) < WHOLE
    print(f"\nfirst load {packed / 1e6:.1f} MB with gzip")


def test_without_a_network(
    open_page: Callable[..., Any], serve: Callable[[Path], Server], dist: Path
) -> None:
    """After the first load, with threads on a server that sends no isolation headers."""
    server = serve(dist)
    page = open_page(server)
    assert page.evaluate("() => crossOriginIsolated")
    server.close()
    page.reload()
    assert "became" in settle(page, "Play them")
    forget(page)
    page.click("#clips button >> nth=2")
    settle(page, "3.1 s of speech")
    page.click("#voices button >> nth=0")
    assert "The reader" in settle(page, "another voice")


def test_sentences_for_bad_files(page: Any, tmp_path: Path) -> None:
    whole = tmp_path / "whole.wav"
    write_audio(whole, read_audio(CLIP, 16000), 16000)
    files = {
        "text.mp3": (b"not audio", "text.mp3 is not audio that this browser can read."),
        "empty.wav": (b"", "empty.wav is empty."),
        "cut.wav": (whole.read_bytes()[:9000], "cut.wav is truncated or empty."),
        "other.fct": (b"RIFF....", "other.fct is not a token file"),
    }
    for name, (data, sentence) in files.items():
        (tmp_path / name).write_bytes(data)
        assert open_file(page, tmp_path / name).startswith(sentence)
    assert "became" in open_file(page, whole)  # it goes on
    page.click("#record")
    assert settle(page, "Recording").startswith(
        ("No microphone was found.", "The microphone is not")
    )


def test_a_damaged_codec(
    open_page: Callable[..., Any], serve: Callable[[Path], Server], copy: Path
) -> None:
    graph = copy / "codecs/demo/decoder.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    page = open_page(serve(copy))
    assert page.inner_text("#message").startswith("decoder.onnx of the codec is damaged")


def test_keys_and_screens(page: Any) -> None:
    forget(page)
    page.click("#clips button >> nth=2")
    settle(page, "3.1 s of speech became")
    assert page.evaluate(SIZES) == [1280, 800]  # one screen
    assert page.evaluate(UNNAMED) == []
    for number, label in enumerate(("Original", "FocalCodec", "Opus", "Codec 2"), 1):
        page.keyboard.press(str(number))
        assert page.inner_text("#out-label").startswith(f"Out: {label}")
        assert page.locator("#versions label:has(:checked)").inner_text().startswith(label)
    page.keyboard.press("p")
    page.wait_for_function(PLAYING)
    page.wait_for_function("() => document.getElementById('seek').value > 0.2")
    page.keyboard.press("p")
    assert not page.evaluate(PLAYING)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(SIZES)[0] == 390
    page.set_viewport_size({"width": 1280, "height": 800})
