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
from interp.show.plots.parts import band, colour_bar, heatmap, minus, percent, plural, zero_line
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
    """Faithfulness over circuit sizes, one line per trait, with bootstrap bands.

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
            x = np.array(result.shares)
            table = result.to_dataframe(clusters=clusters).rename(columns={"faithfulness": "mean"})
            band(axes, table, x=x, colour=who.colour, label=name, marker=who.mark)
            if len(result.complement) and len(results) == 1:
                axes.plot(x, table["without"], "--", color=BASE_COLOUR, marker="o", mfc="white",
                          markersize=3, label="without the circuit")  # fmt: skip
            captions.append(_in_words(name, result, clusters, areas=len(results) == 1))
        axes.set(xscale="log", xlabel="Share of all edges in the circuit", ylabel="Faithfulness")
        axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"])
        axes.minorticks_off()
        figure.legend(loc="outside lower center", ncols=2)
    first = next(iter(results.values()))
    figure.caption = (
        f"Share of the gap in {first.metric} ({first.unit}) between clean and corrupted, "
        f"{first.contrast} contrast, that a circuit of each size keeps when all other edges carry "
        "the corrupted run's activations; bands: 95 % bootstrap over "
        f"{'topics' if clusters else 'prompts'}. {'; '.join(captions)}."
    )
    if len(results) == 1:
        figure.caption += " CPR is the area under the curve, CMD that between it and 1."
    ends = ", ".join(
        f"{name} {float(result.faithfulness()[len(result.shares) // 2]):.2f} at "
        f"{percent(result.shares[len(result.shares) // 2])}"
        for name, result in results.items()
    )
    figure.alt = f"Faithfulness over circuit size: {ends}."
    return figure


def _in_words(name: str, result: Faithfulness, clusters: list[str] | None, *, areas: bool) -> str:
    """How many prompts a curve is over; its areas, too, where no other curve needs the room."""
    left = len(result.clean) - result.n_prompts
    said = [f"{plural(result.n_prompts, 'prompt')}{f' ({left} left out)' if left else ''}"]
    if areas:
        table = result.areas(clusters=clusters).set_index("name")
        said[:0] = [
            minus(f"{k} {table.area[k]:.2f} [{table.low[k]:.2f}, {table.high[k]:.2f}]")
            for k in ("CPR", "CMD")
        ]
    return f"{name}: {', '.join(said)}"


def circuit_overlap(result: Comparison) -> CaptionedFigure:
    """Edges and nodes that circuits share, trait by trait; a circuit with itself is not drawn."""
    count, pairs = len(result.names), result.to_dataframe()
    names = [f"{name[:1].upper()}{name[1:]}" for name in result.names]
    with style():
        figure = new_figure(TWO_COLUMNS, 1.3 + 0.3 * count)
        panels = figure.subplots(1, 3, sharey=True)
        titles = ("Edges (Jaccard)", "Heads and MLPs (Jaccard)", "Scores (rank correlation)")
        tables = (result.jaccard_edges, result.jaccard_nodes, result.rank_correlation)
        image = None
        for axes, title, table, name in zip(
            panels, titles, tables, ("edges", "nodes", "scores"), strict=True
        ):
            values = table.double().numpy().copy()
            np.fill_diagonal(values, np.nan)
            image = heatmap(axes, values[::-1], Normalize(-1, 1))
            _numbers(axes, result, values, pairs[pairs["measure"] == name])
            axes.set_title(title)
            axes.set_xticks(range(count), names, rotation=90)
            axes.set_yticks(range(count), names[::-1])
        assert image is not None
        colour_bar(figure, image, panels, "Overlap")
    shared = len(result.shared())
    edges = result.members.sum(1).tolist()
    sizes = ", ".join(f"{name} {n:,}" for name, n in zip(result.names, edges, strict=True))
    figure.caption = (
        f"Pairs of circuits ({sizes} edges): shared over united edges and nodes, and "
        "Spearman's correlation of all edges' scores; colours from −1 to 1, white at zero. "
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


def _numbers(axes: Axes, result: Comparison, values: NDArray[Any], pairs: pd.DataFrame) -> None:
    """Each cell's value, with a star where it is more than chance."""
    sure = pairs[pairs["p_adjusted"] < 0.05]
    starred = {frozenset(pair) for pair in zip(sure["first"], sure["second"], strict=True)}
    for i, one in enumerate(result.names):
        for j, other in enumerate(result.names):
            if i == j:
                continue
            star = "*" if frozenset((one, other)) in starred else ""
            shade = "white" if abs(values[i, j]) > 0.6 else INK
            up = len(result.names) - 1 - i
            axes.text(j, up, minus(f"{values[i, j]:.2f}{star}"), ha="center", va="center",
                      fontsize=6.5, color=shade)  # fmt: skip
