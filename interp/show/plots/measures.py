"""Measures of answers: trait alignment, judged adjectives, the first emoji's time, self-report.

Rows are models or methods; a trait has its colour, the base is grey. Lines are intervals as the
results give them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from interp.base.errors import InputError
from interp.base.traits import Trait, in_order
from interp.measures.adjectives import AdjectiveEvaluation
from interp.measures.alignment import TraitAlignment
from interp.measures.questionnaire import SelfReport
from interp.measures.survival import OnsetSurvival
from interp.show.plots.parts import count_range, minus, percent, zero_line
from interp.show.plots.style import (
    BASE_COLOUR,
    BASE_MARK,
    FAINT,
    INK,
    TWO_COLUMNS,
    CaptionedFigure,
    colours_of,
    marks_of,
    new_figure,
    style,
    trait_colour,
    trait_mark,
)

_MOST_PANELS = 5
_FEW = 10  # answers at risk below which a survival curve is drawn pale


def alignment_dots(
    results: Mapping[str, Mapping[Trait, TraitAlignment]],
) -> CaptionedFigure:
    """TA of each method, one panel per trait, with emojis (full) and without (hollow).

    Two grey lines in each panel say what the classifier can do: its accuracy on held-out answers
    of the trait, and the share of other traits' answers that it takes for the trait.

    Args:
        results: by method, then by trait.

    Raises:
        InputError: if there is nothing to draw.
    """
    traits = _traits(results)
    tables = {
        (method, trait): result.to_dataframe().set_index("measure")
        for method, part in results.items()
        for trait, result in part.items()
    }
    with style():
        figure, panels = _panels(len(results), traits)
        for axes, trait in zip(panels, traits, strict=True):
            _classifier_lines(axes, next(t for (_, own), t in tables.items() if own == trait))
            for place, method in enumerate(results):
                if (method, trait) not in tables:
                    continue
                table = tables[method, trait]
                look = _look(method, trait)
                _dot(axes, place - 0.14, table.loc["TA"], look)
                _dot(axes, place + 0.14, table.loc["TA without emojis"], look, hollow=True)
            axes.set_xlim(-0.03, 1.03)
            axes.set_xticks([0, 0.5, 1], ["0", "50", "100 %"])
        _methods(panels[0], list(results))
        figure.supxlabel("Answers that the classifier gives to the trait", fontsize=7.5)
        marks = [_mark(INK), _mark(INK, "white"), Line2D([], [], color=FAINT, linestyle="--")]
        names = ["as written", "emojis taken out", "classifier's accuracy and false alarms"]
        figure.legend(marks, names, loc="outside upper right", ncols=3)
    counts = [int(table["n"]["TA"]) for table in tables.values()]
    one = next(iter(next(iter(results.values())).values()))
    figure.caption = (
        "Trait alignment: share of answers (percent) that the classifier gives to the target trait "
        f"({one.classifier}), as written and with emojis taken out. Over "
        f"{count_range(counts, 'answer')} per method and trait; lines are {percent(one.level)} "
        "intervals over topics. Dashed: the classifier's accuracy on held-out answers of the trait "
        "(right) and its false alarms on those of other traits (left)."
    )
    figure.alt = "Dot plots of trait alignment: " + "; ".join(
        f"{trait} {method} {percent(float(table['value']['TA']))}"
        for (method, trait), table in tables.items()
    )
    return figure


def adjective_dots(
    results: Mapping[str, Mapping[Trait, AdjectiveEvaluation]],
) -> CaptionedFigure:
    """PAE of each method, one panel per trait; thin lines are its bounds over failed judgements.

    Args:
        results: by method, then by trait.

    Raises:
        InputError: if there is nothing to draw.
    """
    traits = _traits(results)
    failed = total = 0
    counts, spoken = [], []
    with style():
        figure, panels = _panels(len(results), traits)
        for axes, trait in zip(panels, traits, strict=True):
            axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
            for place, method in enumerate(results):
                if trait not in results[method]:
                    continue
                result = results[method][trait]
                table = result.to_dataframe().set_index("measure")
                bounds = table.loc["PAE, whatever the failures"]
                if result.n_failed:
                    ends = [bounds["low"], bounds["high"]]
                    axes.plot(ends, [place, place], color=BASE_COLOUR, linewidth=0.7)
                _dot(axes, float(place), table.loc["PAE"], _look(method, trait))
                failed, total = failed + result.n_failed, total + len(result.problems)
                counts.append(int(table["n"]["PAE"]))
                spoken.append(f"{trait} {method} " + minus(f"{table['value']['PAE']:+.2f}"))
            axes.xaxis.set_major_locator(MaxNLocator(3))
        _methods(panels[0], list(results))
        what = "Judge's score after the edit minus before (scale 1 to 5)"
        figure.supxlabel(what, fontsize=7.5)
    one = next(iter(next(iter(results.values())).values()))
    figure.caption = (
        f"PAE: a judge's ({one.judge}) score for the target trait's adjectives, after the edit "
        f"minus before. Over {count_range(counts, 'question')} judged on both sides per method and "
        f"trait; thick lines are {percent(one.level)} intervals over topics. Failed judgements: "
        f"{failed} of {total}"
        + ("; thin grey lines are the bounds whatever these would have said." if failed else ".")
    )
    figure.alt = "Dot plots of PAE: " + "; ".join(spoken)
    return figure


def onset_curves(results: Mapping[str, OnsetSurvival]) -> CaptionedFigure:
    """Kaplan-Meier and cumulative incidence of the first emoji, with the answers at risk.

    Args:
        results: by model; a trait's name gets the trait's colour, `base` is grey.

    Raises:
        InputError: if there is no result, or they are in different units.
    """
    units = {result.unit for result in results.values()}
    if len(units) != 1:
        raise InputError(f"onset curves need one unit, got {len(units)}; draw each unit apart")
    unit = units.pop()
    last = max(int(result.times[-1]) for result in results.values())
    colours = colours_of(list(results))
    with style():
        figure = new_figure(TWO_COLUMNS, 2.5 + 0.13 * len(results))
        grid = figure.add_gridspec(2, 2, height_ratios=[2.3, 0.12 + 0.13 * len(results)])
        left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
        for name, result in results.items():
            _km(left, result, name, colours[name])
            _incidence(right, result, last, colours[name])
        left.set(title="Still without an emoji, if answers went on", ylabel="Share of answers")
        right.set(title="With an emoji")
        for axes in (left, right):
            axes.set(xlim=(0, 1.015 * last), ylim=(-0.02, 1.02))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
            axes.set_xlabel(f"{unit.capitalize()} of the answer")
        _at_risk(figure.add_subplot(grid[1, 0]), left, results, colours)
        if len(results) > 1:
            figure.legend(loc="outside upper center", ncols=min(6, len(results)))
    counts = [result.n for result in results.values()]
    silent = [name for name, result in results.items() if result.n_events == 0]
    level = next(iter(results.values())).level
    figure.caption = (
        f"Left: Kaplan-Meier share of answers still without an emoji by {unit}, answers censored "
        f"at their end, with {percent(level)} log-log intervals; pale where fewer than {_FEW} "
        "answers are at risk. Right: cumulative incidence, the share that have one, the end of "
        "the answer competing; bands resample topics. "
        f"Over {count_range(counts, 'answer')} per model."
        + (f" Without any emoji: {', '.join(silent)}." if silent else "")
    )
    shares = [f"{name} {percent(float(one.incidence[-1]))}" for name, one in results.items()]
    figure.alt = "Curves of the first emoji's time; share of answers with one: " + "; ".join(shares)
    return figure


def questionnaire_scores(reports: Sequence[SelfReport]) -> CaptionedFigure:
    """Self-reported trait scores of each model, with their spread over prompts and orders.

    Args:
        reports: one per model.

    Raises:
        InputError: if there is no report.
    """
    if not reports:
        raise InputError("no self-reports to draw")
    table = pd.concat([report.to_dataframe() for report in reports], ignore_index=True)
    names, traits = list(dict.fromkeys(table["model"])), in_order(set(map(Trait, table["trait"])))
    colours, marks = colours_of(names), marks_of(names)
    with style():
        figure = new_figure(TWO_COLUMNS, 0.9 + len(traits) * (0.12 + 0.11 * len(names)))
        axes = figure.subplots()
        axes.axvline(3, color=FAINT, linewidth=0.8, zorder=0)
        for place, trait in enumerate(traits):
            zero_line(axes, place - 0.5)
            for nth, name in enumerate(names):
                found = table[(table["trait"] == str(trait)) & (table["model"] == name)]
                if found.empty:  # a label that this model was not asked about
                    continue
                row = found.iloc[0]
                y = place + 0.8 * ((nth + 0.5) / len(names) - 0.5)
                ends = [row["least"], row["most"]]
                axes.plot(ends, [y, y], color=colours[name], linewidth=0.7)
                axes.plot([row["low"], row["high"]], [y, y], color=colours[name], linewidth=6,
                          alpha=0.35, solid_capstyle="butt")  # fmt: skip
                axes.plot(row["score"], y, marks[name], color=colours[name], markersize=3)
        axes.set(ylim=(len(traits) - 0.5, -0.5), xlim=_range(table))
        axes.set_yticks(range(len(traits)), [trait.capitalize() for trait in traits])
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Self-reported score, 1 to 5 (3: no opinion)")
        keys = [Line2D([], [], color=colours[n], marker=marks[n], linestyle="") for n in names]
        figure.legend(keys, names, loc="outside upper center", ncols=min(6, len(names)))
    first = reports[0]
    figure.caption = (
        f"Self-reported trait scores, mean over {count_range(table['n_items'], 'item')} each "
        f"(1 to 5), {len(first.prompts)} prompts and {len(first.orders)} option orders. Broad "
        f"bands are {percent(first.level)} intervals over items; thin lines reach from the lowest "
        "to the highest score that any one prompt and order gave. Probability mass on the letters: "
        f"{percent(float(table['coverage'].min()))} to {percent(float(table['coverage'].max()))}."
    )
    figure.alt = "Dot plot of self-reported scores: " + "; ".join(
        f"{row['model']} {row['trait']} {row['score']:.2f}" for _, row in table.iterrows()
    )
    return figure


def _range(table: pd.DataFrame) -> tuple[float, float]:
    """The scale around what is drawn: not all of 1 to 5 where every score is near the middle."""
    low, high = float(table["least"].min()), float(table["most"].max())
    room = max(0.25, 0.08 * (high - low))
    return max(0.95, min(low, 3) - room), min(5.05, max(high, 3) + room)


def _traits(results: Mapping[str, Mapping[Trait, Any]]) -> list[Trait]:
    present = {trait for part in results.values() for trait in part}
    if not present:
        raise InputError("no results to draw; measure at least one method and trait")
    return list(in_order(present))


def _panels(n_rows: int, traits: Sequence[Trait]) -> tuple[CaptionedFigure, Sequence[Axes]]:
    """A row of panels, one per trait, with the rows' common axis."""
    width = TWO_COLUMNS * (0.28 + 0.72 * len(traits) / _MOST_PANELS)
    figure = new_figure(max(width, 4.4), 1.05 + 0.26 * n_rows)
    panels = figure.subplots(1, len(traits), sharey=True, sharex=True, squeeze=False)[0]
    for axes, trait in zip(panels, traits, strict=True):
        axes.set_title(trait.capitalize(), fontsize=7.5)
        axes.tick_params(axis="y", length=0)
    return figure, list(panels)


