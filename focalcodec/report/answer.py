"""The table and the clips of the page's first screen: what most readers look for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from focalcodec.evaluation.card import usage_figure
from focalcodec.evaluation.intervals import Figure
from focalcodec.evaluation.summary import interval_note
from focalcodec.report.listening import Listening
from focalcodec.report.plots import quantity
from focalcodec.report.run_folder import CodecRun, SetRun
from focalcodec.report.tables import ARROWS, WORDS, Heading, decimal_places, figure_text

MOST_COLUMNS = 5  # of judges; all columns are in the tables of the sets
MOST_CLIPS = 3
USED, SPEED = "codes used", "real-time factor"


@dataclass(frozen=True)
class AnswerCell:
    """A figure as text, and whether no codec of the set has a better one."""

    value: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class AnswerRow:
    """The figures of a codec; None if there is none."""

    name: str
    ours: bool
    kbps: str
    cells: tuple[AnswerCell | None, ...]


@dataclass(frozen=True)
class Answer:
    """The first screen: columns, the rows of each set, and some clips of the first set."""

    columns: tuple[Heading, ...]
    rows: tuple[tuple[AnswerRow, ...], ...]
    clips: tuple[Listening, ...]


def make_answer(
    runs: Sequence[SetRun], columns: Sequence[tuple[Heading, ...]], clips: Sequence[Listening]
) -> Answer:
    """Return the answer for the sets of a run, their columns, and the clips of the first set."""
    shown = [*main_columns(columns), *_other_columns(runs)]
    every = [{column.key: column for column in some} for some in columns]
    rows = tuple(
        _rows(run, [known.get(column.key, column) for column in shown])
        for run, known in zip(runs, every, strict=True)
    )
    # Clips are ordered from the best to the worst: take both, and the middle one.
    last = len(clips) - 1
    places = dict.fromkeys([0, (last + 1) // 2, last][:MOST_CLIPS]) if clips else ()
    return Answer(tuple(shown), rows, tuple(clips[place] for place in places))


def main_columns(columns: Sequence[tuple[Heading, ...]]) -> list[Heading]:
    """Return the first column of each judge, without a second judge of the same quantity."""
    first: dict[str, Heading] = {}
    for column in (column for some in columns for column in some):
        if column.arrow:
            first.setdefault(column.judge or column.key, column)
    found: dict[str, Heading] = {}
    for column in first.values():
        found.setdefault(quantity(column.title), column)
    return list(found.values())[:MOST_COLUMNS]


def answer_notes(answer: Answer, runs: Sequence[SetRun]) -> list[str]:
    """Return what a reader has to know about the figures of the first screen."""
    cells = [cell for rows in answer.rows for row in rows for cell in row.cells if cell]
    notes = []
    if not any(column.judge for column in answer.columns):
        notes.append("No judge scored these clips.")
    if any(cell.best for cell in cells):
        notes.append(
            "Bold is the best codec of a column: focalcodec eval --compare shows if two differ."
        )
    if any(cell.interval for cell in cells):
        units = dict.fromkeys(_interval_note(run) for run in runs)
        notes.append(f"The small figures are {'; '.join(units)}.")
    if any(column.key == SPEED for column in answer.columns):
        notes.append("Real-time factor is processing time / audio time, encoding plus decoding.")
    return [" ".join(notes)] if notes else []


def _interval_note(run: SetRun) -> str:
    found = (figure.speakers for codec in run.codecs for figure in codec.figures.values())
    return interval_note(len(run.clips), max(found, default=0))


def _other_columns(runs: Sequence[SetRun]) -> list[Heading]:
    """Return the columns of codes used and of speed, if a codec has them."""
    columns = []
    for title, unit, better in ((USED, "% of the reachable", "higher"), (SPEED, "", "lower")):
        column = Heading(title, title, unit, ARROWS[better], WORDS[better], 0)
        found = [f.value for run in runs for codec in run.codecs if (f := _figure(codec, column))]
        if found:
            columns.append(
                Heading(title, title, unit, ARROWS[better], WORDS[better], decimal_places(found))
            )
    return columns


def _figure(codec: CodecRun, column: Heading) -> Figure | None:
    if column.key == USED:
        return usage_figure(codec.card.get("usage"), "usage_reachable")
    if column.key == SPEED:
        parts = [codec.speed.get(f"{part}_real_time_factor") for part in ("encode", "decode")]
        if not all(isinstance(part, int | float) for part in parts):
            return None
        factor = float(sum(part for part in parts if part is not None))
        return Figure(factor, factor, factor, 0)
    return codec.figures.get(column.key)


def _rows(run: SetRun, columns: Sequence[Heading]) -> tuple[AnswerRow, ...]:
    across = [_column(run, column) for column in columns]
    return tuple(
        AnswerRow(codec.name, codec.has_toks, figure_text(codec.kbps), tuple(cells))
        for codec, *cells in zip(run.codecs, *across, strict=True)
    )


def _column(run: SetRun, column: Heading) -> list[AnswerCell | None]:
    """Return the cells of a column; the best is in bold if two codecs that send something have it.

    The recordings themselves send nothing, and win most columns.
    """
    figures = [_figure(codec, column) for codec in run.codecs]
    texts = [None if f is None else _text(f.value, column) for f in figures]
    rivals = [
        (figure.value, text)
        for codec, figure, text in zip(run.codecs, figures, texts, strict=True)
        if codec.kbps is not None and figure and text
    ]
    best = None
    if len({text for _, text in rivals}) > 1:
        best = (min if column.arrow == ARROWS["lower"] else max)(rivals)[1]
    return [
        None
        if figure is None or text is None
        else AnswerCell(text, _interval(figure, column), text == best and codec.kbps is not None)
        for codec, figure, text in zip(run.codecs, figures, texts, strict=True)
    ]


def _text(value: float, column: Heading) -> str:
    return figure_text(value) if column.key == SPEED else f"{value:.{column.decimals}f}"


def _interval(figure: Figure, column: Heading) -> str:
    low, high = _text(figure.low, column), _text(figure.high, column)
    return f"{low} to {high}" if low != high else ""
