"""Tables of the page: figures of sets, scores of clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from focalcodec.evaluation.intervals import Figure
from focalcodec.report.run_folder import CardColumn, SetRun, finite

BAR_WIDTH = 88  # px
ARROWS = {"lower": "↓", "higher": "↑"}
WORDS = {"lower": "lower is better", "higher": "higher is better"}


@dataclass(frozen=True)
class Heading:
    """Header of a judge's column."""

    key: str
    title: str
    unit: str
    arrow: str
    better: str
    """The arrow in words, for screen readers."""
    decimals: int
    judge: str = ""

    @property
    def full(self) -> str:
        """Title, unit and direction in one line."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.title}{unit}" + (f" ({self.better})" if self.better else "")


@dataclass(frozen=True)
class Cell:
    """A figure with its interval, as text and in px on a bar with one scale for the column."""

    value: str
    interval: str
    count: int
    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """The figures of a codec; None if there is none."""

    name: str
    ours: bool
    kbps: str
    cells: tuple[Cell | None, ...]


def decimal_places(values: Iterable[float]) -> int:
    """Return the decimals for a column: about three digits of its largest value.

    Example
    -------
    >>> decimal_places([0.91, 0.2]), decimal_places([4.1]), decimal_places([120.0, 3.0])
    (3, 2, 1)
    """
    largest = max((abs(value) for value in values), default=0.0)
    return 3 if largest <= 1 else 2 if largest < 20 else 1


def headings(run: SetRun) -> tuple[Heading, ...]:
    """Return the headers of a set's columns with a figure or a score."""
    found = []
    for column in run.columns:
        values = [
            bound
            for codec in run.codecs
            if (figure := codec.figures.get(column.key))
            for bound in (figure.value, figure.low, figure.high)
        ]
        scored = any(codec.scores.get(column.key) for codec in run.codecs)
        if values or scored:
            found.append(_heading(column, values))
    return tuple(found)


def _heading(column: CardColumn, values: list[float]) -> Heading:
    return Heading(
        key=column.key,
        title=column.title,
        unit=column.unit,
        arrow=ARROWS.get(column.better, ""),
        better=WORDS.get(column.better, ""),
        decimals=decimal_places(values),
        judge=column.judge,
    )


def rows(run: SetRun, columns: tuple[Heading, ...], language: str = "") -> tuple[Row, ...]:
    """Return a set's table, of all clips or of one language: codecs down, columns across."""
    figures = [
        codec.languages.get(language, {}) if language else codec.figures for codec in run.codecs
    ]
    columns_of_all = [[f for each in figures if (f := each.get(c.key))] for c in columns]
    return tuple(
        Row(
            name=codec.name,
            ours=codec.has_toks,
            kbps=figure_text(codec.kbps),
            cells=tuple(
                _cell(own.get(column.key), column, everyone)
                for column, everyone in zip(columns, columns_of_all, strict=True)
            ),
        )
        for codec, own in zip(run.codecs, figures, strict=True)
    )


def language_rows(
    run: SetRun, columns: tuple[Heading, ...]
) -> tuple[tuple[str, tuple[Row, ...]], ...]:
    """Return each language of a set with several, and its table as from `rows`."""
    languages = sorted({language for codec in run.codecs for language in codec.languages})
    return tuple((language, rows(run, columns, language)) for language in languages)


def _cell(figure: Figure | None, column: Heading, all_figures: Sequence[Figure]) -> Cell | None:
    if figure is None:
        return None
    left = min(min(f.low, f.value) for f in all_figures)
    span = max(max(f.high, f.value) for f in all_figures) - left

    def place(value: float) -> float:
        return round(4 + (value - left) / (span or 1.0) * (BAR_WIDTH - 8), 1)

    low, value, high = (
        f"{each:.{column.decimals}f}" for each in (figure.low, figure.value, figure.high)
    )
    interval = f"{low} to {high}" if low != high else ""
    return Cell(
        value, interval, figure.count, place(figure.value), place(figure.low), place(figure.high)
    )


def figure_text(value: Any, decimals: int | None = None) -> str:
    """Format a number of a card; "" if it is not a finite number.

    Example
    -------
    >>> figure_text(0.65), figure_text(None), figure_text(6), figure_text(1234.5, 0)
    ('0.65', '', '6', '1,234')
    """
    found = finite(value)
    if found is None:
        return ""
    return f"{found:.3g}" if decimals is None else f"{found:,.{decimals}f}"


def seconds_text(seconds: float) -> str:
    """Format a duration.

    Example
    -------
    >>> seconds_text(0.84), seconds_text(61.7)
    ('0.8 s', '62 s')
    """
    return f"{seconds:.{1 if seconds < 10 else 0}f} s"


def percent_text(found: Figure | None) -> str:
    """Format a percentage with its interval; "" without one.

    Example
    -------
    >>> percent_text(Figure(90.0, 80.0, 95.2, 0)), percent_text(Figure(90.0, 90.0, 90.0, 0))
    ('90.0 % [80.0, 95.2]', '90.0 %')
    """
    if found is None:
        return ""
    interval = "" if found.low == found.high else f" [{found.low:.1f}, {found.high:.1f}]"
    return f"{found.value:.1f} %{interval}"


def clip_scores(run: SetRun, columns: tuple[Heading, ...]) -> dict[str, Any]:
    """Return the scores of all clips for the script of the page, which sorts by them.

    Each key has `title`, `decimals`, and `rows`: for each clip the score of each codec, or None.
    """
    return {
        column.key: {
            "title": column.full,
            "decimals": column.decimals,
            "rows": [
                [
                    None
                    if (score := codec.scores.get(column.key, {}).get(clip.id)) is None
                    # Six digits are more than a page shows; the card has all of them.
                    else float(f"{score:.6g}")
                    for codec in run.codecs
                ]
                for clip in run.clips
            ],
        }
        for column in columns
    }


def merged(mappings: Iterable[dict[str, Any] | None]) -> dict[str, str]:
    """Merge mappings, with different values side by side.

    Example
    -------
    >>> merged([{"torch": "2.13.0"}, {"torch": "2.12.0", "os": None}, None])
    {'torch': '2.13.0; 2.12.0', 'os': ''}
    """
    values: dict[str, list[str]] = {}
    for mapping in mappings:
        for key, value in (mapping or {}).items():
            texts = values.setdefault(str(key), [])
            if value is not None and str(value) not in texts:
                texts.append(str(value))
    return {key: "; ".join(texts) for key, texts in values.items()}
