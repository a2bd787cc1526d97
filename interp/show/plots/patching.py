"""Patching maps: how much of the emoji decision each activation carries from one run to another.

Red always means "carries the difference between the two runs". In denoising the cells are the
recovery itself (0: the patch does nothing, 1: it restores the clean run). In noising they are the
loss, 1 - recovery (0: the patch does nothing, 1: it brings the run down to the corrupted one).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.parts import (
    ACROSS,
    colour_bar,
    count_range,
    headline,
    heatmap,
    minus,
    multiples,
    ticks,
    with_n,
)
from interp.show.plots.style import (
    INK,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
    symmetric_range,
)
from interp.show.plots.subject import Subject, by_subject
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
}
_TEXTS = {
    "voice": ("an answer in one voice", "an answer to the same question in the other"),
    "words": ("an answer", "the same answer with words exchanged"),
    "prompt": ("the first of two texts", "the second, which is of the same length"),
}
for _what, (_clean, _corrupted) in _TEXTS.items():
    _RUNS[_what, "denoising"] = (
        f"activations of the model on {_clean} (clean), put into its run on {_corrupted} "
        "(corrupted), aligned from their ends"
    )
    _RUNS[_what, "noising"] = (
        f"activations of the model on {_corrupted} (corrupted), put into its run on {_clean} "
        "(clean), aligned from their ends"
    )
_ALPHA = 0.05


def patching_maps(
    results: Sequence[PatchingResult] | Mapping[str, Sequence[PatchingResult]],
    trait: Trait | str | None = None,
    *,
    last: int = 16,
    summaries: Sequence[pd.DataFrame] | Mapping[str, Sequence[pd.DataFrame]] | None = None,
    limit: float | None = None,
) -> CaptionedFigure:
    """Layer by position, one panel per site, one colour scale centred at zero.

    Args:
        results: sweeps over positions that differ in their site only; or such by label, a row each.
        trait: the adapter's (its colour and name); neutral if left out.
        last: how many positions up to the metric's are drawn.
        summaries: the results' `summary()` tables, as `results` are given; a dot then marks cells
            whose effect differs from zero after correction for the number of cells.
        limit: colours run to ± this, as in the figures that it stands beside (see `most_shown`);
            to the largest cell if left out.

    Raises:
        InputError: if there is no result, or they differ in more than the site.
    """
    given = by_subject(results, trait)
    tested = by_subject(summaries, trait) if summaries is not None else {}
    every = [one for some in given.values() for one in some]
    _check_alike(every, "pos")
    grids = {(who, one.site): _shown(one)[:, -last:] for who in given for one in given[who]}
    scale = symmetric_range(*grids.values() if limit is None else [limit])
    first, sites = every[0], list(dict.fromkeys(one.site for one in every))
    with style():
        tall = 0.16 * min(max(len(first.layers), 7), 24)
        figure = new_figure(TWO_COLUMNS, 1.0 + tall * len(given) + 0.25 * (len(given) - 1))
        panels = figure.subplots(len(given), len(sites), sharey="row", squeeze=False)
        for row, (who, some) in zip(panels, given.items(), strict=True):
            by_site = {one.site: (place, one) for place, one in enumerate(some)}
            for axes, site in zip(row, sites, strict=True):
                if site not in by_site:
                    axes.set_axis_off()
                    continue
                place, one = by_site[site]
                image = heatmap(axes, grids[who, site], scale)
                ticks(axes, "x", [minus(label) for label in one.unit_labels[-last:]], most=8)
                title = _SITES.get(site, site)
                title = f"{who.title}: {_small(title)}" if len(given) > 1 else title
                axes.set_title(title, fontsize=7.5, fontweight="normal")
                if who in tested:
                    _dots(axes, one, tested[who][place], len(one.units) - len(one.units[-last:]))
            ticks(row[0], "y", [str(layer) for layer in some[0].layers])
            row[0].set(ylabel="Block")
        figure.supxlabel(_with_n("Position from the onset (0)", every), fontsize=7.5)
        whose = f"{next(iter(given)).title}: " if len(given) == 1 else ""
        title = f"{whose}{first.direction}, {first.contrast} contrast"
        headline(figure, f"{title[:1].upper()}{title[1:]}")
        colour_bar(figure, image, panels, _bar_label(first))
    _describe(figure, given, grids, float(scale.vmax or 1), summaries is not None)
    return figure


def patching_heads(
    result: PatchingResult | Mapping[str, PatchingResult],
    trait: Trait | str | None = None,
    *,
    summary: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    limit: float | None = None,
) -> CaptionedFigure:
    """Layer by attention head, a panel per label on one scale; see `patching_maps`.

    Raises:
        InputError: if the sweep was not over heads.
    """
    given = by_subject(result, trait)
    tested = by_subject(summary, trait) if summary is not None else {}
    every = list(given.values())
    _check_alike(every, "head")
    grids = {(who, one.site): _shown(one) for who, one in given.items()}
    scale = symmetric_range(*grids.values() if limit is None else [limit])
    first, alone = every[0], len(given) == 1
    with style():
        figure, panels = multiples(
            len(given), (1.0 if alone else 0.9) + 0.16 * min(max(len(first.layers), 7), 24)
        )
        heads = "heads" if first.site == "z" else f"{first.site} heads"
        what = f"{heads}, {first.direction}, {first.contrast} contrast"
        for (axes,), (who, one) in zip(panels, given.items(), strict=True):
            image = heatmap(axes, grids[who, one.site], scale)
            ticks(axes, "x", [str(head) for head in one.units], most=12 if alone else 6)
            ticks(axes, "y", [str(layer) for layer in one.layers])
            axes.set_title(f"{who.title}: {what}" if alone else who.title, fontsize=7.5)
            if who in tested:
                _dots(axes, one, tested[who], 0)
        for (axes,) in panels[::ACROSS]:
            axes.set(ylabel="Block")
        if alone:
            panels[0][0].set(xlabel=_with_n("Head", every))
        else:
            figure.supxlabel(_with_n("Head", every), fontsize=7.5)
            headline(figure, f"{what[:1].upper()}{what[1:]}")
        colour_bar(figure, image, [axes for (axes,) in panels], _bar_label(first))
    whole = {who: [one] for who, one in given.items()}
    _describe(figure, whole, grids, float(scale.vmax or 1), summary is not None)
    return figure


def most_shown(results: Sequence[PatchingResult]) -> float:
    """The largest cell over figures that stand side by side: one colour range for all of them."""
    return float(symmetric_range(*map(_shown, results)).vmax or 1.0)


def _small(title: str) -> str:
    """A title within a line: `attention output`, `MLP output`."""
    return title if title[:2].isupper() else f"{title[:1].lower()}{title[1:]}"


def _with_n(label: str, results: Sequence[PatchingResult]) -> str:
    return with_n(label, [one.n_prompts - one.n_undefined for one in results], "prompt")


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
    given: Mapping[Subject, Sequence[PatchingResult]],
    grids: Mapping[tuple[Subject, str], NDArray[np.float64]],
    limit: float,
    tested: bool,
) -> None:
    every = [one for some in given.values() for one in some]
    first, alone = every[0], len(given) == 1
    how = _RUNS.get((first.contrast, first.direction), f"{first.contrast} contrast")
    what, share = (
        ("recovery", "restored by")
        if first.direction == "denoising"
        else ("loss (1 − recovery)", "lost to")
    )
    by = "head" if first.axis == "head" else "position"
    left_out = max(one.n_undefined for one in every)
    said = f" ({'' if alone else 'up to '}{left_out} left out: clean and corrupted agree)"
    counts = [one.n_prompts - one.n_undefined for one in every]
    whose = f"{next(iter(given)).title}, " if alone else ""
    name = f"{whose}{first.direction}, {first.contrast} contrast"
    ends = "; ".join(
        f"{'' if alone else f'{who.title.lower()} '}{_ends(some[0])}"
        for who, some in given.items() if some
    )  # fmt: skip
    figure.caption = (
        f"{name[:1].upper()}{name[1:]}: {how}. "
        f"Cells by block and {by}: mean {what}, the share of the gap in {_metrics(given)} "
        f"between the two runs that is {share} patching that place alone, over "
        f"{count_range(counts, 'prompt')}{said if left_out else ''}; colours centred at "
        f"zero, range ±{limit:.2f}. Unpatched means: {ends}."
    )
    if tested:
        figure.caption += " Dots: effect differs from zero (false discovery rate below 5 %)."
    best = [
        f"{who.title.lower() + ' ' if not alone else ''}{_small(_SITES.get(site, site))} "
        f"{np.nanmax(grid):.2f}"
        for (who, site), grid in grids.items()
    ]
    about = next(iter(given)).about if alone else ""
    figure.alt = f"Heatmaps, block by {by}{about}. Largest mean {what}: {', '.join(best)}."


def _metrics(given: Mapping[Subject, Sequence[PatchingResult]]) -> str:
    """The one metric, or whose each is."""
    whose: dict[str, list[str]] = {}
    for who, some in given.items():
        for one in some[:1]:
            whose.setdefault(_metric(one), []).append(who.title.lower())
    if len(whose) == 1:
        return next(iter(whose))
    return " or ".join(f"{metric} ({', '.join(names)})" for metric, names in whose.items())


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
