"""The report's page in a browser: it plays, sorts, filters, and uses no network.

Needs `pip install -e ".[dev]"` and an installed Chromium; playwright downloads none here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from focalcodec.report import write_report
from tests.unit.report.made_up_run import (
    NASTY_SPEAKER,
    OURS,
    SECONDS,
    THEIRS,
    add_clips_without_output,
    write_run,
)

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BINARIES = ("chromium", "chromium-browser", "google-chrome")
BINARY = next((found for name in BINARIES if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BINARY is None, reason=f"none of {', '.join(BINARIES)} on PATH")

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
FIRST, SECOND = "#set0 .version >> nth=0", "#set0 .version >> nth=1"
PLAYING = "() => [...document.querySelectorAll('audio')].filter((each) => !each.paused).length"
TIME = "(each) => each.querySelector('audio').currentTime"
# Contrast of an element's text and the page's background, as defined by WCAG 2.
CONTRAST = """(element) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [getComputedStyle(element).color, getComputedStyle(document.body).backgroundColor]
    .map(light).sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""
# Width of the ring around the focused element, px.
OUTLINE = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
}"""
# Opens the parts of each set, but not the clips.
UNFOLD = """() => document.querySelectorAll('.whole, .part').forEach((each) => each.open = true)"""
SCREENS = "() => document.scrollingElement.scrollHeight / innerHeight"
WIDTHS = "() => [document.scrollingElement.scrollWidth, innerWidth]"

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("browser") / "run")
    add_clips_without_output(run / "made", 60)
    return write_report(run, max_clips=2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BINARY,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, report: Path) -> Iterator[OpenPage]:
    """Open the report; check at the end for console messages and for requests of other files."""
    contexts, messages, requests = [], [], []

    def opened(fragment: str = "", unfold: bool = True, **options: Any) -> Any:
        context = browser.new_context(**options)
        context.set_default_timeout(5000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri() + fragment)
        if unfold:
            page.evaluate(UNFOLD)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not messages
    requested = {url.partition("#")[0] for url in requests if not url.startswith("data:")}
    assert requested == {report.as_uri()}


def column(page: Any, number: int, set_number: int = 1) -> list[str]:
    """Return the texts of a column of the table of all clips."""
    cells = page.locator(f"#set{set_number}-table tbody tr > :nth-child({number})")
    return [text.split("\n")[0].strip() for text in cells.all_inner_texts()]


def test_only_one_plays(open_page: OpenPage) -> None:
    page = open_page()
    first, second = page.locator(FIRST), page.locator(SECOND)
    assert page.evaluate(PLAYING) == 0
    first.locator(".play").click()
    page.wait_for_function(f"(each) => ({TIME})(each) > 0.1", arg=first.element_handle())
    assert first.locator(".play").get_attribute("aria-label").startswith("Pause Reference")
    second.locator(".play").click()
    page.wait_for_function(f"(each) => ({TIME})(each) > 0.1", arg=second.element_handle())
    assert page.evaluate(PLAYING) == 1
    assert first.locator(".play").get_attribute("aria-label").startswith("Play Reference")
    assert "playing" in second.get_attribute("class")
    page.keyboard.press("Escape")
    assert page.evaluate(PLAYING) == 0
    page.wait_for_function("(each) => !each.matches('.playing')", arg=second.element_handle())


def test_audio_ends(open_page: OpenPage) -> None:
    page = open_page()
    first = page.locator(FIRST)
    first.locator(".play").click()
    page.wait_for_function(
        "(each) => each.querySelector('audio').ended", arg=first.element_handle()
    )
    length = first.locator("audio").evaluate("(each) => each.duration")
    assert SECONDS <= length <= SECONDS + 0.4
    assert first.locator(".play").get_attribute("aria-label").startswith("Play")
    assert f"{length:.1f} / {length:.1f} s" in first.locator(".time").inner_text()


def test_spectrogram_is_the_slider(open_page: OpenPage) -> None:
    page = open_page()
    strip = page.locator(f"{FIRST} >> .strip")
    width = strip.bounding_box()["width"]
    strip.click(position={"x": width / 2, "y": 20})
    seek = page.locator(f"{FIRST} >> .seek")
    length = float(seek.get_attribute("max"))
    page.wait_for_function(
        f"(each) => ({TIME})(each) > {0.4 * length}", arg=page.locator(FIRST).element_handle()
    )
    assert 0.4 * length < float(seek.input_value()) < 0.6 * length
    before = float(seek.input_value())
    seek.focus()
    page.keyboard.press("ArrowRight")
    assert float(seek.input_value()) > before
    assert "of" in seek.get_attribute("aria-valuetext")


def test_number_keys_choose_the_version(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#set0 .clip summary >> nth=0").focus()
    page.keyboard.press("2")
    page.wait_for_function(
        f"(each) => ({TIME})(each) > 0.2", arg=page.locator(SECOND).element_handle()
    )
    page.keyboard.press("3")
    page.wait_for_selector(f"#set0 .version.playing[data-name='{THEIRS}']")
    focused = page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    assert focused.startswith(f"Pause {THEIRS}")
    assert page.locator("#set0 .version >> nth=2").evaluate(TIME) >= 0.2, "from the same position"
    page.keyboard.press("p")
    assert page.evaluate(PLAYING) == 0


def test_sorting(open_page: OpenPage) -> None:
    page = open_page()
    heads = page.locator("#set1-table thead th")
    assert {head.get_attribute("aria-sort") for head in heads.all()} == {"none"}
    before = column(page, 1)
    seconds = heads.filter(has_text="Seconds")
    seconds.locator("button").click()
    assert seconds.get_attribute("aria-sort") == "ascending"
    rising = [float(text) for text in column(page, 5)]
    assert rising == sorted(rising)
    seconds.locator("button").click()
    assert seconds.get_attribute("aria-sort") == "descending"
    falling = [float(text) for text in column(page, 5)]
    assert falling == sorted(falling, reverse=True) and falling[0] == 61.0
    # Numbers are sorted as numbers; clips without a score come last in both directions.
    ours = heads.filter(has_text=OURS)
    for way, expected in (("ascending", ["2.0", "4.0", "6.0", "8.0", "–"]), ("descending", None)):
        ours.locator("button").click()
        assert ours.get_attribute("aria-sort") == way
        assert column(page, 6)[:5] == (expected or ["8.0", "6.0", "4.0", "2.0", "–"])
    assert seconds.get_attribute("aria-sort") == "none"
    assert column(page, 1) != before
    heads.first.locator("button").click()
    names = column(page, 1)
    assert names.index("more-9") + 1 == names.index("more-10"), "numbers in names count"


def test_another_figure(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#set1 select[name=figure]").select_option(label="Nose-MOS")
    assert column(page, 6)[:4] == ["3.90", "4.20", "4.10", "4.00"]
    assert "Nose-MOS" in page.locator("#set1-table caption").inner_text()
    assert column(page, 6, 0)[:4] == ["8.0", "2.0", "4.0", "6.0"], "another set stays as it is"


def test_filters_and_long_tables(open_page: OpenPage) -> None:
    page = open_page()
    status = page.locator("#set1 .count")
    assert status.inner_text() == "64 of 64 clips, the first 50 shown"
    assert len(column(page, 1)) == 50
    page.locator("#set1-more").click()
    assert len(column(page, 1)) == 64 and page.locator("#set1-more").is_hidden()
    page.locator("#set1 input[name=find]").fill("GREEN seven")
    assert column(page, 1) == ["made-1"] and status.inner_text() == "1 of 64 clips"
    page.locator("#set1 input[name=find]").fill("nothing has this")
    assert column(page, 1) == [] and status.inner_text() == "0 of 64 clips"
    page.locator("#set1 input[name=find]").fill("")
    page.locator("#set1 select[name=speaker]").select_option(NASTY_SPEAKER)
    assert column(page, 1) == ["made-0"]
    page.locator("#set1 select[name=speaker]").select_option("")
    page.locator("#set1 select[name=language]").select_option("fr")
    assert column(page, 1) == ["made-3"]
    assert len(column(page, 1, 0)) == 4


def test_link_from_the_table_opens_the_clip(open_page: OpenPage) -> None:
    page = open_page(unfold=False)
    page.locator("#set0-clips").click()
    clip = page.locator("#set0 .clip >> nth=1")
    assert clip.get_attribute("open") is None
    page.locator(f"#set0-table a[href='#{clip.get_attribute('id')}']").click()
    page.wait_for_function("(each) => each.open", arg=clip.element_handle())
    assert clip.locator(".play >> nth=0").is_visible()
    again = open_page(f"#{clip.get_attribute('id')}", unfold=False)
    assert again.locator(f"#{clip.get_attribute('id')} .play >> nth=0").is_visible()


def test_first_screen_answers_and_plays(open_page: OpenPage) -> None:
    page = open_page(unfold=False, viewport={"width": 1400, "height": 900})
    buttons = page.locator(".quick")
    for part in (page.locator("table.answer"), buttons.last):
        box = part.bounding_box()
        assert box["y"] + box["height"] <= 900
    assert page.locator("table.answer strong").count() == 4, "the best of two figures in two sets"
    first, second = buttons.nth(0), buttons.nth(1)
    first.click()
    page.wait_for_selector("#set0 .version.playing", state="attached")
    page.wait_for_function(f"(each) => ({TIME})(each) > 0.2", arg=page.query_selector(FIRST))
    second.click()
    page.wait_for_function("(each) => each.matches('.playing')", arg=page.query_selector(SECOND))
    assert page.locator(SECOND).evaluate(TIME) >= 0.2, "from the same position"
    assert page.evaluate(PLAYING) == 1
    assert (first.get_attribute("aria-pressed"), second.get_attribute("aria-pressed")) == (
        *("false", "true"),
    )
    second.click()
    page.wait_for_function("(each) => !each.matches('.playing')", arg=page.query_selector(SECOND))


def test_page_is_short_until_it_is_unfolded(open_page: OpenPage) -> None:
    for size in ({"width": 1400, "height": 900}, {"width": 390, "height": 844}):
        page = open_page(unfold=False, viewport=size)
        assert page.evaluate(SCREENS) <= 4
        page.locator("nav a[href='#set1']").click()
        page.wait_for_function("() => document.querySelector('#set1 .whole').open")
        page.locator("nav a[href='#how']").click()
        page.wait_for_function("() => document.querySelector('#how').open")


def test_a_table_with_more_rows_below_has_a_shadow(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 1400, "height": 900})
    frame = page.locator("#answer .frame")
    shadow = "(each) => getComputedStyle(each, '::after').opacity"
    assert frame.evaluate(shadow) == "0", "all rows are in sight"
    frame.evaluate("(each) => { each.style.maxHeight = '150px'; }")
    page.wait_for_timeout(100)
    assert frame.evaluate(shadow) == "1"
    frame.evaluate("(each) => each.scrollTo(0, each.scrollHeight)")
    page.wait_for_timeout(100)
    assert float(frame.evaluate(shadow)) < 0.1


def test_phone(open_page: OpenPage) -> None:
    page = open_page(**PHONE)
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => each.open = true)")
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        scrolled, inner = page.evaluate(WIDTHS)
        assert scrolled <= inner == width
        sizes = page.locator(".play, .quick, thead button, select").evaluate_all(
            "(all) => all.map((one) => [one.offsetWidth, one.offsetHeight])"
        )
        assert min(wide for wide, _ in sizes) >= 24 and min(high for _, high in sizes) >= 44
    page.locator(f"{FIRST} >> .play").tap()
    page.wait_for_selector("#set0 .version.playing")


def test_wide_page_has_no_sideways_scroll(open_page: OpenPage) -> None:
    scrolled, inner = open_page(viewport={"width": 1280, "height": 800}).evaluate(WIDTHS)
    assert scrolled <= inner


def test_contrast_in_light_and_dark(open_page: OpenPage) -> None:
    grounds = []
    page = open_page()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        for selector in ("h1", ".abstract", ".about", "nav a", ".interval", ".note", ".who"):
            assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5, (scheme, selector)
        image = page.locator(".strip img").first
        assert ("invert" in image.evaluate("(e) => getComputedStyle(e).filter")) == (
            scheme == "dark"
        )
    assert grounds[0] != grounds[1]


def test_tab_reaches_player_and_sorting(open_page: OpenPage) -> None:
    page = open_page()
    for target in (".play", "thead button"):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"() => document.activeElement.matches('{target}')"):
                break
        else:
            pytest.fail(f"Tab does not reach {target}")
        assert page.evaluate(OUTLINE) >= 2
        page.keyboard.press("Enter")
        if target == ".play":
            page.wait_for_selector("#set0 .version.playing")
    assert page.locator("#set0-table [aria-sort=ascending]").count() == 1


def test_skip_link(open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    box = page.locator(".skip").bounding_box()
    assert box["x"] >= 0 and box["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "content"


def test_without_scripts(open_page: OpenPage) -> None:
    page = open_page(unfold=False, java_script_enabled=False)
    for part in ("#set0-listen", "#set0-clips", "#set1-title", "#set1-clips"):
        page.locator(part).click()
    assert page.locator("#set0 audio >> nth=0").is_visible()
    for selector in (".play", ".seek", ".filters", ".more", ".quick"):
        assert page.locator(selector).first.is_hidden()
    assert len(column(page, 1)) == 64
