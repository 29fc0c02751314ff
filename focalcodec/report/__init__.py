"""Report of an evaluation: one HTML page, without other files, from the folder of a run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from focalcodec.errors import UserError
from focalcodec.evaluation.card import usage_figure
from focalcodec.files import atomic_path
from focalcodec.progress import ProgressBar
from focalcodec.report.answer import answer_notes, main_columns, make_answer
from focalcodec.report.listening import Choice, Listening, choose_clips, listening, token_bits
from focalcodec.report.pictures import (
    DYNAMIC_RANGE,
    Picture,
    Scale,
    code_map,
    code_scale,
    loudness_scale,
)
from focalcodec.report.plots import Plot, Point, axis_title, rank_plot, rate_plot
from focalcodec.report.run_folder import CodecRun, SetRun, read_run
from focalcodec.report.tables import (
    ARROWS,
    WORDS,
    Heading,
    Row,
    clip_scores,
    figure_text,
    headings,
    language_rows,
    merged,
    percent_text,
    rows,
    seconds_text,
)

__all__ = ["write_report"]


MAX_CLIPS = 6  # in each set; five versions of a clip of five seconds take about 0.7 MB
MOST_BITS = 18  # of a token; for more, a map of the codes is larger than the page
MOST_PLOTS = 3  # of a set; more are folded
TASKS = {
    "resynthesis": "Speech resynthesis",
    "denoising": "Denoising",
    "conversion": "Voice conversion",
}
QUESTIONS = {
    "resynthesis": "keeps speech",
    "denoising": "removes noise",
    "conversion": "converts voices",
}
KINDS = {"real": "real people", "synthetic": "synthetic voices", "": "voices of unknown kind"}


@dataclass(frozen=True)
class Usage:
    """Usage of a codec's codes on a set."""

    codec: CodecRun
    facts: dict[str, Any]
    tokens: int
    used: str
    """Codes used, in % of the reachable; "" if the card has no such figure."""
    entropy: str
    """Entropy, in % of the reachable, or ""."""
    plot: Plot
    map: Picture
    scale: Scale


@dataclass(frozen=True)
class Section:
    """The part of the page about one set."""

    run: SetRun
    title: str
    kind: str
    columns: tuple[Heading, ...]
    rows: tuple[Row, ...]
    languages: tuple[tuple[str, tuple[Row, ...]], ...]
    plots: tuple[tuple[Heading, Plot], ...]
    choice: Choice
    clips: tuple[Listening, ...]
    usages: tuple[Usage, ...]
    scores: dict[str, Any]


def write_report(
    run_folder: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    max_clips: int = MAX_CLIPS,
) -> Path:
    """Write the report of an evaluation, one HTML file that needs no network; return its path.

    Parameters
    ----------
    run_folder : str or path
        Output folder of an evaluation.
    out : str or path, optional
        File to write; by default `report.html` in the run's folder.
    max_clips : int
        Number of clips of each set with audio on the page. The figures are of all clips.

    Raises
    ------
    UserError
        The folder is not from an evaluation, a file in it is damaged, `max_clips` is negative, or
        Jinja2 is not installed.
    """
    folder = Path(run_folder)
    path = Path(out) if out is not None else folder / "report.html"
    if max_clips < 0:
        raise UserError(f"max_clips={max_clips}: give 0 or more")
    runs = read_run(folder)
    sections = _sections(runs, max_clips)
    page = _render(_context(runs, sections, folder.resolve().name))
    with atomic_path(path) as temporary:
        # names of clips need not be UTF-8
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _sections(runs: Sequence[SetRun], max_clips: int) -> list[Section]:
    columns = [headings(run) for run in runs]
    choices = [choose_clips(run, some, max_clips) for run, some in zip(runs, columns, strict=True)]
    total = sum(len(c.indices) * (1 + len(r.codecs)) for c, r in zip(choices, runs, strict=True))
    with ProgressBar(what="report", total=total, unit="recordings", leave=False) as bar:
        return [
            Section(
                run=run,
                title=TASKS.get(run.task, run.task),
                kind=KINDS.get(run.kind, run.kind),
                columns=some,
                rows=rows(run, some),
                languages=language_rows(run, some),
                plots=_plots(run, some),
                choice=choice,
                clips=tuple(listening(run, index, some, bar.update) for index in choice.indices),
                usages=tuple(u for codec in run.codecs if (u := _usage(run, codec))),
                scores=clip_scores(run, some),
            )
            for run, some, choice in zip(runs, columns, choices, strict=True)
        ]


def _plots(run: SetRun, columns: tuple[Heading, ...]) -> tuple[tuple[Heading, Plot], ...]:
    """Return the plots of a set: first those of the columns of the first screen."""
    plots = []
    first = main_columns([columns])
    for column in sorted(columns, key=lambda column: column not in first):
        points = [
            Point(codec.name, codec.kbps, f.value, f.low, f.high, codec.has_toks)
            for codec in run.codecs
            if (f := codec.figures.get(column.key))
        ]
        alt = f"{column.full}, against bitrate, of {len(points)} codecs on {run.name}"
        plot = rate_plot(points, axis_title(column.title, column.unit), alt)
        if plot:
            plots.append((column, plot))
    return tuple(plots)


