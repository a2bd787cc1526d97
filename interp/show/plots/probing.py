"""Probing curves: how well a linear probe reads the emoji or the trait off each layer."""

import numpy as np
from matplotlib.axes import Axes

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.parts import percent, plural, reading_names, ticks, with_n, zero_line
from interp.show.plots.style import (
    BASE_COLOUR,
    BASE_MARK,
    FAINT,
    INK,
    ONE_COLUMN,
    CaptionedFigure,
    new_figure,
    style,
)
from interp.show.plots.subject import Subject
from interp.traces.probing import ProbeResult

_MEASURES = {"auroc": "AUROC", "accuracy": "Balanced accuracy"}
_LABELS = {
    "base": "base",
    "tuned": "tuned",
    "base→tuned": "trained on base, read on tuned",
    "tuned→base": "trained on tuned, read on base",
}


def probing_curves(
    result: ProbeResult, trait: Trait | str | None = None, measure: str = "auroc"
) -> CaptionedFigure:
    """Held-out score by layer: base, tuned, and trained on one but read on the other.

    The grey area is what the same probes reach on shuffled labels. With balanced accuracy, the
    dotted line is the control task (labels drawn per type) of the last read drawn in full.

    Args:
        result: probes of one task.
        trait: the adapter's (its colour and name); neutral if left out.
        measure: `"auroc"` or `"accuracy"`.

    Raises:
        InputError: if there is no such measure.
    """
    if measure not in _MEASURES:
        raise InputError(f"unknown measure {measure!r}; use one of {', '.join(_MEASURES)}")
    who = Subject.of(trait)
    chance = 0.5 if measure == "auroc" else result.chance
    looks = {
        "base": (BASE_COLOUR, "--", BASE_MARK, "white"),
        "tuned": (who.colour, "-", who.mark, who.colour),
        "base→tuned": (INK, "-.", "X", "white"),
    }
    shown = [read for read in looks if read in result.reads]
    with style():
        figure = new_figure(ONE_COLUMN, 2.9)
        axes = figure.subplots()
        zero_line(axes, chance)
        _floor(axes, result, measure)
        if measure == "accuracy":
            _control(axes, result, shown)
        for shift, read in enumerate(shown):
            _curve(axes, result, read, measure, looks[read], 0.07 * (shift - 1))
        ticks(axes, "x", reading_names(result.layers), most=10)
        label = with_n("Residual stream after block", [len(result.labels)], "example")
        axes.set(xlabel=label, ylabel=_MEASURES[measure])
        axes.set_ylim(top=1.02)
        axes.set_title(f"{who.title}: {result.task}", fontsize=7.5)
        figure.legend(loc="outside lower center", ncols=2)
    _describe(figure, result, who, measure, chance, shown)
    return figure


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


def _describe(
    figure: CaptionedFigure,
    result: ProbeResult,
    who: Subject,
    measure: str,
    chance: float,
    shown: list[str],
) -> None:
    n, topics = len(result.labels), result.counts["n_topics"]
    control = (
        " Dotted: the control task, whose labels can only be memorised; the gap to it is the "
        "selectivity."
        if measure == "accuracy"
        else ""
    )
    figure.caption = (
        f"{_MEASURES[measure]} (0 to 1, chance {chance:.2f}) of linear probes for "
        f"“{result.task}”, by layer, on held-out topics: base, {who.model}, and a "
        f"probe trained on the base and read on the tuned model. Over {plural(n, 'example')} of "
        f"{plural(topics, 'topic')}; lines are {percent(result.level)} intervals over topics. Grey "
        f"area: the same probes on shuffled labels.{control}"
    )
    values = getattr(result, measure)
    best = [
        f"{_LABELS[read]} {float(values[result.reads.index(read)].max()):.2f}" for read in shown
    ]
    figure.alt = f"Line chart by layer, best {_MEASURES[measure]}: {'; '.join(best)}."
