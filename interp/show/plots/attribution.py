"""Direct attribution: how much each component writes along the emoji direction, run against run."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.parts import (
    colour_bar,
    heatmap,
    minus,
    percent,
    plural,
    ticks,
    with_n,
    zero_line,
)
from interp.show.plots.style import (
    BASE_COLOUR,
    INK,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
    symmetric_range,
)
from interp.show.plots.subject import Subject
from interp.traces.attribution import Attribution

_PANELS = {"attention": "Attention", "mlp": "MLP"}
_DIRECTIONS = {
    "path": (
        "the emoji direction (the metric's gradient averaged between the two runs: differences "
        "over all components sum to the measured difference)"
    ),
    "gradient": "the emoji direction (the metric's gradient at each run's own logits)",
    "fixed": "the mean emoji unembedding minus the mean of all others",
}
_LEVEL = 0.95


def attribution_components(
    result: Attribution,
    trait: Trait | str | None = None,
    *,
    clusters: Sequence[Hashable] | None = None,
) -> CaptionedFigure:
    """Contribution of each block's attention and MLP in both runs and, below, the difference.

    Args:
        result: two runs, by component.
        trait: the adapter's (its colour and name); neutral if left out.
        clusters: each prompt's topic, for the intervals.

    Raises:
        InputError: if there is one run only, or the attribution is by heads or neurons.
    """
    _check(result, "component")
    who = Subject.of(trait)
    table = result.summary(clusters=clusters, level=_LEVEL)
    first, second = result.runs
    with style():
        figure = new_figure(TWO_COLUMNS, 3.4)
        grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[1.5, 1])
        for column, (kind, title) in enumerate(_PANELS.items()):
            part = table[table["kind"] == kind]
            upper, lower = grid[:, column]
            for run, shift, colour in (
                (first, -0.2, BASE_COLOUR),
                (second, 0.2, who.colour),
            ):
                ends = (f"{run}_low", f"{run}_high")
                _bars(upper, part, run, ends, shift, 0.38, colour, run)
            _bars(lower, part, "difference", ("low", "high"), 0.0, 0.6, INK, None)
            upper.set_title(title)
            lower.set(xlabel=with_n("Block", [result.n_prompts], "prompt"))
            ticks(lower, "x", [str(layer) for layer in part["layer"]])
            for axes in (upper, lower):
                zero_line(axes)
        grid[0, 0].set(ylabel=f"Contribution\n({_unit(result)})")
        grid[1, 0].set(ylabel=f"{second.capitalize()} −\n{first}")
        grid[0, 1].legend(loc="best")
        figure.align_ylabels(grid[:, 0])
    figure.caption = (
        _caption(result, who)
        + _rest(result, table)
        + (
            f" Lines: {percent(_LEVEL)} intervals over "
            f"{'prompts' if clusters is None else plural(len(set(clusters)), 'topic')}."
        )
    )
    best = table.iloc[int(table["difference"].abs().argmax())]
    figure.alt = (
        f"Bar charts by block{who.about}: the largest difference ({second} minus {first}) is "
        f"{minus(format(best['difference'], '.2f'))} {_unit(result)}, at {best['name']}."
    )
    return figure


def attribution_heads(result: Attribution, trait: Trait | str | None = None) -> CaptionedFigure:
    """Block by head: each run, and their difference, on one colour scale.

    Raises:
        InputError: if there is one run only, or the attribution is not by heads.
    """
    _check(result, "head")
    who = Subject.of(trait)
    grid = result.grid("head").double().numpy()
    first, second = result.runs
    shown = {first: grid[0], second: grid[1], f"{second} − {first}": grid[1] - grid[0]}
    scale = symmetric_range(*shown.values())
    with style():
        figure = new_figure(TWO_COLUMNS, 1.1 + 0.16 * min(max(grid.shape[1], 6), 24))
        panels = figure.subplots(1, 3, sharey=True)
        for axes, (title, values) in zip(panels, shown.items(), strict=True):
            image = heatmap(axes, values, scale)
            ticks(axes, "x", [str(head) for head in range(grid.shape[2])], most=8)
            axes.set_title(f"{title[0].upper()}{title[1:]}")
        ticks(panels[0], "y", [str(layer) for layer in range(grid.shape[1])])
        panels[0].set(ylabel="Block")
        figure.supxlabel(with_n("Head", [result.n_prompts], "prompt"), fontsize=7.5)
        colour_bar(figure, image, panels, f"Contribution ({_unit(result)})")
    figure.caption = (
        _caption(result, who) + f" Colours centred at zero, range ±{scale.vmax:.2f}; hatched: not "
        "split into heads."
    )
    gap = grid[1] - grid[0]
    layer, head = np.unravel_index(np.nanargmax(np.abs(gap)), gap.shape)
    figure.alt = (
        f"Three heatmaps, block by head{who.about}: the largest difference is "
        f"{minus(format(gap[layer, head], '.2f'))} {_unit(result)}, at a{layer}.h{head}."
    )
    return figure


def _bars(
    axes: Axes,
    table: pd.DataFrame,
    mean: str,
    ends: tuple[str, str],
    shift: float,
    width: float,
    colour: str,
    label: str | None,
) -> None:
    middle, low, high = (table[name].to_numpy(dtype=float) for name in (mean, *ends))
    x = np.arange(len(middle)) + shift
    axes.bar(x, middle, width, color=colour, label=label)
    axes.vlines(x, low, high, color=INK if colour != INK else BASE_COLOUR, linewidth=0.9)


def _check(result: Attribution, by: str) -> None:
    if result.by != by:
        raise InputError(f"this figure is of an attribution by {by}, not by {result.by}")
    if len(result.runs) != 2:
        raise InputError("this figure compares two runs; use attribution.compare")


def _unit(result: Attribution) -> str:
    return "logits" if result.direction == "fixed" else result.unit


def _caption(result: Attribution, who: Subject) -> str:
    first, second = result.runs
    ends = ", ".join(
        f"{run} {minus(f'{float(values.double().mean()):.2f}')}"
        for run, values in zip(result.runs, result.metric_values, strict=True)
    )
    name = {"log_odds": "emoji log-odds"}.get(result.metric, result.metric)
    what = "heads" if result.by == "head" else "attention and MLP outputs"
    return (
        f"{who.title}: what the {what} of each block write at the onset position "
        f"along {_DIRECTIONS[result.direction]}, final norm frozen per prompt. Means over "
        f"{plural(result.n_prompts, 'prompt')}, in {_unit(result)}; {first} and {second}. Measured "
        f"{name} ({result.unit}): {ends}."
    )


def _rest(result: Attribution, table: pd.DataFrame) -> str:
    """What is not drawn: the input embedding and the biases."""
    rows = table[table["kind"].isin(["input", "bias"])]
    parts = [
        f"{row['name']} {minus(f'{row[result.runs[0]]:.2f}')} and "
        f"{minus(f'{row[result.runs[1]]:.2f}')}"
        for _, row in rows.iterrows()
    ]
    return f" Not drawn: {'; '.join(parts)}."
