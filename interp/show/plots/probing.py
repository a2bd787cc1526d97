"""Probing curves: how well a linear probe reads the emoji or the trait off each layer."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.parts import (
    ACROSS,
    count_range,
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
    FAINT,
    INK,
    CaptionedFigure,
    style,
)
from interp.show.plots.subject import Subject, by_subject, model_words
from interp.traces.probing import ProbeResult

_MEASURES = {"auroc": "AUROC", "accuracy": "Balanced accuracy"}
_LABELS = {
    "base": "base",
    "tuned": "tuned",
    "base→tuned": "trained on base, read on tuned",
    "tuned→base": "trained on tuned, read on base",
}


def probing_curves(
    result: ProbeResult | Mapping[str, ProbeResult],
    trait: Trait | str | None = None,
    measure: str = "auroc",
) -> CaptionedFigure:
    """Held-out score by layer: base, tuned, and trained on one but read on the other.

    The grey area is what the same probes reach on shuffled labels. With balanced accuracy, the
    dotted line is the control task (labels drawn per type) of the last read drawn in full.

    Args:
        result: probes of one task; or such by label, a panel each.
        trait: the adapter's (its colour and name); neutral if left out.
        measure: `"auroc"` or `"accuracy"`.

    Raises:
        InputError: if there is no such measure.
    """
    if measure not in _MEASURES:
        raise InputError(f"unknown measure {measure!r}; use one of {', '.join(_MEASURES)}")
    given = by_subject(result, trait)
    alone = len(given) == 1
    with style():
        figure, panels = multiples(len(given), 2.9 if alone else 2.1)
        for (axes,), (who, one) in zip(panels, given.items(), strict=True):
            _panel(axes, one, who, measure, most=10 if alone else 5)
            axes.set_title(f"{who.title}: {one.task}" if alone else who.title, fontsize=7.5)
        for (axes,) in panels[::ACROSS]:
            axes.set(ylabel=_MEASURES[measure])
        counts = [len(one.labels) for one in given.values()]
        label = with_n("Residual stream after block", counts, "example")
        if alone:
            panels[0][0].set(xlabel=label)
        else:
            figure.supxlabel(label, fontsize=7.5)
        _legend(figure, panels[0][0], tuned=None if alone else INK)
    _describe(figure, given, measure)
    return figure


def _panel(axes: Axes, result: ProbeResult, who: Subject, measure: str, most: int) -> None:
    looks = {
        "base": (BASE_COLOUR, "--", BASE_MARK, "white"),
        "tuned": (who.colour, "-", who.mark, who.colour),
        "base→tuned": (INK, "-.", "X", "white"),
    }
    zero_line(axes, _chance(result, measure))
    _floor(axes, result, measure)
    shown = _shown(result)
    if measure == "accuracy":
        _control(axes, result, shown)
    for shift, read in enumerate(shown):
        _curve(axes, result, read, measure, looks[read], 0.07 * (shift - 1))
    ticks(axes, "x", reading_names(result.layers), most=most)
    axes.set_ylim(top=1.02)


def _shown(result: ProbeResult) -> list[str]:
    return [read for read in ("base", "tuned", "base→tuned") if read in result.reads]


def _chance(result: ProbeResult, measure: str) -> float:
    return 0.5 if measure == "auroc" else result.chance


def _legend(figure: CaptionedFigure, axes: Axes, tuned: str | None) -> None:
    """One legend for all panels; over several labels the tuned model is a bare line in black."""
    handles, names = axes.get_legend_handles_labels()
    if tuned:
        line = Line2D([], [], color=tuned)
        handles = [line if name == "tuned" else one
                   for one, name in zip(handles, names, strict=True)]  # fmt: skip
    if tuned:
        figure.legend(handles, names, loc="outside upper right", ncols=5)
    else:
        figure.legend(handles, names, loc="outside lower center", ncols=2)


def _curve(
    axes: Axes,
    result: ProbeResult,
    read: str,
    measure: str,
    look: tuple[str, str, str, str],
    shift: float,
) -> None:
    row = result.reads.index(read)
    score, low, high = (
        getattr(result, name)[row].double().numpy()
        for name in (measure, f"{measure}_low", f"{measure}_high")
    )
    colour, dash, marker, face = look
    axes.errorbar(
        np.arange(len(score)) + shift,
        score,
        # An interval resamples topics, the score does not: it may lie outside by rounding.
        yerr=[np.maximum(score - low, 0), np.maximum(high - score, 0)],
        color=colour,
        linestyle=dash,
        marker=marker,
        markerfacecolor=face,
        linewidth=1.2,
        elinewidth=0.8,
        label=_LABELS[read],
    )


def _floor(axes: Axes, result: ProbeResult, measure: str) -> None:
    """From the lowest to the highest score on shuffled labels, over reads and shuffles."""
    values = getattr(result, f"shuffled_{measure}").double().numpy()
    if values.shape[-1] == 0:
        return
    low, high = values.min(axis=(0, 2)), values.max(axis=(0, 2))
    places = np.arange(values.shape[1])
    axes.fill_between(
        places, low, high, color=FAINT, alpha=0.45, linewidth=0, label="shuffled labels", zorder=0
    )


def _control(axes: Axes, result: ProbeResult, shown: list[str]) -> None:
    read = "tuned" if "tuned" in shown else shown[0]
    values = result.control_accuracy[result.reads.index(read)].double().numpy()
    axes.plot(values, ":", color=INK, linewidth=1.1, label=f"control task ({read})")


def _describe(figure: CaptionedFigure, given: Mapping[Subject, ProbeResult], measure: str) -> None:
    results = list(given.values())
    first = results[0]
    control = (
        " Dotted: the control task, whose labels can only be memorised; the gap to it is the "
        "selectivity."
        if measure == "accuracy"
        else ""
    )
    tasks = ", ".join(dict.fromkeys(f"“{one.task}”" for one in results))
    figure.caption = (
        f"{_MEASURES[measure]} (0 to 1, chance {_chance(first, measure):.2f}) of linear probes for "
        f"{tasks}, by layer, on held-out topics: base, {model_words(given)}, and a "
        "probe trained on the base and read on the tuned model. Over "
        f"{count_range([len(one.labels) for one in results], 'example')} of "
        f"{count_range([one.counts['n_topics'] for one in results], 'topic')}; lines are "
        f"{percent(first.level)} intervals over topics. Grey "
        f"area: the same probes on shuffled labels.{control}"
    )
    best = [
        f"{_LABELS[read]}{who.about if len(given) > 1 else ''} "
        f"{float(getattr(one, measure)[one.reads.index(read)].max()):.2f}"
        for who, one in given.items()
        for read in _shown(one)
    ]
    figure.alt = f"Line chart by layer, best {_MEASURES[measure]}: {'; '.join(best)}."
