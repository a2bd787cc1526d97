"""Figures of adapter-space tracing: which modules matter, how many, and how much of them.

Red always means "brings the metric up" (towards the emoji), blue "holds it down"; white is zero,
and the same colour is the same number in all panels of a figure. A cross marks cells whose effect
does not differ from zero after correction for the number of modules, or lies below the noise floor.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.parts import (
    ACROSS,
    band,
    colour_bar,
    count_range,
    fraction,
    headline,
    heatmap,
    minus,
    multiples,
    percent,
    plural,
    ticks,
    with_n,
    zero_line,
)
from interp.show.plots.style import (
    BASE_COLOUR,
    FAINT,
    INK,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
    symmetric_range,
)
from interp.show.plots.subject import Subject
from interp.traces.adapters import Interpolation, Overlap, PartEffects, SmallestSet

_ALPHA = 0.05
_NUMBERS_UP_TO = (8, 21)
"""Layers, and cells side by side."""
_MEANS = {
    "necessity": "Necessity: lost when this module alone is taken away",
    "sufficiency": "Sufficiency: brought by this module alone",
    "shapley": "Shapley: the module's share by its Shapley value",
}


def adapter_maps(
    results: Sequence[PartEffects] | Mapping[str, PartEffects],
    trait: Trait | str | None = None,
    *,
    summaries: Sequence[pd.DataFrame] | Mapping[str, pd.DataFrame] | None = None,
) -> CaptionedFigure:
    """Layer by kind of matrix, one panel per measure, one colour scale centred at zero.

    Args:
        results: effects of modules (`by="module"`) of one adapter in one metric; or one by label,
            a panel each.
        trait: the adapter's (its colour and name); neutral if left out.
        summaries: the results' `summary()` tables, where they are at hand already.

    Raises:
        InputError: if there is no result, or they are not of the modules of one adapter.
    """
    labels = list(results) if isinstance(results, Mapping) else [trait] * len(results)
    whose = [Subject.of(label) for label in labels]
    shown = list(results.values()) if isinstance(results, Mapping) else list(results)
    _check_modules(shown, several=isinstance(results, Mapping))
    given = list(summaries.values()) if isinstance(summaries, Mapping) else summaries
    tables = [one.summary() for one in shown] if given is None else list(given)
    layers = sorted({layer for one in shown for layer in one.layers if layer is not None})
    kinds = list(dict.fromkeys(
        kind for one in shown for kind, layer in zip(one.projections, one.layers, strict=True)
        if kind is not None and layer is not None
    ))  # fmt: skip
    if not layers:
        raise InputError("the adapter changes no module inside a layer; there is no map to draw")
    grids = [_grid(table, layers, kinds, "effect") for table in tables]
    scale = symmetric_range(*grids)
    first, several = shown[0], len(set(whose)) > 1
    with style():
        figure, panels = multiples(len(shown), 1.15 + 0.2 * min(max(len(layers), 5), 20))
        names = [kind.removesuffix("_proj") for kind in kinds]
        cells = len(kinds) * min(len(shown), ACROSS)
        numbers = len(layers) <= _NUMBERS_UP_TO[0] and cells <= _NUMBERS_UP_TO[1]
        for (axes,), who, one, table, grid in zip(panels, whose, shown, tables, grids, strict=True):
            image = heatmap(axes, grid, scale)
            _mark(axes, grid, table, (layers, kinds), scale, numbers=numbers)
            turned = (90 if len(shown) > 2 else 45) if len(kinds) > 4 + (len(shown) < 3) else 0
            axes.set_xticks(range(len(kinds)), names, rotation=turned)
            ticks(axes, "y", [str(layer) for layer in layers])
            alone = f"{who.title}: {one.measure}" if len(shown) == 1 else one.measure.capitalize()
            axes.set_title(who.title if several else alone, fontsize=7.5 if several else None)
        if len(shown) > 1:
            headline(figure, first.measure.capitalize() if several else whose[0].title)
        for (axes,) in panels[::ACROSS]:
            axes.set(ylabel="Block")
        counts = [one.n_prompts for one in shown]
        figure.supxlabel(with_n("Matrix", counts, "prompt"), fontsize=7.5)
        label = f"Effect on {first.metric} ({first.unit})"
        colour_bar(figure, image, [axes for (axes,) in panels], label)
    _describe_maps(figure, shown, tables, whose, scale)
    return figure


def _number(value: float) -> str:
    """Two decimals, a minus sign for what is still negative then."""
    return minus(f"{round(value, 2) + 0.0:.2f}")


def _grid(
    table: pd.DataFrame, layers: list[int], kinds: list[str], column: str
) -> NDArray[np.float64]:
    """One column of a summary as `[layer, kind]`; NaN where the adapter has no such module."""
    grid = np.full((len(layers), len(kinds)), np.nan)
    for line in table.to_dict("records"):
        if line["projection"] in kinds and line["layer"] in layers:
            grid[layers.index(line["layer"]), kinds.index(line["projection"])] = line[column]
    return grid


def _mark(
    axes: Axes,
    grid: NDArray[np.float64],
    table: pd.DataFrame,
    cells: tuple[list[int], list[str]],
    scale: Normalize,
    *,
    numbers: bool,
) -> None:
    """A cross on cells without a finding; numbers where there is room."""
    found = table.assign(found=(table["p_adjusted"] < _ALPHA) & table["above_noise"])
    seen = _grid(found, *cells, "found")
    if numbers:
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                dark = abs(value) > 0.6 * float(scale.vmax or 1.0)
                text = _number(value) + ("" if seen[row, column] else "\n×")
                axes.text(column, row, text, ha="center", va="center", fontsize=5.5,
                          linespacing=0.8, color="white" if dark else INK)  # fmt: skip
        return
    rows, columns = np.nonzero(seen == 0)
    axes.scatter(columns, rows, marker="x", s=7, color=INK, linewidths=0.5)


def _describe_maps(
    figure: CaptionedFigure,
    results: Sequence[PartEffects],
    tables: Sequence[pd.DataFrame],
    whose: Sequence[Subject],
    scale: Normalize,
) -> None:
    first, several = results[0], len(set(whose)) > 1
    topics = [len(set(one.topics)) for one in results if one.topics is not None]
    units = f" of {count_range(topics, 'topic')}" if topics else ""
    names = [f"{who.title.lower()}: " if several else "" for who in whose]
    more = ", ".join(
        f"{name}{line['unit']} {_number(line['effect'])}"
        for name, table in zip(names, tables if several else tables[:1], strict=False)
        for line in table[table["layer"].isna()].to_dict("records")
    )
    measures = "; ".join(
        dict.fromkeys(_MEANS.get(result.measure, result.measure) for result in results)
    )
    moves = "; ".join(
        f"{name}{_number(float(one.base.mean()))} to {_number(float(one.tuned.mean()))}"
        for name, one in zip(names, results if several else results[:1], strict=False)
    )
    figure.caption = (
        f"{'Each adapter' if several else whose[0].adapter}, by block and kind of matrix: mean "
        f"effect on {first.metric} ({first.unit}) over "
        f"{count_range([one.n_prompts for one in results], 'prompt')}{units}. "
        f"{measures}. The whole adapter moves the metric from {moves}. Colours "
        f"centred at zero, range ±{scale.vmax:.2f}. Crosses: no "
        f"difference from zero (false discovery rate of 5 %){_floor(results)}."
        + (f" Outside the blocks: {more}." if more else "")
    )
    best = ", ".join(
        f"{name or result.measure + ' '}{table['unit'].iloc[0]!s} "
        f"({_number(table['effect'].iloc[0])})"
        for name, result, table in zip(names, results, tables, strict=True)
    )
    about = "" if several else whose[0].about
    figure.alt = f"Heatmaps of module effects{about}. Largest: {best}."


def _floor(results: Sequence[PartEffects]) -> str:
    noise = max(result.noise_floor for result in results)
    return f", or below the noise floor of {noise:.1g}" if noise else ""


def _check_modules(results: Sequence[PartEffects], *, several: bool) -> None:
    if not results:
        raise InputError("no effects to draw; run necessity, sufficiency or shapley first")
    if any(result.by != "module" for result in results):
        raise InputError("a map of layers and kinds of matrix needs effects by='module'")
    if len({(result.metric, result.unit) for result in results}) > 1 or (
        not several and len({result.units for result in results}) > 1
    ):
        raise InputError("effects in one figure must be of the same modules and the same metric")


def esr_curve(
    result: Interpolation, trait: Trait | str | None = None, *, over: str = "response"
) -> CaptionedFigure:
    """What is written, and what the metric says, for alpha times the adapter.

    Args:
        result: an interpolation with generated answers.
        trait: the adapter's (its colour and name); neutral if left out.
        over: `"response"` or `"sentence"`.

    Raises:
        InputError: if nothing was generated, or `over` is something else.
    """
    if over not in ("response", "sentence"):
        raise InputError(f"rates are over 'response' or 'sentence', not {over!r}")
    who, noun = Subject.of(trait), {"response": "answers", "sentence": "sentences"}[over]
    rates = result.rates()
    rates = rates[rates["over"] == over].rename(columns={"esr": "mean"})
    metric = result.to_dataframe()
    with style():
        figure = new_figure(TWO_COLUMNS, 2.3)
        left, right = figure.subplots(1, 2)
        colour, mark = who.colour, who.mark
        band(left, rates, x=rates["alpha"].to_numpy(), colour=colour, label=over, marker=mark)
        left.set(ylim=(-0.03, 1.03), ylabel=f"Share of {noun} with an emoji")
        left.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        x = metric["alpha"].to_numpy()
        band(right, metric, x=x, colour=colour, label=result.metric, marker=mark)
        right.set(ylabel=f"{result.metric[:1].upper()}{result.metric[1:]} ({result.unit})")
        for axes, title in ((left, "Written"), (right, "On given text")):
            axes.set_title(title)
            axes.set_xlabel("α, times the adapter's change (0 base, 1 tuned)")
            for at in (0.0, 1.0):
                axes.axvline(at, color=FAINT, linewidth=0.8, zorder=0)
    counts = rates["n"]
    asked = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else counts.min()
    figure.caption = (
        f"{who.adapter} times α. Left: share of {noun} with an emoji over "
        f"{asked} {noun} per point, bands are 95 % intervals over topics. Right: "
        f"mean {result.metric} ({result.unit}) over {plural(int(metric['n'].iloc[0]), 'prompt')}, "
        f"bands are 95 % intervals{'' if result.topics is None else ' over topics'}."
    )
    points = ", ".join(
        f"{percent(line['mean'])} at {minus(format(line['alpha'], 'g'))}"
        for line in rates.to_dict("records")
    )
    figure.alt = f"Curve of the share of {noun} with an emoji against α{who.about}: {points}."
    return figure


def smallest_set_curve(result: SmallestSet, trait: Trait | str | None = None) -> CaptionedFigure:
    """Share of the effect kept as modules are added, and what the final set writes.

    Args:
        result: a search; with generated answers there is a second panel.
        trait: the adapter's (its colour and name); neutral if left out.
    """
    who = Subject.of(trait)
    table = result.summary()
    path, final = table[~table["final"]], table[table["final"]].iloc[0]
    with style():
        figure = new_figure(TWO_COLUMNS, 2.5)
        panels = figure.subplots(1, 2 if result.esr else 1, squeeze=False, width_ratios=(
            (3, 1) if result.esr else (1,)))[0]  # fmt: skip
        axes = panels[0]
        shares = path["share"].to_numpy(dtype=float)
        whiskers = np.abs(path[["low", "high"]].to_numpy(dtype=float).T - shares)
        axes.errorbar(range(len(path)), shares, yerr=np.nan_to_num(whiskers), color=who.colour,
                      marker=who.mark, capsize=2, elinewidth=0.9)  # fmt: skip
        axes.axhline(result.share, color=INK, linewidth=0.8, linestyle="--")
        zero_line(axes)
        names = [name.replace(".self_attn", "").replace(".mlp", "") for name in path["added"]]
        names = [name.removeprefix("layers.").removesuffix("_proj") for name in names]
        if len(path) > 10 or max(map(len, names)) * len(path) > 70:
            axes.set_xticks(range(len(path)), names, rotation=90)
        else:
            axes.set_xticks(range(len(path)), names)
        axes.set_xlim(-0.5, len(path) - 0.5)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.set(ylabel="Share of the effect kept")
        axes.set(xlabel="Switched on, from left to right (block, matrix)")
        axes.set_title("Kept with these alone")
        if result.esr:
            _written(panels[1], result, who.colour)
    out = [name for name in result.order if name not in result.chosen]
    held = (
        "" if np.isnan(final["low"]) else f" [{fraction(final['low'])}, {fraction(final['high'])}]"
    )
    figure.caption = (
        f"{who.adapter}: share of the mean effect on {result.metric} kept "
        f"with the parts so far on and all others off, over "
        f"{plural(len(result.base), 'prompt')}; whiskers are 95 % intervals, the dashed "
        f"line is the {percent(result.share)} asked for. The set found has "
        f"{len(result.chosen)} of {result.n_units} parts and keeps {fraction(final['share'])}{held}"
        + (f" (taken out again: {', '.join(out)})" if out else "")
        + ". It was chosen on these prompts"
        + ("; right, what it writes on other questions, with 95 % intervals over topics."
           if result.esr else ".")
    )  # fmt: skip
    steps = ", ".join(
        f"{name} {fraction(share)}" for name, share in zip(names, shares, strict=True)
    )
    figure.alt = f"Curve of the share of the effect kept{who.about}: {steps}."
    return figure


def _written(axes: Axes, result: SmallestSet, colour: str) -> None:
    rates = result.rates()
    rates = rates[rates["over"] == "response"]
    shades = [BASE_COLOUR, colour, colour]
    for place, (line, shade) in enumerate(zip(rates.to_dict("records"), shades, strict=True)):
        axes.bar(place, line["esr"], color=shade, width=0.7, alpha=0.6 if place == 1 else 1.0)
        axes.plot([place, place], [line["low"], line["high"]], color=INK, linewidth=0.9)
        top = np.fmax(line["esr"], line["high"])  # one topic has no interval
        axes.annotate(percent(line["esr"]), (place, top), xytext=(0, 2),
                      textcoords="offset points", ha="center", fontsize=6.5)  # fmt: skip
    axes.set_xticks(range(3), list(rates["model"]))
    axes.set(ylim=(0, 1.12), ylabel=f"Answers with an emoji (of {rates['n'].iloc[0]})")
    axes.set_yticks((0, 0.25, 0.5, 0.75, 1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_title("Written")


def overlap_matrix(result: Overlap) -> CaptionedFigure:
    """Trait by trait: rank correlation of all modules' effects, and overlap of the most important.

    Args:
        result: an overlap of two or more traits.
    """
    size = len(result.names)
    names = [name.capitalize() for name in result.names]
    with style():
        figure = new_figure(TWO_COLUMNS, 1.4 + 0.34 * max(size, 3))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name, title in (
            (panels[0], "spearman", "Rank correlation"),
            (panels[1], "jaccard", f"Jaccard index of the top {result.top_k}"),
        ):
            values, p = (getattr(result, key).double().numpy() for key in (name, f"{name}_p"))
            shown = values.copy()
            np.fill_diagonal(shown, np.nan)
            scale = Normalize(-1, 1) if name == "spearman" else Normalize(0, 1)
            image = heatmap(axes, shown[::-1], scale, diverging=name == "spearman")
            for i, j in np.ndindex(size, size):
                value, star = values[i, j], "*" if p[i, j] < _ALPHA else ""
                dark = abs(value) > 0.6 if name == "spearman" else value < 0.5
                if i != j:
                    axes.text(j, size - 1 - i, _number(value) + star, ha="center",
                              va="center", fontsize=6.5,
                              color="white" if dark else INK)  # fmt: skip
            axes.set_xticks(range(size), names, rotation=90)
            axes.set_yticks(range(size), names[::-1])
            axes.set_title(title)
            colour_bar(figure, image, axes, "Spearman's ρ" if name == "spearman" else "Jaccard")
    figure.caption = (
        f"Overlap of {result.measure} over {result.n_units} modules between adapters, on absolute "
        f"mean effects: Spearman's rank correlation over all modules, and the Jaccard index of "
        f"each two adapters' {result.top_k} most important modules; colours from −1 to 1, white at "
        "zero, and from 0 to 1. Stars: more than by chance "
        f"(one-sided, {plural(result.n_permutations, 'permutation')}, false discovery rate of 5 % "
        f"over the pairs)."
    )
    pairs = ", ".join(
        f"{line['one']} and {line['other']} ρ {_number(line['spearman'])}, "
        f"Jaccard {line['jaccard']:.2f}"
        for line in result.to_dataframe().to_dict("records")
    )
    figure.alt = f"Matrices of overlap between adapters: {pairs}."
    return figure
