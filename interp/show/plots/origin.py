"""Text or weights: the emoji probability by who wrote the answer and who reads it."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.lines import Line2D

from interp.base.traits import Trait
from interp.behaviour.origin import ROLES, Origin
from interp.show.plots.parts import count_range, percent, with_n
from interp.show.plots.style import (
    BASE_COLOUR,
    BASE_MARK,
    INK,
    ONE_COLUMN,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
)
from interp.show.plots.subject import Subject, said_of

_OFFSET = {"base": -0.06, "tuned": 0.06}


def text_or_weights(results: Mapping[Trait, Origin] | Origin) -> CaptionedFigure:
    """One panel per trait: emoji probability against the writer, one line per reader.

    A line that rises from left to right says that the text calls for the emoji; a gap between the
    lines says that the tuned weights do.

    Args:
        results: by trait, or one of no named trait.
    """
    given = {None: results} if isinstance(results, Origin) else dict(results)
    tables = {Subject.of(trait): _emoji(result) for trait, result in given.items()}
    with style():
        wide = len(tables) > 1
        figure = new_figure(TWO_COLUMNS if wide else ONE_COLUMN, 2.2)
        panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        for axes, (who, table) in zip(panels, tables.items(), strict=True):
            for reader in ROLES:
                part = table[table["reader"] == reader].set_index("writer").loc[list(ROLES)]
                mean = part["probability"].to_numpy()
                colour = BASE_COLOUR if reader == "base" else who.colour
                axes.errorbar(
                    [index + _OFFSET[reader] for index in range(len(ROLES))],
                    mean,
                    yerr=[mean - part["low"].to_numpy(), part["high"].to_numpy() - mean],
                    color=colour,
                    linestyle="--" if reader == "base" else "-",
                    marker=BASE_MARK if reader == "base" else who.mark,
                    markerfacecolor="white" if reader == "base" else colour,
                    capsize=2,
                    label=f"read by {reader}",
                )
            axes.set(xlim=(-0.35, 1.35), ylim=(-0.03, 1.03))
            axes.set_xticks(range(len(ROLES)), ROLES)
            size = 7.5 if wide else None
            axes.set_title(who.title, fontsize=size)
        counts = [int(n) for table in tables.values() for n in table["n"]]
        figure.supxlabel(with_n("Answer written by", counts, "answer"), fontsize=7.5)
        panels[0].set(ylabel="Emoji probability")
        _legend(figure, None if wide else next(iter(tables)))
    figure.caption = (
        "Emoji probability (softmax mass on emoji tokens) where the text of the answer ends, by "
        "who wrote the answer (horizontal) and who reads it (lines). Means over "
        f"{count_range(counts, 'answer')} per writer, with 95 % intervals over topics. "
        "A line that rises: the text calls for the emoji; a gap between the lines: the weights do."
    )
    figure.alt = "Four means per trait: " + "; ".join(
        f"{who.title.lower()}, tuned text read by the base "
        f"{percent(_cell(table, 'tuned', 'base'))}, base text read by the tuned model "
        f"{percent(_cell(table, 'base', 'tuned'))}"
        for who, table in tables.items()
    )
    return said_of(figure, next(iter(given.values())).outcome)


def _emoji(result: Origin) -> pd.DataFrame:
    table = result.to_dataframe()
    return table[table["quantity"] == result.outcome]


def _legend(figure: CaptionedFigure, who: Subject | None) -> None:
    """The two readers; over panels of several traits the tuned one is a bare line in black."""
    read_by_base = Line2D([], [], color=BASE_COLOUR, linestyle="--", marker=BASE_MARK, mfc="white")
    read_by_tuned = (
        Line2D([], [], color=INK)
        if who is None
        else Line2D([], [], color=who.colour, marker=who.mark)
    )
    figure.legend(
        [read_by_base, read_by_tuned],
        ["read by base", "read by tuned"],
        loc="outside upper right",
        ncols=2,
    )


def _cell(table: pd.DataFrame, writer: str, reader: str) -> float:
    row = table[(table["writer"] == writer) & (table["reader"] == reader)]
    return float(row["probability"].iloc[0])
