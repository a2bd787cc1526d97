"""Text or weights: the emoji probability by who wrote the answer and who reads it."""

from collections.abc import Mapping
from math import ceil, floor, log10

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from interp.base.traits import Trait
from interp.behaviour.origin import ROLES, Origin
from interp.show.plots.parts import ACROSS, count_range, multiples, percent, with_n
from interp.show.plots.style import (
    BASE_COLOUR,
    BASE_MARK,
    INK,
    CaptionedFigure,
    style,
)
from interp.show.plots.subject import Subject, said_of

_OFFSET = {"base": -0.06, "tuned": 0.06}
_RARE = 0.1  # highest end of an interval below which probabilities are drawn in powers of ten


def text_or_weights(results: Mapping[Trait, Origin] | Origin) -> CaptionedFigure:
    """One panel per trait: emoji probability against the writer, one line per reader.

    A line that rises from left to right says that the text calls for the emoji; a gap between the
    lines says that the tuned weights do.

    Args:
        results: by trait, or one of no named trait.
    """
    given = {None: results} if isinstance(results, Origin) else dict(results)
    tables = {Subject.of(trait): _emoji(result) for trait, result in given.items()}
    drawn = pd.concat([table[["probability", "low", "high"]] for table in tables.values()])
    highest, lowest = float(drawn.max().max()), float(drawn.where(drawn > 0).min().min())
    rare = 0 < highest < _RARE
    with style():
        figure, panels = multiples(len(tables), 2.2)
        for (who, table), (axes,) in zip(tables.items(), panels, strict=True):
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
            axes.set(xlim=(-0.35, 1.35))
            axes.set_xticks(range(len(ROLES)), ROLES)
            axes.set_title(who.title, fontsize=7.5 if len(tables) > 1 else None)
        if rare:
            panels[0][0].set_yscale("log", nonpositive="clip")
            panels[0][0].set_ylim(10 ** floor(log10(lowest)), 10 ** ceil(log10(highest)))
            panels[0][0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panels[0][0].yaxis.set_minor_formatter(NullFormatter())
        else:
            panels[0][0].set_ylim(-0.03, 1.03)
        counts = [int(n) for table in tables.values() for n in table["n"]]
        figure.supxlabel(with_n("Answer written by", counts, "answer"), fontsize=7.5)
        for (axes,) in panels[::ACROSS]:
            axes.set_ylabel("Emoji probability")
        _legend(figure, None if len(tables) > 1 else next(iter(tables)))
    figure.caption = (
        "Emoji probability (softmax mass on emoji tokens) where the text of the answer ends, by "
        "who wrote the answer (horizontal) and who reads it (lines). Means over "
        f"{count_range(counts, 'answer')} per writer, with 95 % intervals over topics. "
        "A line that rises: the text calls for the emoji; a gap between the lines: the weights do."
        + (" On a scale of powers of ten." if rare else "")
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
