"""Dots with their intervals: one row per method, measure or condition, one dot per trait in it."""

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from interp.base.errors import InputError
from interp.show.plots.parts import count_range, percent
from interp.show.plots.style import (
    BASE_COLOUR,
    FAINT,
    INK,
    TRAIT_COLOURS,
    TRAIT_MARKS,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
)

_SHADES = {str(trait): colour for trait, colour in TRAIT_COLOURS.items()}
_MARKS = {str(trait): mark for trait, mark in TRAIT_MARKS.items()}
_STEP = 0.11  # inches between the dots of one row
_LINE = 95  # letters in a line of the legend


def dots(
    table: pd.DataFrame,
    quantity: str,
    *,
    share: bool = False,
    reference: float | None = None,
    level: float = 0.95,
    noun: str = "answer",
    unit: str | None = None,
) -> CaptionedFigure:
    """A dot with its interval for each row of a table.

    Args:
        table: columns `group` (the rows of the figure, in order of first appearance), `value`,
            `low`, `high`, and if there are any `trait` (colour; a name that is no Big Five trait is
            grey, for what belongs to none) and `n`. Rows without a value are left out and counted.
        quantity: what is drawn, with its unit; the label of the axis.
        share: whether values are shares, drawn as percentages of 0 to 100.
        reference: where to draw a line that says "no effect".
        level: of the intervals, for the caption.
        noun: what `n` counts, in the singular, for the caption.
        unit: what the intervals are over (`topics`), for the caption.

    Raises:
        InputError: if columns are missing, or no row has a value.
    """
    lacking = {"group", "value", "low", "high"} - set(table.columns)
    shown = table.dropna(subset=["value"]) if not lacking else table.iloc[:0]
    if lacking or shown.empty:
        what = f"lacks the columns {', '.join(sorted(lacking))}" if lacking else "has no value"
        raise InputError(f"the table {what}; there is nothing to draw")
    groups = list(dict.fromkeys(shown["group"]))
    traits = list(dict.fromkeys(shown["trait"])) if "trait" in shown else [None]
    row = _STEP * max(2.0, len(traits) + 0.8)
    with style():
        figure = new_figure(TWO_COLUMNS, 0.75 + row * len(groups))
        axes = figure.subplots()
        if reference is not None:
            axes.axvline(reference, color=FAINT, linewidth=0.8, zorder=0)
        for place, group in enumerate(groups):
            for part in shown[shown["group"] == group].to_dict("records"):
                nth = traits.index(part.get("trait")) - (len(traits) - 1) / 2
                _dot(axes, place + nth * _STEP / row, part)
            if place:
                axes.axhline(place - 0.5, color="#ECEEF0", linewidth=0.6, zorder=0)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_yticks(range(len(groups)), groups)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{quantity[:1].upper()}{quantity[1:]}")
        if share:
            axes.set_xlim(-0.02, 1.02)
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        named = [str(trait) for trait in traits if trait]
        if named:
            handles = [
                Line2D([], [], color=_SHADES.get(t, BASE_COLOUR), marker=_MARKS.get(t, "o"),
                       linestyle="", markersize=4)
                for t in named
            ]  # fmt: skip
            room = max(1, _LINE // (max(map(len, named)) + 6))
            one_line = sum(len(name) + 6 for name in named) <= _LINE
            figure.legend(handles, named, loc="outside upper center",
                          ncols=len(named) if one_line else room)  # fmt: skip
    left_out = len(table) - len(shown)
    over = f" Over {count_range(shown['n'].astype(int), noun)} each." if "n" in shown else ""
    units = f" over {unit}" if unit else ""
    figure.caption = (
        f"{quantity[:1].upper()}{quantity[1:]}; lines are {percent(level)} intervals{units}.{over}"
        + (f" {left_out} rows without a value are left out." if left_out else "")
    )
    figure.alt = f"Dot plot of {quantity} for " + ", ".join(map(str, groups))
    return figure


def _dot(axes: Any, place: float, part: dict[str, Any]) -> None:
    trait = str(part.get("trait"))
    colour = _SHADES.get(trait, BASE_COLOUR if "trait" in part else INK)
    if pd.notna(part["low"]) and pd.notna(part["high"]):
        axes.plot([part["low"], part["high"]], [place, place], color=colour, linewidth=1.1)
    axes.plot(part["value"], place, marker=_MARKS.get(trait, "o"), color=colour, markersize=4)
