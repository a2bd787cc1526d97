"""The logit lens: how the emoji decision builds up over the layers, base against tuned."""

import numpy as np
import pandas as pd

from interp.base.traits import Trait
from interp.show.plots.parts import (
    band,
    colour_bar,
    count_range,
    heatmap,
    minus,
    percent,
    plural,
    reading_names,
    ticks,
    with_n,
    zero_line,
)
from interp.show.plots.style import (
    BASE_COLOUR,
    BASE_MARK,
    INK,
    ONE_COLUMN,
    TWO_COLUMNS,
    CaptionedFigure,
    beyond,
    new_figure,
    style,
    symmetric_range,
)
from interp.show.plots.subject import Subject, said_of
from interp.traces.logit_lens import UNITS, LensResult

_AXIS = {
    "log_odds": "Emoji log-odds (nats)",
    "go_on": "Words against stop (nats)",
    "given_go_on": "Emoji against words (nats)",
    "probability": "Emoji probability",
    "log10_rank": "Rank of the best emoji, log10(1 + rank)",
}
_WHAT = {
    "log_odds": "Emoji log-odds (nats)",
    "go_on": "Log-odds of going on in words, against stopping (nats),",
    "given_go_on": "Log-odds of an emoji against words, given that the text goes on (nats),",
    "probability": "Emoji probability (share of the softmax)",
    "log10_rank": "Rank of the best emoji token, as log10(1 + rank), 0 is the top,",
}


def lens_curves(
    result: LensResult,
    trait: Trait | str | None = None,
    quantity: str = "log_odds",
    *,
    clusters: list[str] | None = None,
) -> CaptionedFigure:
    """Mean over prompts by layer at the onset position: base, tuned and, below, their difference.

    Args:
        result: base and tuned, read on the same tokens.
        trait: the adapter's (its colour and name); neutral if left out.
        quantity: one of `interp.logit_lens.UNITS`.
        clusters: each prompt's topic, for the intervals; see `LensResult.by_layer`.
    """
    who = Subject.of(trait)
    table = result.by_layer(quantity, clusters=clusters)
    names = reading_names(result.labels)
    with style():
        figure = new_figure(ONE_COLUMN, 3.3)
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
        if quantity == "log_odds":
            zero_line(axes)
        looks = (
            ("base", BASE_COLOUR, BASE_MARK),
            ("tuned", who.colour, who.mark),
        )
        for model, colour, mark in looks:
            part = table[table["model"] == model]
            x, dash = part["layer"].to_numpy(), "--" if model == "base" else "-"
            band(axes, part, x=x, colour=colour, label=model, dash=dash, marker=mark)
        zero_line(below)
        difference = table[table["model"] == "difference"]
        band(below, difference, x=x, colour=INK, label="tuned − base")
        below.set(ylabel="Tuned − base")
        below.set_xlabel(with_n("Residual stream after block", table["n"], "prompt"))
        ticks(below, "x", names, most=10)
        axes.set(ylabel=_AXIS[quantity])
        if quantity == "log10_rank":
            axes.invert_yaxis()
        axes.set_title(who.title)
        axes.legend(loc="best")
        figure.align_ylabels()
    gap, low, high = (minus(f"{table[c].iloc[-1]:+.2f}") for c in ("mean", "low", "high"))
    level = float(table["level"].iloc[-1])
    figure.caption = (
        f"{_WHAT[quantity]} that the logit lens reads from the residual stream at the onset "
        f"position (the last token before the emoji would stand), by layer: the base and the "
        f"{who.model}, and below their difference. Mean over "
        f"{plural(int(table['n'].iloc[0]), 'prompt')}; shaded: "
        f"{percent(level)} interval over {_units(table)}. Last layer, tuned minus base: "
        f"{gap} [{low}, {high}]{' nats' if UNITS[quantity] == 'nats' else ''}."
    )
    ends = {m: minus(f"{end:.2f}") for m, end in table.groupby("model")["mean"].last().items()}
    figure.alt = (
        f"Line chart by layer{who.about}: the lens ends at {ends['base']} in the base and at "
        f"{ends['tuned']} in the tuned model ({_AXIS[quantity]})."
    )
    return said_of(figure, result.outcome)


def _units(table: pd.DataFrame) -> str:
    n, clusters = int(table["n"].iloc[0]), int(table["n_clusters"].iloc[0])
    return "prompts" if n == clusters else f"{clusters:,} topics"


def lens_heatmap(
    result: LensResult, trait: Trait | str | None = None, *, last: int = 16
) -> CaptionedFigure:
    """Mean emoji log-odds by layer and by distance to the onset position: base, tuned.

    Colours span what the onset's column reads after a block. What no block has touched yet (the
    embedding) and positions inside words lie far below it; were they to set the range, the column
    that the figure is about would be white. They have the last colour, and the bar a point.

    Args:
        result: base and tuned, read on the same tokens at all positions.
        trait: the adapter's (its colour and name); neutral if left out.
        last: how many positions up to the onset are drawn.
    """
    who = Subject.of(trait)
    table = result.by_position()
    table = table[table["from_onset"] > -last]
    grids = {
        model: part.pivot(index="layer", columns="from_onset", values="mean")
        for model, part in table.groupby("model")
    }
    blocks = [row for row, label in enumerate(result.labels) if label != "embedding"]
    onset = [grid.loc[blocks or grid.index, 0] for grid in grids.values()]
    scale = symmetric_range(*onset)
    cut = beyond(scale, *grids.values())
    names = reading_names(result.labels)
    with style():
        figure = new_figure(TWO_COLUMNS, 0.9 + 0.17 * min(max(len(names), 8), 24))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, model in zip(panels, ("base", "tuned"), strict=True):
            image = heatmap(axes, grids[model].to_numpy(), scale)
            ticks(axes, "x", [minus(str(step)) for step in grids[model].columns])
            axes.set_title("Base" if model == "base" else f"Tuned{who.about}")
        ticks(panels[0], "y", names)
        panels[0].set(ylabel="Residual stream after block")
        figure.supxlabel(with_n("Position from the onset (0)", table["n"], "prompt"), fontsize=7.5)
        colour_bar(figure, image, panels, "Emoji log-odds (nats)", extend=cut)
    figure.caption = (
        f"Mean emoji log-odds (nats) that the logit lens reads, by layer and position, in the base "
        f"and in the {who.model}; position 0 is the onset, whose next token would "
        f"begin the emoji. Cells: means over {count_range(table['n'], 'prompt')}; the colour "
        f"scale is shared, centred at zero and spans what the onset's column reads after a block "
        f"(range ±{scale.vmax:.1f} nats); cells beyond it have its last colour."
    )
    peaks = {m: minus(f"{np.nanmax(grid.to_numpy()):.1f}") for m, grid in grids.items()}
    figure.alt = (
        f"Two heatmaps, layer by position{who.about}: the highest emoji log-odds are "
        f"{peaks['base']} nats in the base and {peaks['tuned']} nats in the tuned model."
    )
    return said_of(figure, result.outcome)
