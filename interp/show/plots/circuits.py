"""Circuits in figures: faithfulness over sizes, and how much traits share.

The layered graph is in `circuit_graph`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.parts import (
    band,
    colour_bar,
    fraction,
    heatmap,
    minus,
    percent,
    plural,
    with_n,
    zero_line,
)
from interp.show.plots.style import (
    BASE_COLOUR,
    INK,
    ONE_COLUMN,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
)
from interp.show.plots.subject import Subject
from interp.traces.circuits import Comparison, Faithfulness

_UNNAMED = "the circuit"


def faithfulness_curve(
    results: Faithfulness | Mapping[str, Faithfulness],
    trait: Trait | str | None = None,
    *,
    clusters: list[str] | None = None,
) -> CaptionedFigure:
    """Faithfulness over circuit sizes, one line per trait, with bands of intervals.

    Args:
        results: one curve, or curves by trait.
        trait: of the one curve; neutral if left out.
        clusters: each prompt's topic, for the bands.

    Raises:
        InputError: if a result is no curve.
    """
    if isinstance(results, Faithfulness):
        results = {str(Trait.parse(trait)) if trait else _UNNAMED: results}
    if not results or any(len(result.shares) < 2 for result in results.values()):
        raise InputError("this figure is of curves over circuit sizes; call curve() first")
    captions = []
    with style():
        figure = new_figure(ONE_COLUMN, 2.8)
        axes = figure.subplots()
        zero_line(axes)
        zero_line(axes, 1.0)
        for name, result in results.items():
            who = Subject.of(None if name == _UNNAMED else name)
            table = result.to_dataframe(clusters=clusters).rename(columns={"faithfulness": "mean"})
            x = np.array(result.shares)
            band(axes, table, x=x, colour=who.colour, label=name, marker=who.mark)
            if len(result.complement) and len(results) == 1:
                axes.plot(x, table["without"], "--", color=BASE_COLOUR, marker="o", mfc="white",
                          markersize=3, label="without the circuit")  # fmt: skip
            if "random" in table:
                axes.plot(x, table["random"], ":", color=who.colour, linewidth=1)
                axes.fill_between(x, table["random"], table["random_most"], color=who.colour,
                                  alpha=0.1, linewidth=0)  # fmt: skip
            if len(results) == 1 or len(result.clean) > result.n_prompts:
                captions.append(_in_words(name, result, clusters, areas=len(results) == 1))
        prompts = [result.n_prompts for result in results.values()]
        label = with_n("Share of all edges in the circuit", prompts, "prompt")
        axes.set(xscale="log", xlabel=label, ylabel="Faithfulness")
        axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"])
        axes.minorticks_off()
        figure.legend(loc="outside lower center", ncols=2)
    first = next(iter(results.values()))
    figure.caption = (
        f"Share of the gap in {first.metric} ({first.unit}) between clean and corrupted, "
        f"{first.contrast} contrast, that a circuit of each size keeps when all other edges carry "
        "the corrupted run's activations; bands: 95 % intervals over "
        f"{'topics' if clusters or first.topics else 'prompts'}."
        + (f" {'; '.join(captions)}." if captions else "")
        + _empty(results)
    )
    if any(result.chance.numel() for result in results.values()):
        figure.caption += (
            " Dotted: random circuits of the same sizes, their mean; shaded up to the largest."
        )
    if len(results) == 1:
        figure.caption += " CPR is the area under the curve, CMD that between it and 1."
    ends = ", ".join(
        f"{name} {fraction(float(result.faithfulness()[len(result.shares) // 2]))} at "
        f"{percent(result.shares[len(result.shares) // 2])}"
        for name, result in results.items()
    )
    figure.alt = f"Faithfulness over circuit size: {ends}."
    return figure


def _empty(results: Mapping[str, Faithfulness]) -> str:
    """Which sizes are not there because no edge leads to the logits yet."""
    shares = {share for result in results.values() for share in result.empty}
    least = "At" if len(shares) == 1 else "Up to"
    return f" {least} {percent(max(shares))} a circuit has no edge: not drawn." if shares else ""


def _in_words(name: str, result: Faithfulness, clusters: list[str] | None, *, areas: bool) -> str:
    """How many prompts a curve is over; its areas, too, where no other curve needs the room."""
    left = len(result.clean) - result.n_prompts
    said = [f"{plural(result.n_prompts, 'prompt')}{f' ({left} left out)' if left else ''}"]
    if areas:
        table = result.areas(clusters=clusters).set_index("name")
        said[:0] = [
            f"{k} {fraction(table.area[k])} [{fraction(table.low[k])}, {fraction(table.high[k])}]"
            for k in ("CPR", "CMD")
        ]
    return f"{name}: {', '.join(said)}"


def circuit_overlap(result: Comparison) -> CaptionedFigure:
    """Edges and nodes that circuits share, trait by trait; a circuit with itself is not drawn.

    Shares are on a scale from 0 to 1, correlations on one from −1 to 1.
    """
    count, pairs = len(result.names), result.to_dataframe()
    names = [f"{name[:1].upper()}{name[1:]}" for name in result.names]
    with style():
        figure = new_figure(TWO_COLUMNS, 1.3 + 0.3 * count)
        panels = figure.subplots(1, 3, sharey=True)
        titles = ("Edges (Jaccard)", "Heads and MLPs (Jaccard)", "Scores (rank correlation)")
        tables = (result.jaccard_edges, result.jaccard_nodes, result.rank_correlation)
        for axes, title, table, name in zip(
            panels, titles, tables, ("edges", "nodes", "scores"), strict=True
        ):
            values = table.double().numpy().copy()
            np.fill_diagonal(values, np.nan)
            signed = name == "scores"
            scale = Normalize(-1, 1) if signed else Normalize(0, 1)
            image = heatmap(axes, values[::-1], scale, diverging=signed)
            dark = np.abs(values) > 0.6 if signed else values < 0.5
            _numbers(axes, result, values, pairs[pairs["measure"] == name], dark)
            axes.set_title(title)
            axes.set_xticks(range(count), names, rotation=90)
            axes.set_yticks(range(count), names[::-1])
            if name != "edges":  # both shares have one scale
                colour_bar(figure, image, axes, "Spearman's ρ" if signed else "Jaccard")
    shared = len(result.shared())
    edges = result.members.sum(1).tolist()
    sizes = ", ".join(f"{name} {n:,}" for name, n in zip(result.names, edges, strict=True))
    figure.caption = (
        f"Pairs of circuits ({sizes} edges): shared over united edges and nodes, and "
        "Spearman's correlation of all edges' scores; shares in colours from 0 to 1, "
        "correlations in colours from −1 to 1, white at zero. "
        "Star: more alike than chance within kinds "
        f"of edges ({result.n_permutations} draws; false discovery rate below 5 %). "
        f"{plural(shared, 'edge')} {'belongs' if shared == 1 else 'belong'} to "
        f"{'both' if count == 2 else f'all {count}'}."
    )
    figure.alt = (
        f"Heatmaps of overlap between {count} circuits; {plural(shared, 'edge')} in "
        f"{'both' if count == 2 else 'all'}."
    )
    return figure


def _numbers(
    axes: Axes,
    result: Comparison,
    values: NDArray[Any],
    pairs: pd.DataFrame,
    dark: NDArray[np.bool_],
) -> None:
    """Each cell's value, in white where the cell is dark, with a star where it is beyond chance."""
    sure = pairs[pairs["p_adjusted"] < 0.05]
    starred = {frozenset(pair) for pair in zip(sure["first"], sure["second"], strict=True)}
    for i, one in enumerate(result.names):
        for j, other in enumerate(result.names):
            if i == j:
                continue
            star = "*" if frozenset((one, other)) in starred else ""
            shade = "white" if dark[i, j] else INK
            up = len(result.names) - 1 - i
            axes.text(j, up, minus(f"{values[i, j]:.2f}{star}"), ha="center", va="center",
                      fontsize=6.5, color=shade)  # fmt: skip
