"""A section said of another outcome: its sentences are written of emojis, and reworded here.

What models wrote (samples, token views) stays as it is. Figures say their outcome themselves.
"""

from dataclasses import replace

from interp.base.outcomes import EMOJI, reworded
from interp.report.blocks import FigureBlock, Finding, Fold, Part, Row, Section, TableBlock


def retell(section: Section, name: str) -> None:
    """Say a section of the outcome of that name."""
    if name == EMOJI:
        return
    for field in ("title", "answer", "detail", "method", "muted", "short"):
        setattr(section, field, reworded(getattr(section, field), name))
    if section.finding:
        section.finding = _finding(section.finding, name)
    section.tables = [_table(table, name) for table in section.tables]
    section.figures = [_figure(figure, name) for figure in section.figures]
    section.folds = [
        Fold(
            fold.key,
            reworded(fold.title, name),
            [_figure(figure, name) for figure in fold.figures],
        )
        for fold in section.folds
    ]
    for part in section.parts:
        _part(part, name)


def _finding(finding: Finding, name: str) -> Finding:
    return replace(
        finding, verdict=reworded(finding.verdict, name), numbers=reworded(finding.numbers, name)
    )


def _part(part: Part, name: str) -> None:
    part.answer, part.muted = reworded(part.answer, name), reworded(part.muted, name)
    part.figures = [_figure(figure, name) for figure in part.figures]
    part.views = [replace(view, words=reworded(view.words, name)) for view in part.views]


def _figure(figure: FigureBlock, name: str) -> FigureBlock:
    return replace(figure, caption=reworded(figure.caption, name), alt=reworded(figure.alt, name))


def _table(table: TableBlock, name: str) -> TableBlock:
    rows = [
        Row(
            row.trait,
            tuple(
                replace(cell, text=reworded(cell.text, name), note=reworded(cell.note, name))
                for cell in row.cells
            ),
        )
        for row in table.rows
    ]
    return replace(
        table,
        caption=reworded(table.caption, name),
        columns=tuple(reworded(column, name) for column in table.columns),
        rows=tuple(rows),
    )
