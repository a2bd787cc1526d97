"""Neurons: activations before and after fine-tuning, and what ablating the top ones does."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.show.plots.parts import band, minus, percent, plural, with_n, zero_line
from interp.show.plots.style import (
    BASE_COLOUR,
    BASE_MARK,
    FAINT,
    INK,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
)
from interp.show.plots.subject import Subject
from interp.traces.neurons import DoseCurve, NeuronShift
from interp.traces.neurons.shift import MEDIANS

_ALPHA = 0.05
_Box = tuple[float, float, float, float]  # left, bottom, width, height
_USING = {"mean": "set to their mean", "zero": "set to zero"}


def neuron_shift(
    result: NeuronShift, trait: Trait | str | None = None, *, named: int = 6
) -> CaptionedFigure:
    """Each neuron's mean activation, base across and tuned up, one panel per kind of prompt.

    Args:
        result: activations of both models.
        trait: the adapter's (its colour and name); neutral if left out.
        named: how many neurons of the largest shift are named in each panel.

    Raises:
        InputError: if a kind has fewer than two prompts or topics.
    """
    who = Subject.of(trait)
    table = result.summary()
    kinds = list(dict.fromkeys(result.kinds))
    low, high = (float(f(table[["base", "tuned"]].to_numpy())) for f in (np.min, np.max))
    edge = 0.08 * (high - low)
    with style():
        figure = new_figure(TWO_COLUMNS if len(kinds) > 1 else TWO_COLUMNS / 2, 3.5)
        panels = figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            part = table[table["kind"] == kind]
            axes.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge))
            axes.plot(
                [low - edge, high + edge], [low - edge, high + edge], color=FAINT, linewidth=0.8
            )
            moved = part["p_adjusted"] < _ALPHA
            for rows, colour, label in (
                (part[~moved], FAINT, "no shift told apart from 0"),
                (part[moved], who.colour, "shifted"),
            ):
                axes.scatter(
                    rows["base"], rows["tuned"], s=7, color=colour, linewidths=0, label=label
                )
            _name(axes, part, named)
            axes.set_title(f"{kind.capitalize()} prompts")
            label = with_n("Mean activation, base", [result.kinds.count(str(kind))], "prompt")
            axes.set(xlabel=label, box_aspect=1)
        panels[0].set(ylabel="Mean activation, tuned")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    _describe_shift(figure, result, who, table)
    return figure


def _describe_shift(
    figure: CaptionedFigure, result: NeuronShift, who: Subject, table: pd.DataFrame
) -> None:
    found, prompts = [], []
    for kind, part in table.groupby("kind", sort=False):
        moved = int((part["p_adjusted"] < _ALPHA).sum())
        found.append(f"{kind} {moved:,} of {len(part):,}")
        prompts.append(f"{kind}: {plural(result.kinds.count(str(kind)), 'prompt')}")
    said = "; ".join(found)
    hidden = result.site == "mlp_post"
    of = "(after the nonlinearity) of the neurons of" if hidden else "of each dimension of"
    where = f"block {result.layer}'s {'MLP' if hidden else 'output'}"
    large = ", ".join(map(str, result.outliers.nonzero().flatten().tolist()))
    figure.caption = (
        f"{who.title}: mean activation {of} {where}, in the base and in the tuned model, on the "
        f"same prompts ({', '.join(prompts)}). Coloured: the shift differs from zero (false "
        f"discovery rate below {percent(_ALPHA)} over all neurons and kinds; {said}). Named: the "
        "largest shifts. A shift does not say that the neuron matters."
        + (f" Beyond {MEDIANS} median norms, whatever the text: {large}." if large else "")
    )
    best = table.iloc[int(table["difference"].abs().argmax())]
    figure.alt = (
        f"Scatter plots of neuron activations, base against tuned{who.about}: {said} shifted; "
        f"the largest shift is {minus(format(best['difference'], '.2f'))}, neuron "
        f"{best['neuron']} on {best['kind']} prompts."
    )


def _name(axes: Axes, table: pd.DataFrame, named: int) -> None:
    """Names beside the neurons of the largest shift, each where it covers no other name or mark."""
    top = table.loc[table["difference"].abs().nlargest(named).index]
    low, high = axes.get_xlim()
    step, height = 0.035 * (high - low), 0.045 * (high - low)
    points = top[["base", "tuned"]].to_numpy(dtype=float).tolist()
    marks = [(x - step / 2, y - step / 2, step, step) for x, y in points]
    names: list[_Box] = []
    for (base, tuned), neuron in zip(points, top["neuron"], strict=True):
        text = f"n{neuron}"
        width = 0.55 * height * (len(text) + 1)
        side = -1 if tuned > base else 1  # away from the diagonal
        places = [
            (base + way * step - (width if way < 0 else 0), tuned + lift * height)
            for lift in (0, 1, -1, 2, -2, 3, -3)
            for way in (side, -side)
        ]
        boxes = [(x, y - height / 2, width, height) for x, y in places]
        inside = [box for box in boxes if box[0] > low and box[0] + width < high]
        free = [box for box in inside if not any(_overlap(box, b) for b in names + marks)]
        box = (free or boxes)[0]
        names.append(box)
        axes.scatter([base], [tuned], s=14, facecolor="none", edgecolor=INK, linewidths=0.7)
        axes.annotate(
            text,
            (base, tuned),
            xytext=(box[0] + width / 2, box[1] + height / 2),
            ha="center",
            va="center",
            fontsize=6.5,
            arrowprops={"arrowstyle": "-", "color": BASE_COLOUR, "linewidth": 0.5, "shrinkB": 2},
        )


def _overlap(one: _Box, other: _Box) -> bool:
    apart = (
        one[0] >= other[0] + other[2]
        or other[0] >= one[0] + one[2]
        or one[1] >= other[1] + other[3]
        or other[1] >= one[1] + one[3]
    )
    return not apart


def dose_curve(
    result: DoseCurve, trait: Trait | str | None = None, *, using: str | None = None
) -> CaptionedFigure:
    """Share of answers with an emoji, and emoji log-odds, after ablating the top k neurons.

    Args:
        result: a dose curve; without answers only the log-odds are drawn.
        trait: the adapter's (its colour and name); neutral if left out.
        using: `mean` or `zero`; the first that the curve holds if left out.

    Raises:
        InputError: if the curve was not made with `using`.
    """
    who = Subject.of(trait)
    using = result.usings[0] if using is None else using
    if using not in result.usings:
        raise InputError(f"this curve was made with {', '.join(result.usings)}, not {using!r}")
    quantities = ["esr", "log_odds"] if len(result.wrote_before) else ["log_odds"]
    tables = {q: result.curve(q) for q in quantities}
    with style():
        figure = new_figure(TWO_COLUMNS if len(quantities) > 1 else TWO_COLUMNS / 2, 2.8)
        panels = figure.subplots(1, len(quantities), squeeze=False)[0]
        for axes, quantity in zip(panels, quantities, strict=True):
            table = tables[quantity]
            _dose(axes, result, table[table["using"] == using], quantity, using, who)
        panels[0].legend(loc="best")
    _describe(figure, result, who, using, tables)
    return figure


def _dose(
    axes: Axes,
    result: DoseCurve,
    table: pd.DataFrame,
    quantity: str,
    using: str,
    who: Subject,
) -> None:
    places = {k: i for i, k in enumerate((0, *result.ks))}
    factor = 100 if quantity == "esr" else 1
    for group, colour, mark, label in (
        ("control", INK, BASE_MARK, "matched random neurons"),
        ("top", who.colour, who.mark, "top neurons"),
    ):
        part = table[table["group"] == group]
        x = part["k"].map(places).to_numpy()
        scaled = part.assign(**{name: part[name] * factor for name in ("mean", "low", "high")})
        dash = "--" if group == "control" else "-"
        band(axes, scaled, x=x, colour=colour, label=label, dash=dash, marker=mark)
    values = (result.wrote if quantity == "esr" else result.log_odds)[result.usings.index(using)]
    for draw in values[1:].double().mean(2).numpy():  # NaN, not drawn, where there are no controls
        axes.plot(np.arange(1, len(result.ks) + 1), factor * draw, ".", color=INK, markersize=3)
    axes.set_xticks(range(len(places)), [str(k) for k in places])
    written = quantity == "esr"
    count = len(result.wrote_before if written else result.log_odds_before)
    axes.set(xlabel=with_n("Neurons ablated", [count], "answer" if written else "prompt"))
    if quantity == "esr":
        axes.set(ylabel="Answers with an emoji (%)", ylim=(-3, 103))
    else:
        zero_line(axes)
        name = {"log_odds": "emoji log-odds"}.get(result.metric, result.metric)
        axes.set(ylabel=f"{name[0].upper()}{name[1:]} ({result.unit})")


def _describe(
    figure: CaptionedFigure,
    result: DoseCurve,
    who: Subject,
    using: str,
    tables: dict[str, pd.DataFrame],
) -> None:
    layers = sorted({layer for layer, _ in result.neurons})
    where = f"block {layers[0]}" if len(layers) == 1 else f"blocks {layers[0]} to {layers[-1]}"
    parts = []
    if "esr" in tables:
        parts.append(
            f"share of {plural(len(result.wrote_before), 'answer')} with an emoji, intervals"
        )
    parts.append(
        f"mean log-odds at {plural(len(result.log_odds_before), 'prompt')}, intervals "
        f"over {plural(len(set(result.prompt_topics)), 'topic')}"
    )
    first = tables[next(iter(tables))]
    top = first[(first["using"] == using) & (first["group"] == "top")].set_index("k")["mean"]
    control = result.difference("log_odds")
    most = int(control[control["using"] == using]["k"].max())
    short = (
        f" Beyond {most} there are too few other neurons to match." if most < result.ks[-1] else ""
    )
    figure.caption = (
        f"{who.title}: the tuned model with the k highest-ranked neurons of {where} "
        f"{_USING.get(using, using)}, at all positions, and with as many random neurons of the "
        f"same layers and size (mean of {plural(result.draws, 'draw')}; dots: each draw). "
        f"{parts[0][0].upper()}{'; '.join(parts)[1:]}; shaded: "
        f"{percent(float(tables['log_odds']['level'].iloc[0]))}.{short}"
    )
    unit = "share of answers with an emoji" if "esr" in tables else "log-odds"
    figure.alt = (
        f"Line charts by number of ablated neurons{who.about}: with the top ones ablated the "
        f"{unit} goes from {minus(f'{top.iloc[0]:.2f}')} to {minus(f'{top.min():.2f}')}; "
        "matched random neurons beside them."
    )
