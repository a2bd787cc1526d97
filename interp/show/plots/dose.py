"""Expected rates over the dose of an adapter, on a scale of powers of ten."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.ticker import LogLocator, StrMethodFormatter

from interp.base.errors import InputError
from interp.show.plots.parts import band, multiples, percent
from interp.show.plots.style import BASE_COLOUR, CaptionedFigure, colours_of, marks_of, style


def dose_curves(table: pd.DataFrame, readings: Sequence[str], control: str = "") -> CaptionedFigure:
    """A panel for each adapter, a line with its interval for each reading, the base as a level.

    Args:
        table: columns `trait`, `adapter`, `dose`, `measure` (a reading, or `base`), `value`, `low`,
            `high` (probabilities), `n`.
        readings: the measures that are lines, in order.
        control: an `adapter` that gets no panel: hollow points in the trait's first one.

    Raises:
        InputError: if no reading has a value above 0, so that there is no power of ten to draw.
    """
    table = table[table["measure"].isin(["base", *readings])]
    positive = table.loc[table["value"] > 0, "value"]
    if positive.empty:
        raise InputError("no expected rate is above 0; there is nothing to draw")
    least = float(positive.min()) / 4
    drawn = table.rename(columns={"value": "mean"})
    drawn[["mean", "low", "high"]] = drawn[["mean", "low", "high"]].clip(lower=least, upper=1)
    panels = list(drawn[drawn["adapter"] != control].groupby(["trait", "adapter"], sort=False))
    beside = {str(of): part for of, part in drawn[drawn["adapter"] == control].groupby("trait")}
    alone = len({trait for (trait, _), _ in panels}) == len(panels)
    colours, marks = colours_of(readings), marks_of(readings)
    with style():
        figure, axes = multiples(len(panels), 2.1)
        for ((trait, adapter), part), (one,) in zip(panels, axes, strict=True):
            one.axhline(part.loc[part["measure"] == "base", "mean"].iloc[0], color=BASE_COLOUR,
                        linewidth=0.9, linestyle=":", label="base, its own text")  # fmt: skip
            for name in readings:
                line = part[part["measure"] == name].sort_values("dose")
                band(one, line, x=line["dose"].to_numpy(float), colour=colours[name], label=name,
                     marker=marks[name])  # fmt: skip
            for row in beside.pop(str(trait), drawn.iloc[:0]).to_dict("records"):
                if row["measure"] in readings:
                    colour = colours[row["measure"]]
                    one.plot(row["dose"], row["mean"], marks[row["measure"]], mfc="white",
                             mec=colour, markersize=4)  # fmt: skip
            one.set(yscale="log", title=trait if alone else f"{trait}\n{adapter}",
                    xlabel="Dose of ΔW")  # fmt: skip
            one.yaxis.set_major_locator(LogLocator(10, numticks=8))
            one.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            one.minorticks_off()
        axes[0][0].set_ylabel("Expected rate")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.caption = (
        "Expected rate (the share of answers that would hold an emoji) over the dose of the "
        f"adapter, with intervals over topics; {int(drawn['n'].max())} answers of each writer. "
        "Dotted: the base on its own text. The scale is of powers of ten."
        + (f" Hollow: the control, {control}." if control else "")
    )
    ends = drawn[drawn["measure"] == readings[0]]
    figure.alt = (
        f"Expected rates over doses {ends['dose'].min():g} to {ends['dose'].max():g}; "
        f"{readings[0]}: {percent(ends['mean'].min())} to {percent(ends['mean'].max())}."
    )
    return figure
