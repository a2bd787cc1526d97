"""Patching maps: how much of the emoji decision each activation carries from one run to another.

Red always means "carries the difference between the two runs". In denoising the cells are the
recovery itself (0: the patch does nothing, 1: it restores the clean run). In noising they are the
loss, 1 - recovery (0: the patch does nothing, 1: it brings the run down to the corrupted one).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.parts import colour_bar, headline, heatmap, minus, plural, ticks, with_n
from interp.show.plots.style import (
    INK,
    ONE_COLUMN,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
    symmetric_range,
)
from interp.show.plots.subject import Subject
from interp.traces.patching import PatchingResult

_SITES = {
    "resid_pre": "Residual stream",
    "attn_out": "Attention output",
    "mlp_out": "MLP output",
    "z": "Attention heads",
}
_RUNS = {
    ("model", "denoising"): "activations of the tuned model put into the base on the same tokens",
    ("model", "noising"): "activations of the base put into the tuned model on the same tokens",
    ("prompt", "denoising"): (
        "activations of the model on the first of two texts (clean), put into its run on the "
        "second (corrupted), which is of the same length"
    ),
    ("prompt", "noising"): (
        "activations of the model on the second of two texts (corrupted), put into its run on the "
        "first (clean), which is of the same length"
    ),
}
_ALPHA = 0.05


def patching_maps(
    results: Sequence[PatchingResult],
    trait: Trait | str | None = None,
    *,
    last: int = 16,
    summaries: Sequence[pd.DataFrame] | None = None,
    limit: float | None = None,
) -> CaptionedFigure:
    """Layer by position, one panel per site, one colour scale centred at zero.

    Args:
        results: sweeps over positions that differ in their site only.
        trait: the adapter's (its colour and name); neutral if left out.
        last: how many positions up to the metric's are drawn.
        summaries: the results' `summary()` tables; a dot then marks cells whose effect differs
            from zero after correction for the number of cells.
        limit: colours run to ± this, as in the figures that it stands beside (see `most_shown`);
            to the largest cell if left out.

    Raises:
        InputError: if there is no result, or they differ in more than the site.
    """
    _check_alike(results, "pos")
    grids = [_shown(result)[:, -last:] for result in results]
    scale = symmetric_range(*grids if limit is None else [limit])
    who = Subject.of(trait)
    with style():
        depth = len(results[0].layers)
        figure = new_figure(TWO_COLUMNS, 1.0 + 0.16 * min(max(depth, 7), 24))
        panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
        for index, (axes, result, grid) in enumerate(zip(panels, results, grids, strict=True)):
            image = heatmap(axes, grid, scale)
            labels = [minus(label) for label in result.unit_labels[-last:]]
            ticks(axes, "x", labels, most=8)
            axes.set_title(_SITES.get(result.site, result.site), fontsize=7.5, fontweight="normal")
            if summaries is not None:
                _dots(axes, result, summaries[index], len(result.units) - grid.shape[1])
        ticks(panels[0], "y", [str(layer) for layer in results[0].layers])
        panels[0].set(ylabel="Block")
        figure.supxlabel(_with_n("Position from the onset (0)", results[0]), fontsize=7.5)
        headline(figure, f"{who.title}: {results[0].direction}, {results[0].contrast} contrast")
        colour_bar(figure, image, panels, _bar_label(results[0]))
    _describe(figure, results, grids, who, scale.vmax, summaries)
    return figure


def patching_heads(
    result: PatchingResult,
    trait: Trait | str | None = None,
    *,
    summary: pd.DataFrame | None = None,
    limit: float | None = None,
) -> CaptionedFigure:
    """Layer by attention head; see `patching_maps`.

    Raises:
        InputError: if the sweep was not over heads.
    """
    _check_alike([result], "head")
    grid = _shown(result)
    scale = symmetric_range(grid if limit is None else limit)
    who = Subject.of(trait)
    with style():
        figure = new_figure(ONE_COLUMN, 1.0 + 0.16 * min(max(len(result.layers), 7), 24))
        axes = figure.subplots()
        image = heatmap(axes, grid, scale)
        ticks(axes, "x", [str(head) for head in result.units])
        ticks(axes, "y", [str(layer) for layer in result.layers])
        axes.set(xlabel=_with_n("Head", result), ylabel="Block")
        heads = "heads" if result.site == "z" else f"{result.site} heads"
        title = f"{who.title}: {heads}, {result.direction}, {result.contrast} contrast"
        axes.set_title(title, fontsize=7.5)
        colour_bar(figure, image, axes, _bar_label(result))
        if summary is not None:
            _dots(axes, result, summary, 0)
    summaries = None if summary is None else [summary]
    _describe(figure, [result], [grid], who, scale.vmax, summaries)
    return figure


def most_shown(results: Sequence[PatchingResult]) -> float:
    """The largest cell over figures that stand side by side: one colour range for all of them."""
    return float(symmetric_range(*map(_shown, results)).vmax or 1.0)


def _with_n(label: str, result: PatchingResult) -> str:
    return with_n(label, [result.n_prompts - result.n_undefined], "prompt")


def _shown(result: PatchingResult) -> NDArray[np.float64]:
    """Recovery, or for noising the loss, so that 0 is "no effect" in both."""
    recovery = result.mean_recovery().double().numpy()
    return recovery if result.direction == "denoising" else 1 - recovery


def _bar_label(result: PatchingResult) -> str:
    return "Recovery (0 none, 1 all)" if result.direction == "denoising" else "Loss (1 − recovery)"


def _dots(axes: Axes, result: PatchingResult, summary: pd.DataFrame, skipped: int) -> None:
    """A dot in each cell whose effect is told apart from zero, in its row and column of the map."""
    found = summary[summary["p_adjusted"] < _ALPHA]
    rows = [result.layers.index(layer) for layer in found["layer"]]
    columns = [result.units.index(unit) - skipped for unit in found[result.axis]]
    kept = [(column, row) for column, row in zip(columns, rows, strict=True) if column >= 0]
    if kept:
        across, up = zip(*kept, strict=True)
        axes.scatter(across, up, s=5, color=INK, edgecolors="white", linewidths=0.5)


def _describe(
    figure: CaptionedFigure,
    results: Sequence[PatchingResult],
    grids: Sequence[NDArray[np.float64]],
    who: Subject,
    limit: float | None,
    summaries: Sequence[pd.DataFrame] | None,
) -> None:
    first = results[0]
    used = first.n_prompts - first.n_undefined
    how = _RUNS.get((first.contrast, first.direction), f"{first.contrast} contrast")
    what, share = (
        ("recovery", "restored by")
        if first.direction == "denoising"
        else ("loss (1 − recovery)", "lost to")
    )
    by = "head" if first.axis == "head" else "position"
    left_out = f" ({first.n_undefined} left out: clean and corrupted agree)"
    figure.caption = (
        f"{who.title}, {first.direction}, {first.contrast} contrast: {how}. "
        f"Cells by block and {by}: mean {what}, the share of the gap in {_metric(first)} "
        f"between the two runs that is {share} patching that place alone, over "
        f"{plural(used, 'prompt')}{left_out if first.n_undefined else ''}; colours centred at "
        f"zero, range ±{limit:.2f}. Unpatched means: {_ends(first)}."
    )
    if summaries is not None:
        figure.caption += " Dots: effect differs from zero (false discovery rate below 5 %)."
    best = [
        f"{_SITES.get(result.site, result.site).lower()} {np.nanmax(grid):.2f}"
        for result, grid in zip(results, grids, strict=True)
    ]
    figure.alt = f"Heatmaps, block by {by}{who.about}. Largest mean {what}: {', '.join(best)}."


def _ends(result: PatchingResult) -> str:
    """The two runs between which recovery is measured, over the prompts that count."""
    clean, corrupted = (
        minus(f"{float(run[result.defined].double().mean()):.2f}")
        for run in (result.clean, result.corrupted)
    )
    return f"clean {clean}, corrupted {corrupted} {result.unit}"


def _metric(result: PatchingResult) -> str:
    name = {"log_odds": "emoji log-odds"}.get(result.metric, result.metric)
    return f"{name} ({result.unit})" if result.unit else name


def _check_alike(results: Sequence[PatchingResult], axis: str) -> None:
    if not results:
        raise InputError("no patching result to draw; run a sweep first")
    if any(result.axis != axis for result in results):
        raise InputError(
            f"this figure is of sweeps over {axis}; {results[0].site} was swept over "
            f"{results[0].axis}"
        )
    kinds = {(result.contrast, result.direction, result.layers) for result in results}
    if len(kinds) > 1:
        raise InputError("patching results in one figure may differ in their site only")