def _methods(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _classifier_lines(axes: Axes, table: pd.DataFrame) -> None:
    for name in ("classifier's accuracy", "classifier's false alarms"):
        if name in table.index:
            at = float(table["value"][name])
            axes.axvline(at, color=FAINT, linewidth=0.9, linestyle="--", zorder=0)


def _look(method: str, trait: Trait) -> tuple[str, str]:
    """Colour and mark: the trait's, and the base's for the base."""
    if method == "base":
        return BASE_COLOUR, BASE_MARK
    return trait_colour(trait), trait_mark(trait)


def _dot(axes: Axes, place: float, row: Any, look: tuple[str, str], hollow: bool = False) -> None:
    if pd.isna(row["value"]):
        return
    colour, mark = look
    if not pd.isna(row["low"]):
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.2)
    face = "white" if hollow else colour
    axes.plot(row["value"], place, mark, color=colour, markerfacecolor=face, markersize=4)


def _mark(colour: str, face: str | None = None) -> Line2D:
    return Line2D([], [], color=colour, marker="o", linestyle="", markerfacecolor=face or colour)


def _km(axes: Axes, result: OnsetSurvival, name: str, colour: str) -> None:
    """Survival with its band; pale once few answers are at risk."""
    x, few = result.times, int((result.at_risk >= _FEW).sum())
    how: dict[str, Any] = {"where": "post", "color": colour, "linewidth": 1.3}
    axes.step(x[:few], result.survival[:few], label=name, **how)
    start = max(few - 1, 0)
    axes.step(x[start:], result.survival[start:], alpha=0.3, **how)
    low, high = result.low[:few], result.high[:few]
    axes.fill_between(x[:few], low, high, step="post", color=colour, alpha=0.18, linewidth=0)


