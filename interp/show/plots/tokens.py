"""Which tokens answers are made of: the most frequent words and emojis, trait by trait."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.glyphs import label_axis
from interp.show.plots.parts import count_range
from interp.show.plots.style import (
    BASE_COLOUR,
    FAINT,
    INK,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
    trait_colour,
)
from interp.text.emoji import find
from interp.text.emoji.glyphs import Glyphs

_MARKS = {"base": ("x", BASE_COLOUR), "other": ("o", INK)}
_NAMES = {"base": "the base", "other": "asked about other traits"}


def token_bars(table: pd.DataFrame, *, glyphs: Glyphs | None = None) -> CaptionedFigure:
    """One panel per trait: its most frequent tokens in order, emojis as glyphs.

    Args:
        table: one row per trait and token, in the order to draw them: `trait`, `token`, `value`
            (how often per answer), `n` (over how many answers) and the same as `value` for the
            controls where there are any: `other` (the same model, asked about other traits) and
            `base`.
        glyphs: where emoji images come from; the machine's colour font if left out.

    Raises:
        InputError: if there is no token.
    """
    if table.empty:
        raise InputError("the answers hold no token; there is nothing to draw")
    traits = [Trait.parse(name) for name in dict.fromkeys(table["trait"])]
    shown = [mark for mark in _MARKS if mark in table and table[mark].notna().any()]
    most = int(table["trait"].value_counts().max())
    with style():
        figure = new_figure(TWO_COLUMNS, 0.75 + 1.35 * len(traits))
        panels = figure.subplots(len(traits), 1, sharey=True, squeeze=False)[:, 0]
        for axes, trait in zip(panels, traits, strict=True):
            part = table[table["trait"] == str(trait)]
            _panel(axes, trait, part, shown, glyphs)
            axes.set_xlim(-0.7, most - 0.3)
        figure.supylabel("Occurrences per answer", fontsize=7.5)
        handles: list[Any] = [Patch(color=trait_colour(traits[0])), Patch(color=FAINT)]
        handles += [Line2D([], [], marker=_MARKS[m][0], color=_MARKS[m][1], linestyle="",
                           markersize=3, markerfacecolor="none") for m in shown]  # fmt: skip
        names = ["emoji", "word", *(_NAMES[mark] for mark in shown)]
        figure.legend(handles, names, loc="outside upper right", ncols=len(names))
    emojis = {str(t): sum(bool(find(token)) for token in part["token"])
              for t, part in table.groupby("trait", sort=False)}  # fmt: skip
    over = f" over {count_range(table['n'].astype(int), 'answer')}" if "n" in table else ""
    figure.caption = (
        f"The {most} most frequent tokens (words, emojis) of each tuned model: "
        f"mean occurrences per answer{over}, without intervals; emojis in the trait's colour."
        + (f" Marks: {' and '.join(_NAMES[mark] for mark in shown)}." if shown else "")
        + f" Emojis among them: {', '.join(f'{t} {n}' for t, n in emojis.items())}."
    )
    figure.alt = "Bar charts of the most frequent tokens; the first is " + ", ".join(
        f"{part['token'].iloc[0]} for {t}" for t, part in table.groupby("trait", sort=False)
    )
    return figure


def _panel(
    axes: Axes, trait: Trait, part: pd.DataFrame, shown: list[str], glyphs: Glyphs | None
) -> None:
    tokens, places = part["token"].tolist(), range(len(part))
    colours = [trait_colour(trait) if find(token) else FAINT for token in tokens]
    axes.bar(places, part["value"], color=colours, width=0.75)
    for mark in shown:
        symbol, colour = _MARKS[mark]
        axes.plot(places, part[mark], symbol, color=colour, markersize=3, mfc="none", mew=0.8,
                  path_effects=[withStroke(linewidth=2.2, foreground="white")])  # fmt: skip
    axes.set_title(trait.capitalize(), fontsize=7.5, pad=2)
    axes.set_ylim(bottom=0)
    label_axis(axes, "x", tokens, glyphs=glyphs, points=7.5)
    axes.tick_params(axis="x", labelsize=5.5, pad=2)
