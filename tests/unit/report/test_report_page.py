"""The text of the report's page: valid, complete, without other files, and correct for its run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from focalcodec.errors import UserError
from focalcodec.report import write_report
from tests.unit.report.made_up_run import (
    COLUMNS,
    FIGURES,
    NASTY_SPEAKER,
    NASTY_TEXT,
    OURS,
    SETS,
    THEIRS,
    add_clips_without_output,
    clip_ids,
    edit,
    write_run,
)
from tests.unit.report.markup import Element, parse

LISTEN = 2  # clips with audio in each set of four
ADDRESSES = ("src", "href", "srcset", "poster", "data", "action", "formaction", "xlink:href")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    out = run.parent / "page" / "page.html"
    out.parent.mkdir()
    assert write_report(run, out, max_clips=LISTEN) == out
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Element:
    return parse(text)


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def sections(page: Element) -> dict[str, Element]:
    return {each.all("h2")[0].text: each for each in page.all("section") if each["class"] == "set"}


def assert_valid(page: Element) -> None:
    """Check properties of the page of any run."""
    elements = page.all()
    ids = [each["id"] for each in elements if each["id"]]
    assert len(ids) == len(set(ids))
    targets = [each["href"][1:] for each in elements if each["href"].startswith("#")]
    targets += [name for each in elements for name in each["aria-labelledby"].split()]
    assert targets and set(targets) <= set(ids)
    assert all(each["alt"].strip() for each in page.all("img"))
    for drawing in page.all("svg"):
        assert drawing.hidden or (drawing["role"] == "img" and drawing["aria-label"].strip())
    assert all(each["aria-label"].strip() for each in page.all("audio"))
    assert all(each["aria-label"] or each.text for each in page.all("button", "a"))
    for field in page.all("input", "select"):
        assert field["aria-label"] or next(e for e in field.ancestors if e.tag == "label").text
    assert all(each["scope"] in ("col", "row", "rowgroup") for each in page.all("th"))
    assert all(table.all("caption")[0].text for table in page.all("table"))
    for each in elements:
        assert not any(name == "style" or name.startswith("on") for name in each.attrs)
        for name in ADDRESSES:
            assert name not in each.attrs or re.match(r"data:|#", each[name]), (each.tag, name)


def test_page_is_valid(page: Element, text: str) -> None:
    assert_valid(page)
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title")[0].text == page.all("h1")[0].text == "Speech resynthesis: run"
    levels = [int(each.tag[1]) for each in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_page_loads_nothing(page: Element) -> None:
    (style,) = page.all("style")
    assert not re.search(r"url\(|@import|//", "".join(map(str, style.parts)))
    (script,) = (each for each in page.all("script") if not each["type"])
    assert not re.search(
        r"fetch|XMLHttpRequest|import\(|WebSocket|sendBeacon|https?:", str(script.parts)
    )
    (policy,) = (m["content"] for m in page.all("meta") if "Policy" in m["http-equiv"])
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for element, directive in ((style, "style-src"), (script, "script-src")):
        digest = hashlib.sha256("".join(map(str, element.parts)).encode()).digest()
        assert f"{directive} 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_data_is_escaped(page: Element) -> None:
    assert len(page.all("script")) == 1 + len(SETS)
    assert not page.all("b")
    for section in sections(page).values():
        row = section.one(class_="clips").all("tbody")[0].all("tr")[0]
        assert row["data-speaker"] == NASTY_SPEAKER
        assert NASTY_TEXT in row.text and NASTY_SPEAKER in row.text and f"{THEIRS}, Ear" in row.text
        assert {each["data-name"] for each in section.all("li") if each["data-name"]} == {
            "Reference",
            OURS,
            THEIRS,
        }
        assert NASTY_SPEAKER in [each.text for each in section.all("option")]
    assert "focalcodec eval <made up> & nothing else" in page.text


def test_column_title_cannot_end_the_scores(copied: Path) -> None:
    title = "MOS </script><b>, judge & co"
    for card in copied.rglob("card.json"):
        edit(card, columns=[{**COLUMNS[0], "title": title}, COLUMNS[1]])
    page = parse(write_report(copied, max_clips=0).read_text(encoding="utf-8"))
    assert not page.all("b") and len(page.all("script")) == 1 + len(SETS)
    scores = json.loads(str(page.one(id="set0-scores").parts[0]))
    assert scores["dwer_ear"]["title"].startswith(title)


def test_figures_have_judge_and_interval(page: Element) -> None:
    for section in sections(page).values():
        table = section.all("table")[0]
        heads = [each.text for each in table.all("thead")[0].all("th")]
        for column, head in zip(COLUMNS, heads[2:], strict=True):
            assert f"{column['title']}, {column['unit']}" in head
            assert f"{column['better']} is better" in head
        for row in table.all("tbody")[0].all("tr"):
            figures = FIGURES[row.all("th")[0].text]
            cells = row.all("td")[1:]
            for column, cell in zip(COLUMNS, cells, strict=True):
                value, low, high = figures[column["key"]]
                assert cell.text in (
                    f"{value:.{places}f} {low:.{places}f} to {high:.{places}f}" for places in (1, 2)
                )
        captions = [each.text for each in section.all("figcaption")]
        assert all(any(c["title"] in caption for caption in captions) for c in COLUMNS)


def test_each_language_has_its_figures(copied: Path) -> None:
    for card in copied.glob("*/*/card.json"):
        figures = json.loads(card.read_text())["figures"]
        half = {key: {**figure, "count": 3} for key, figure in figures.items()}
        french = {"dwer_ear": {"value": 12.5, "low": 10.0, "high": 15.0, "count": 1}}
        edit(card, splits={"language": {"en": half, "fr": french}})
    page = parse(write_report(copied, max_clips=0).read_text(encoding="utf-8"))
    assert_valid(page)
    for section in sections(page).values():
        english, french = (each for each in section.all("details") if each["class"] == "language")
        assert [cell.text for cell in french.all("tbody")[0].all("tr")[0].all("td")][1:] == [
            "12.5 10.0 to 15.0",
            "– not measured",
        ]
        first = section.all("table")[0].all("tbody")[0].all("td")[1].text
        assert english.all("tbody")[0].all("td")[1].text == first
        assert english.all("summary")[0].text.startswith("Figures of en : 3 clips")


def test_scores_of_all_clips(page: Element) -> None:
    for number, (name, section) in enumerate(sections(page).items()):
        rows = section.one(class_="clips").all("tbody")[0].all("tr")
        assert [row.all("th")[0].text.split()[0] for row in rows] == clip_ids(name)
        assert [cell.text for cell in rows[1].all("td")[-2:]] == ["2.0", "33.0"]
        scores = json.loads(str(page.one(id=f"set{number}-scores").parts[0]))
        assert scores["mos_nose"]["rows"][1] == [4.2, 2.4]
        sortable = [each["data-sort"] for each in section.one(class_="clips").all("th")]
        assert sortable[:7] == ["clip", "speaker", "language", "text", "seconds", "0", "1"]


def test_synthetic_and_real_are_separate(page: Element) -> None:
    found = sections(page)
    assert list(found) == ["spoken", "made"], "real people first"
    assert "real people: 4 clips" in found["spoken"].text
    assert "synthetic voices: 4 clips" in found["made"].text
    for name, other in (("spoken", "made"), ("made", "spoken")):
        assert f"{name}-0" in found[name].text and f"{other}-" not in found[name].text
    assert "Published by others, with other judges" in page.one(id="published").text
    for section in found.values():
        assert "Published" not in section.text


def test_clips_with_audio_are_chosen_by_rule(page: Element) -> None:
    for section in sections(page).values():
        assert "2 of 4 clips, evenly spaced from the best to the worst by dWER, Ear" in section.text
        assert len(section.all("audio")) == LISTEN * 3
        rasters = [each for each in section.all("img") if each["class"] == "raster"]
        assert len(rasters) == LISTEN and all("4 bits each" in each["alt"] for each in rasters)
        best, worst = (each["id"] for each in section.all("details") if each["class"] == "clip")
        assert best.endswith("clip1") and worst.endswith("clip0")


def test_audio_is_that_of_the_judges(page: Element, run: Path) -> None:
    section = sections(page)["spoken"]
    by_label = {each["aria-label"]: each["src"] for each in section.all("audio")}
    for label, path in (
        ("Reference, clip spoken-1", "reference/spoken-1.flac"),
        (f"{OURS}, clip spoken-0", f"{OURS}/audio/spoken-0.flac"),
    ):
        audio = base64.b64decode(by_label[label].removeprefix("data:audio/flac;base64,"))
        assert audio == (run / "spoken" / path).read_bytes()


def test_provenance(page: Element) -> None:
    for expected in ("Tongue: pip install tongue", "2026-01-02", "panel offline", "50 bootstrap"):
        assert expected in page.text
    how = page.one(id="how").text
    assert "0" * 64 in how and "2.13.0" in how and "weights sha256" in how


def test_cards_of_earlier_versions_have_the_same_page(copied: Path, text: str) -> None:
    for card in copied.glob("*/*/card.json"):
        card.write_text(card.read_text().replace('"transcripts": {', '"heard": {'))
    assert write_report(copied, max_clips=LISTEN).read_text(encoding="utf-8") == text


def test_same_run_gives_same_bytes(run: Path, copied: Path, text: str) -> None:
    for card in reversed(sorted(copied.rglob("*.json"))):
        card.rename(card.with_suffix(".tmp")).rename(card)
    assert write_report(copied, max_clips=LISTEN).read_text(encoding="utf-8") == text


def no_scores(run: Path) -> None:
    for card in run.glob("*/R-D codec/card.json"):
        edit(card, clips=[], figures={}, judges={}, columns=[], missing=["all: pip install them"])


def no_judges(run: Path) -> None:
    for card in run.rglob("card.json"):
        edit(card, clips=[], figures={}, judges={}, columns=[], missing=["all: pip install them"])


def no_toks(run: Path) -> None:
    for path in run.rglob("toks.npz"):
        path.unlink()


def no_usage_and_speed(run: Path) -> None:
    for card in run.rglob("card.json"):
        edit(card, usage=None, speed=None)


def usage_of_the_reachable(run: Path) -> None:
    intervals = {"usage_reachable": [80.0, 95.25]}
    usage = {"reachable_codes": 1234.5, "usage_reachable": 90.0, "entropy_reachable": 97.5}
    for card in run.glob(f"*/{OURS}/card.json"):
        edit(card, usage={**usage, "intervals": intervals})


def no_audio(run: Path) -> None:
    for folder in run.glob(f"*/{OURS}/audio"):
        shutil.rmtree(folder)


def one_codec(run: Path) -> None:
    for folder in run.glob("*/R-D codec"):
        shutil.rmtree(folder)


def no_rate(run: Path) -> None:
    for card in run.rglob("card.json"):
        edit(card, codec={"name": card.parent.name, "kbps": None})


def not_numbers(run: Path) -> None:
    nothing = {"value": float("nan"), "low": None, "high": None, "count": 0}
    for card in run.glob("*/R-D codec/card.json"):
        edit(card, figures={"dwer_ear": nothing, "mos_nose": None})


def one_clip(run: Path) -> None:
    for path in run.glob("*/clips.json"):
        edit(path, clips=json.loads(path.read_text())["clips"][:1])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (no_scores, "all: pip install them"),
        (no_judges, "no judge"),
        (no_toks, "Listen"),
        (no_usage_and_speed, "codes were used"),
        (usage_of_the_reachable, "use 1,234 codes: 90.0 % [80.0, 95.2] of these were used"),
        (usage_of_the_reachable, "the entropy is 97.5 % of the entropy of such tokens"),
        (no_audio, "Listen"),
        (one_codec, OURS),
        (no_rate, "Rates and speed"),
        (not_numbers, "not measured"),
        (one_clip, "The only clip."),
    ],
)
def test_incomplete_runs_give_a_page(
    copied: Path, spoil: Callable[[Path], None], expected: str
) -> None:
    spoil(copied)
    page = parse(write_report(copied, max_clips=1).read_text(encoding="utf-8"))
    assert_valid(page)
    assert expected in page.text
    assert not re.search(r"\b(nan|None(?!\.)|Undefined|inf)\b", page.one(id="content").text)


def test_long_sets_without_audio(copied: Path) -> None:
    add_clips_without_output(copied / "made", 60)
    page = parse(write_report(copied, max_clips=0).read_text(encoding="utf-8"))
    assert_valid(page)
    assert not page.all("audio")
    assert "synthetic voices: 64 clips" in page.text


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("made/clips.json", b"{", "made/clips.json"),
        ("made/clips.json", b'{"name": "made", "clips": [{"id": "a"}]}', "made/clips.json"),
        (f"made/{OURS}/card.json", b"[]", "card.json"),
        (f"made/{OURS}/card.json", b'{"format": 2}', "format 2"),
        (f"made/{OURS}/card.json", b'{"format": 1}', "card.json"),
        (f"made/{OURS}/toks.npz", b"", "toks.npz"),
        (f"made/{OURS}/toks.npz", b"nothing", "toks.npz"),
        (f"made/{OURS}/toks.npz", b"PK\x03\x04 cut off", "toks.npz"),
        (f"made/{OURS}/audio/made-0.flac", b"RIFF", "made-0.flac"),
        (f"made/{OURS}/audio/made-0.flac", b"fLaC cut off", "made-0.flac"),
        ("made/reference/made-0.flac", None, "made-0.flac"),
    ],
)
def test_damage_is_named(copied: Path, name: str, content: bytes | None, expected: str) -> None:
    path = copied / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=expected) as caught:
        write_report(copied)
    assert str(copied) in str(caught.value) and "\n" not in str(caught.value)
    assert not (copied / "report.html").exists()


@pytest.mark.parametrize("name", ["../secret.flac", "/etc/secret.flac"])
def test_no_file_from_outside_the_run(copied: Path, name: str) -> None:
    clips = json.loads((copied / "made/clips.json").read_text())["clips"]
    edit(copied / "made/clips.json", clips=[{**clips[0], "ref": name}])
    with pytest.raises(UserError, match="leaves the set's folder"):
        write_report(copied)


def test_no_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=re.escape(f"{folder}: no ")):
            write_report(folder)
    with pytest.raises(UserError, match="max_clips=-1"):
        write_report(tmp_path, max_clips=-1)