def _incidence(axes: Axes, result: OnsetSurvival, last: int, colour: str) -> None:
    """Share with an emoji, held to the end of the longest answer of any model."""
    x = [*result.times.tolist(), last]
    parts = (result.incidence, result.incidence_low, result.incidence_high)
    share, low, high = ([*part.tolist(), float(part[-1])] for part in parts)
    axes.step(x, share, where="post", color=colour, linewidth=1.3)
    axes.fill_between(x, low, high, step="post", color=colour, alpha=0.18, linewidth=0)


def _at_risk(
    axes: Axes, above: Axes, results: Mapping[str, OnsetSurvival], colours: Mapping[str, str]
) -> None:
    """How many answers are still going without an emoji, under the ticks of the curve above."""
    low, high = above.get_xlim()
    at = [int(tick) for tick in above.get_xticks() if low <= tick <= high]
    axes.set(xlim=(low, high), ylim=(len(results) - 0.4, -0.6))
    for row, (name, result) in enumerate(results.items()):
        for tick in at:
            count = int(result.at_risk[tick]) if tick < len(result.at_risk) else 0
            text = f"{count:,}"
            axes.text(tick, row, text, ha="center", va="center", fontsize=6.5, color=colours[name])
    axes.set_yticks(range(len(results)), list(results), fontsize=6.5)
    axes.set_xticks([])
    widest = max(len(f"{result.n:,}") for result in results.values())
    axes.tick_params(axis="y", length=0, pad=5 + 2.2 * widest)  # half a count reaches out to there
    axes.spines[:].set_visible(False)
    axes.set_title("At risk", fontsize=7, fontweight="normal", pad=1)
