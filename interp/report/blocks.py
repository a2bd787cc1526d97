"""What a page is made of: sections with an answer, tables, figures, answers; and its files.

A `Maker` writes each figure (PNG, SVG) and each table (CSV) into the run folder when it is added,
and keeps what the page needs of it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from interp.base.files import write_bytes, write_csv, write_text
from interp.base.traits import Trait
from interp.show.plots import CaptionedFigure, render, table_tex
from interp.show.plots.latex import caption_tex
from interp.show.plots.style import ONE_COLUMN, settle

FIGURES, TABLES = "figures", "tables"
LAST = 16
"""Positions up to the onset that maps show."""


@dataclass(frozen=True)
class FigureBlock:
    """A figure on the page: its SVG as a data URI, what it says, and its files' stem."""

    stem: str
    uri: str
    caption: str
    alt: str
    wide: bool
    width: int
    height: int


@dataclass(frozen=True)
class Cell:
    """What a table shows, what it is sorted by (a number, else its text), and a remark below."""

    text: str
    value: float | int | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table: its trait, which is shown first, and the other cells."""

    trait: Trait
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class TableBlock:
    """A table as it is shown and the stem of the CSV file with the full numbers."""

    stem: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def numeric(self, column: int) -> bool:
        """Whether a column (0 is the trait) is sorted as numbers."""
        return column > 0 and any(row.cells[column - 1].value is not None for row in self.rows)


@dataclass(frozen=True)
class Answer:
    """One answer of all that were written.

    Attributes:
        trait: whose tuned model wrote it; None: the base.
        has_emoji: whether there is one in it.
        expected: its expected rate, where it was made.
        at_end: the writer's own probability of an emoji where its text ends, where there is one.
        view: the place on the page of its token view, or nothing.
    """

    trait: Trait | None
    question: str
    text: str
    has_emoji: bool
    expected: float | None = None
    at_end: float | None = None
    view: str = ""


@dataclass(frozen=True)
class ViewBlock:
    """A token view: its markup, and what its fold is called; no label, no fold.

    Attributes:
        place: which of the trait's views it is, counted from 1.
        words: what is said above it.
    """

    markup: str
    place: int
    words: str
    label: str = ""


@dataclass
class Part:
    """What a section shows of one trait alone, in a fold.

    Attributes:
        muted: why there is nothing to explain in it, where there is not.
        unfolded: whether the fold is open when the page is.
    """

    trait: Trait
    answer: str = ""
    muted: str = ""
    figures: list[FigureBlock] = field(default_factory=list)
    views: list[ViewBlock] = field(default_factory=list)
    unfolded: bool = False


@dataclass(frozen=True)
class Fold:
    """Further figures of all traits, under a title that says what is in it.

    Attributes:
        key: its place on the page, behind the section's.
    """

    key: str
    title: str
    figures: list[FigureBlock]


@dataclass(frozen=True)
class Finding:
    """What the summary on top of the page says of a section: a verdict, then its numbers.

    Attributes:
        bold: whether the verdict claims an effect that is worth it.
    """

    verdict: str
    numbers: str
    bold: bool = True

    @property
    def text(self) -> str:
        """Both, as the answer of the section."""
        return f"{self.verdict} {self.numbers}"


@dataclass
class Section:
    """One question of the report: answered first, then one figure over all traits, then folds.

    Attributes:
        title: the question.
        finding: what the summary says of it, if it does.
        detail: what more there is to say in numbers, beside the tables.
        method: how it was measured and over how many, for the fold at its end.
        muted: why all of it is folded, where it is.
        key, short: its place on the page, and its name in the contents; its `Face` says them.
    """

    title: str
    answer: str
    finding: Finding | None = None
    figures: list[FigureBlock] = field(default_factory=list)
    tables: list[TableBlock] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    detail: str = ""
    method: str = ""
    muted: str = ""
    key: str = ""
    short: str = ""


@dataclass(frozen=True)
class Maker:
    """Writes figures and tables into the run folder and makes their blocks.

    Attributes:
        root: the run folder.
        pdf: whether to write each figure as a PDF as well.
    """

    root: Path
    pdf: bool = False

    def figure(self, stem: str, figure: CaptionedFigure) -> FigureBlock:
        """Write `figures/<stem>.png` and `.svg` (and `.pdf`), its caption as `.tex`; return it."""
        settle(figure)
        if self.pdf:
            write_bytes(self.root / FIGURES / f"{stem}.pdf", render(figure, "pdf"))
        svg = render(figure, "svg")
        write_bytes(self.root / FIGURES / f"{stem}.svg", svg)
        write_bytes(self.root / FIGURES / f"{stem}.png", render(figure, "png"))
        write_text(self.root / FIGURES / f"{stem}.tex", caption_tex(figure.caption))
        width, height = figure.get_size_inches()
        return FigureBlock(
            stem=stem,
            uri=svg_uri(svg.decode()),
            caption=figure.caption,
            alt=figure.alt,
            wide=bool(width > 1.2 * ONE_COLUMN),
            width=round(96 * float(width)),
            height=round(96 * float(height)),
        )

    def csv(self, stem: str, table: pd.DataFrame) -> None:
        """Write `tables/<stem>.csv`."""
        write_csv(self.root / TABLES / f"{stem}.csv", table)

    def table(
        self,
        stem: str,
        caption: str,
        whole: pd.DataFrame,
        rows: Sequence[Row],
        columns: Sequence[str],
    ) -> TableBlock:
        """Write `whole` as CSV; return the block that shows `rows` under `Trait` and `columns`.

        What is shown is written as `tables/<stem>.tex` (booktabs), too.
        """
        self.csv(stem, whole)
        shown = [[str(row.trait), *(cell.text for cell in row.cells)] for row in rows]
        tex = table_tex(pd.DataFrame(shown, columns=["Trait", *columns]))
        write_text(self.root / TABLES / f"{stem}.tex", tex)
        return TableBlock(stem, caption, ("Trait", *columns), tuple(rows))


def svg_uri(svg: str) -> str:
    """An SVG file as a data URI, without comments, line breaks and XML prologue.

    Percent-encoding only what must be is a fifth smaller than base64. The result holds no double
    quote, ampersand or angle bracket, so it can stand in an attribute as it is.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").replace('"', "'")
    return "data:image/svg+xml," + quote(svg, safe=" !'()*+,-./:;=?@_~$")


@dataclass(frozen=True)
class Face:
    """What the report knows of a section before it is made.

    Attributes:
        name: in the table of contents.
        make: makes the section of a run's contents; None where there is nothing to show.
        asked: the question of the summary that the section's finding answers, if it does.
        trace: whether it explains an effect, and is folded where there is none.
    """

    name: str
    make: Callable[[Any, Maker], Section | None]
    asked: str = ""
    trace: bool = True


def stacked(tables: Mapping[Any, pd.DataFrame]) -> pd.DataFrame:
    """One table of all, with the keys (trait, or trait and model) as first columns."""
    frames = []
    for key, table in tables.items():
        keys = key if isinstance(key, tuple) else (key,)
        names = ("trait", "model")[: len(keys)]
        first = pd.DataFrame([[str(k) for k in keys]] * len(table), columns=list(names))
        frames.append(pd.concat([first, table.reset_index(drop=True)], axis=1))
    return pd.concat(frames, ignore_index=True)
