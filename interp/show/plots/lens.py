"""The logit lens: how the emoji decision builds up over the layers, base against tuned."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from interp.base.traits import Trait
from interp.show.plots.parts import (
    ACROSS,
    band,
    colour_bar,
    count_range,
    fraction,
    heatmap,
    minus,
    multiples,
    percent,
    reading_names,
    ticks,
    with_n,
    zero_line,
)
from interp.show.plots.style import (
    BASE_COLOUR,
    BASE_MARK,
    INK,
    TWO_COLUMNS,
    CaptionedFigure,
    beyond,
    new_figure,
    style,
    symmetric_range,
)
from interp.show.plots.subject import Subject, by_subject, model_words, said_of
from interp.traces.logit_lens import UNITS, LensResult

_AXIS = {
    "log_odds": "Emoji log-odds (nats)",
    "go_on": "Words against stop (nats)",
    "given_go_on": "Emoji against words (nats)",
    "reference": "Log-odds of matched words (nats)",
    "probability": "Emoji probability",
    "log10_rank": "Rank of the best emoji, log10(1 + rank)",
}
_WHAT = {
    "log_odds": "Emoji log-odds (nats)",
    "go_on": "Log-odds of going on in words, against stopping (nats),",
    "given_go_on": "Log-odds of an emoji against words, given that the text goes on (nats),",
    "reference": "Log-odds of as many words as the outcome has tokens (nats)",
    "probability": "Emoji probability (share of the softmax)",
    "log10_rank": "Rank of the best emoji token, as log10(1 + rank), 0 is the top,",
}


def lens_curves(
    result: LensResult | Mapping[str, LensResult],
    trait: Trait | str | None = None,
    quantity: str = "log_odds",
    *,
    clusters: list[str] | None = None,
) -> CaptionedFigure:
    """Mean over prompts by layer at the onset position: base, tuned and, below, their difference.

    Args:
        result: base and tuned, read on the same tokens; or such by label, a panel each.
        trait: the adapter's (its colour and name); neutral if left out.
        quantity: one of `interp.logit_lens.UNITS`.
        clusters: each prompt's topic, for the intervals; see `LensResult.by_layer`.
    """
    tables = {
        who: (one, one.by_layer(quantity, clusters=clusters))
        for who, one in by_subject(result, trait).items()
    }
    with style():
        figure, panels = multiples(len(tables), 3.3 if len(tables) == 1 else 3.2, (2.2, 1))
        for (who, (one, table)), (axes, below) in zip(tables.items(), panels, strict=True):
            _curve(axes, below, table, who, quantity)
            if quantity == "log_odds" and bool(one.reference.isfinite().all()):
                words = one.tuned.by_layer("reference", clusters=clusters)["mean"]
                axes.plot(
                    range(len(words)), words, color=INK, lw=0.8, ls=":", label="matched words"
                )
            for panel in (axes, below):
                ticks(panel, "x", reading_names(one.labels), most=10 if len(tables) == 1 else 5)
        first, below = panels[0]
        counts = [int(n) for _, table in tables.values() for n in table["n"]]
        label = with_n("Residual stream after block", counts, "prompt")
        if len(tables) == 1:
            below.set_xlabel(label)
        else:
            figure.supxlabel(label, fontsize=7.5)
        for axes, gap in panels[::ACROSS]:
            axes.set(ylabel=_AXIS[quantity])
            gap.set(ylabel="Tuned − base")
        if quantity == "log10_rank":
            first.invert_yaxis()
        if len(tables) == 1:
            first.legend(loc="best")
        else:  # small panels have no room
            shown = first.get_legend_handles_labels()
            figure.legend(*shown, loc="outside upper left", ncols=len(shown[1]))
        figure.align_ylabels()
        dotted = "matched words" in first.get_legend_handles_labels()[1]
    one = next(iter(tables.values()))[0]
    _describe(figure, {who: table for who, (_, table) in tables.items()}, quantity, one.lens)
    if dotted:
        figure.caption += (
            " Dotted: as many tokens of words, each matched to an emoji's in the length of its "
            "unembedding row, read in the tuned model."
        )
    return said_of(figure, one.outcome)


def _curve(axes: Axes, below: Axes, table: pd.DataFrame, who: Subject, quantity: str) -> None:
    """Base and tuned by layer, and their difference below."""
    if quantity == "log_odds":
        zero_line(axes)
    zero_line(below)
    for model, colour, mark in (("base", BASE_COLOUR, BASE_MARK), ("tuned", who.colour, who.mark)):
        part = table[table["model"] == model]
        x, dash = part["layer"].to_numpy(), "--" if model == "base" else "-"
        band(axes, part, x=x, colour=colour, label=model, dash=dash, marker=mark)
    difference = table[table["model"] == "difference"]
    band(below, difference, x=x, colour=INK, label="tuned − base")
    axes.set_title(who.title)


def _describe(
    figure: CaptionedFigure, tables: Mapping[Subject, pd.DataFrame], quantity: str, lens: str
) -> None:
    unit = " nats" if UNITS[quantity] == "nats" else ""
    every = list(tables.values())
    gaps = {
        who: "{} [{}, {}]".format(
            *(
                minus(f"{table[c].iloc[-1]:+.2f}") if unit else fraction(table[c].iloc[-1])
                for c in ("mean", "low", "high")
            )
        )
        for who, table in tables.items()
    }
    names = {who: f" ({who.title.lower()})" if len(tables) > 1 else "" for who in tables}
    last = ", ".join(f"{gap}{names[who]}" for who, gap in gaps.items())
    figure.caption = (
        f"{_WHAT[quantity]} that the {lens} reads from the residual stream at the onset "
        f"position (the last token before the emoji would stand), by layer: the base and the "
        f"{model_words(tables)}, and below their difference. Mean over "
        f"{count_range([int(table['n'].iloc[0]) for table in every], 'prompt')}; shaded: "
        f"{percent(float(every[0]['level'].iloc[-1]))} interval over {_units(every[0])}. Last "
        f"layer, tuned minus base: {last}{unit}."
    )
    ends = {
        who: table.groupby("model")["mean"]
        .last()
        .map(lambda end: minus(f"{end:.2f}") if unit else fraction(end))
        for who, table in tables.items()
    }
    figure.alt = "Line chart by layer: " + "; ".join(
        f"the lens{who.about} ends at {end['base']} in the base and at {end['tuned']} in the "
        "tuned model"
        for who, end in ends.items()
    )
    figure.alt += f" ({_AXIS[quantity]})."


def _units(table: pd.DataFrame) -> str:
    n, clusters = int(table["n"].iloc[0]), int(table["n_clusters"].iloc[0])
    return "prompts" if n == clusters else f"{clusters:,} topics"


def lens_heatmap(
    result: LensResult | Mapping[str, LensResult],
    trait: Trait | str | None = None,
    *,
    last: int = 16,
) -> CaptionedFigure:
    """Mean emoji log-odds by layer and by distance to the onset position: base, tuned.

    Colours span what the onset's column reads after a block. What no block has touched yet (the
    embedding) and positions inside words lie far below it; were they to set the range, the column
    that the figure is about would be white. They have the last colour, and the bar a point.

    Args:
        result: base and tuned, read on the same tokens at all positions; or such by label, a row
            each on one scale.
        trait: the adapter's (its colour and name); neutral if left out.
        last: how many positions up to the onset are drawn.
    """
    given = by_subject(result, trait)
    tables, grids = {}, {}
    for who, one in given.items():
        table = one.by_position()
        tables[who] = table = table[table["from_onset"] > -last]
        for model, part in table.groupby("model"):
            grids[who, str(model)] = part.pivot(index="layer", columns="from_onset", values="mean")
    scale = symmetric_range(*(_onset(given[who], grid) for (who, _), grid in grids.items()))
    cut = beyond(scale, *grids.values())
    with style():
        names = [reading_names(one.labels) for one in given.values()]
        tall = 0.17 * min(max(max(map(len, names)), 8), 24)
        figure = new_figure(TWO_COLUMNS, 0.9 + tall * len(given))
        rows = figure.subplots(len(given), 2, sharey="row", sharex=True, squeeze=False)
        for row, who, labels in zip(rows, given, names, strict=True):
            for axes, model in zip(row, ("base", "tuned"), strict=True):
                grid = grids[who, model]
                image = heatmap(axes, grid.to_numpy(), scale)
                ticks(axes, "x", [minus(str(step)) for step in grid.columns])
                axes.set_title(_title(model, who, len(given)))
            ticks(row[0], "y", labels)
            row[0].set(ylabel="Residual stream after block" if len(given) == 1 else "After block")
        counts = pd.concat([table["n"] for table in tables.values()])
        figure.supxlabel(with_n("Position from the onset (0)", counts, "prompt"), fontsize=7.5)
        colour_bar(figure, image, rows, "Emoji log-odds (nats)", extend=cut)
    lens = next(iter(given.values())).lens
    figure.caption = (
        f"Mean emoji log-odds (nats) that the {lens} reads, by layer and position, in the base "
        f"and in the {model_words(given)}; position 0 is the onset, whose next token would "
        f"begin the emoji. Cells: means over {count_range(counts, 'prompt')}; the colour "
        f"scale is shared, centred at zero and spans what the onset's column reads after a block "
        f"(range ±{scale.vmax:.1f} nats); cells beyond it have its last colour."
    )
    peaks = {key: minus(f"{np.nanmax(grid.to_numpy()):.1f}") for key, grid in grids.items()}
    figure.alt = "Heatmaps, layer by position: " + "; ".join(
        f"the highest emoji log-odds{who.about} are {peaks[who, 'base']} nats in the base and "
        f"{peaks[who, 'tuned']} nats in the tuned model"
        for who in given
    )
    figure.alt += "."
    return said_of(figure, next(iter(given.values())).outcome)


def _onset(result: LensResult, grid: pd.DataFrame) -> pd.Series:
    """What the onset's column reads after a block."""
    blocks = [row for row, label in enumerate(result.labels) if label != "embedding"]
    return grid.loc[blocks or grid.index, 0]


def _title(model: str, who: Subject, panels: int) -> str:
    if panels > 1:
        return f"{who.title}: {model}"
    return "Base" if model == "base" else f"Tuned{who.about}"