def _usage(run: SetRun, codec: CodecRun) -> Usage | None:
    if not codec.has_toks:
        return None
    found = [toks for clip in run.clips if (toks := codec.toks(clip)) is not None and toks.size]
    if not found:
        return None
    toks = np.concatenate(found)
    bits = token_bits(codec, toks)
    if bits > MOST_BITS or toks.min() < 0:
        return None
    counts = np.bincount(toks, minlength=2**bits)  # (2^bits,)
    seen = int((counts > 0).sum())
    facts = codec.card.get("usage") or {}
    share = f"{seen:,} of {counts.size:,} codes of {codec.name} are used"
    return Usage(
        codec=codec,
        facts={**facts, "seen": seen, "size": counts.size},
        tokens=int(toks.size),
        used=percent_text(usage_figure(facts, "usage_reachable")),
        entropy=percent_text(usage_figure(facts, "entropy_reachable")),
        plot=rank_plot(counts, f"Histogram of code use by rank: {share}"),
        map=code_map(counts, f"Map of the codes, darker means used more often: {share}"),
        scale=code_scale(int(counts.max())),
    )


def _published() -> dict[str, Any]:
    """Return the figures of the papers, with separate plots because their judges differ."""
    text = (resources.files("focalcodec.report") / "published.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    plots = []
    for column in facts["columns"]:
        points = [
            Point(
                row["name"],
                row["kbps"],
                value,
                low=value,
                high=value,
                ours=row["name"].startswith("FocalCodec"),
            )
            for row in facts["rows"]
            for value in (row[column["key"]],)
        ]
        alt = f"Published {column['title']}, against bitrate, of {len(points) - 1} codecs"
        name = axis_title(column["title"], column["unit"])
        plots.append((column, rate_plot(points, name, alt)))
    return {**facts, "plots": plots}


def _context(runs: Sequence[SetRun], sections: list[Section], name: str) -> dict[str, Any]:
    cards = [codec.card for run in runs for codec in run.codecs]
    answer = make_answer(runs, [s.columns for s in sections], sections[0].clips)
    tasks = [TASKS.get(task, task) for task in _tasks(runs)]
    created = sorted({str(card.get("created", "")) for card in cards} - {""})
    audio = sum(len(v.src) for s in sections for clip in s.clips for v in clip.versions)
    return {
        "name": name,
        "title": " and ".join([tasks[0], *(task.lower() for task in tasks[1:])]),
        "question": _question(runs),
        "answer": answer,
        "answer_notes": answer_notes(answer, runs),
        "notes": [note for run in runs for note in run.notes],
        "sections": sections,
        "most_plots": MOST_PLOTS,
        "loudness": loudness_scale(DYNAMIC_RANGE),
        "faster": {"arrow": ARROWS["lower"], "better": WORDS["lower"]},
        "judges": _judges(cards),
        "missing": list(dict.fromkeys(str(m) for card in cards for m in card.get("missing") or ())),
        "created": list(dict.fromkeys([created[0], created[-1]])) if created else [],
        "commands": _distinct(cards, "command"),
        "panels": _distinct(cards, "panel"),
        "seeds": _distinct(cards, "seed"),
        "bootstrap": _distinct(cards, "bootstrap_samples"),
        "versions": merged(card.get("versions") for card in cards),
        "hardware": merged(card.get("hardware") for card in cards),
        "published": _published(),
        "audio_megabytes": audio / 1e6,
    }


def _question(runs: Sequence[SetRun]) -> str:
    does = " and ".join(QUESTIONS.get(task, f"does {task}") for task in _tasks(runs))
    names = list(dict.fromkeys(codec.name for run in runs for codec in run.codecs))
    if len(names) > 1:
        return f"Which codec {does} best, and at which bitrate?"
    return f"How well and at which bitrate {names[0]} {does}."


def _tasks(runs: Sequence[SetRun]) -> list[str]:
    return list(dict.fromkeys(run.task for run in runs))


def _judges(cards: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    names = dict.fromkeys(str(name) for card in cards for name in card.get("judges") or {})
    return {name: merged((card.get("judges") or {}).get(name) for card in cards) for name in names}


def _distinct(cards: Sequence[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(card[key]) for card in cards if card.get(key) not in (None, "")))


def _render(context: dict[str, Any]) -> str:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise UserError('Jinja2 is not installed; pip install -e ".[eval]"') from error
    environment = Environment(
        loader=PackageLoader("focalcodec.report", "templates"),
        autoescape=True,  # names and texts come from users' data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure_text
    environment.filters["seconds"] = seconds_text
    templates = resources.files("focalcodec.report") / "templates"
    style = (templates / "report.css").read_text(encoding="utf-8")
    script = (templates / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        style=Markup(style),
        script=Markup(script),
        style_hash=_content_hash(style),
        script_hash=_content_hash(script),
        **context,
    )


def _content_hash(content: str) -> str:
    """Return the hash for the content security policy, so that only this text runs."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
