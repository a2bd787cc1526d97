"""The parts that several figures share: thinned ticks, curves with a band, heatmaps, captions."""

import textwrap
from collections.abc import Sequence
from math import floor, log10
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from interp.show.plots.style import (
    BASE_MARK,
    DIVERGING,
    FAINT,
    ONE_COLUMN,
    SEQUENTIAL,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
)

ACROSS = 5
"""Panels of small multiples that stand side by side."""


def percent(share: float) -> str:
    """A share as a percentage: `86 %`, `0.018 %`, `99.96 %`, `< 0.001 %`; none and all alone are 0
    and 100 %."""
    return f"{minus(_short_of(100, 100 * share, 0))} %"


def fraction(value: float) -> str:
    """A probability or share of 1: `0.87`, `0.00018`, `0.9996`, `< 0.00001`; `0.00` is none."""
    return minus(_short_of(1, value, 2))


def _short_of(whole: int, value: float, decimals: int) -> str:
    """`value` with `decimals`, or two digits of what is left to 0 or `whole` if less."""
    away, least = min(abs(value), abs(whole - value)), 1e-5 * whole
    if 0 < away < least:
        sign, bound = ("<", least) if value < whole / 2 else (">", whole - least)
        return f"{sign} {bound:.{3 + decimals}f}"
    if not 0 < away < 10.0**-decimals:
        return f"{value:.{decimals}f}"
    return f"{value:.{1 - floor(log10(away))}f}".rstrip("0").rstrip(".")


def minus(text: str) -> str:
    """Hyphens of negative numbers as minus signs."""
    return text.replace("-", "−")


def plural(count: int, noun: str) -> str:
    """`1 prompt`, `2,000 prompts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def with_n(label: str, counts: Sequence[int] | pd.Series, noun: str) -> str:
    """An axis' label with the number of observations: `Head (n = 40 prompts)`.

    A noun that the label has already is not said twice: `Share of answers (n = 100)`.
    """
    said = count_range(counts, noun)
    return f"{label} (n = {said.rpartition(' ')[0] if f'{noun}s' in label else said})"


def count_range(counts: Sequence[int] | pd.Series, noun: str) -> str:
    """`40 prompts`, or `12 to 40 prompts` where counts differ."""
    low, high = int(min(counts)), int(max(counts))
    return plural(high, noun) if low == high else f"{low:,} to {plural(high, noun)}"


def reading_names(labels: Sequence[str]) -> list[str]:
    """Short axis labels for the lens' reading points: `embed`, `0`, `0 mid`, ..., `31`.

    The last point is after the last block and gets that block's number.
    """
    blocks = [int(label.partition(".")[0]) for label in labels if label[0].isdigit()]
    last = max((block + (f"{block}" in labels) for block in blocks), default=0)
    short = {"embedding": "embed", "final": str(last)}
    return [short.get(label, label.replace(".", " ")) for label in labels]


def ticks(axes: Axes, which: str, names: Sequence[str], most: int = 12) -> None:
    """Label positions 0, 1, 2, ... of an axis, leaving out labels beyond `most` evenly.

    The last one is always labelled, and the first wherever there is room.
    """
    step = max(1, -(-len(names) // most))
    places = list(range(len(names) - 1, -1, -step))[::-1]
    if places[0] >= max(1, step // 2 + 1):
        places.insert(0, 0)
    setter = axes.set_xticks if which == "x" else axes.set_yticks
    setter(places, [names[place] for place in places])


def band(
    axes: Axes,
    table: pd.DataFrame,
    *,
    x: NDArray[Any],
    colour: str,
    label: str,
    dash: str = "-",
    marker: str = BASE_MARK,
) -> None:
    """A line through `mean` with the interval from `low` to `high` shaded."""
    mean, low, high = (table[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0)
    face = colour if dash == "-" else "white"
    size = 4 if len(x) <= 14 else 2
    axes.plot(x, mean, dash, color=colour, marker=marker, label=label, mfc=face, markersize=size)


def multiples(
    count: int, height: float, ratios: Sequence[float] = (1.0,)
) -> tuple[CaptionedFigure, list[tuple[Axes, ...]]]:
    """A figure of small multiples: up to `ACROSS` panels side by side, with common axes.

    Returns the figure and each panel's axes, top to bottom.

    Args:
        count: panels; one alone fills one column, several are laid out over both.
        height: inches of one panel.
        ratios: heights of the axes that stand above each other in a panel.
    """
    across = min(count, ACROSS)
    bands = -(-count // across)
    figure = new_figure(ONE_COLUMN if count == 1 else TWO_COLUMNS, height * bands)
    grid = figure.subplots(
        bands * len(ratios), across, squeeze=False, height_ratios=[*ratios] * bands
    )
    panels = []
    for place in range(bands * across):
        top = place // across * len(ratios)
        axes = tuple(grid[top + step, place % across] for step in range(len(ratios)))
        for step, one in enumerate(axes):
            if place:
                one.sharey(grid[step, 0])
            one.tick_params(labelleft=place % across == 0, labelbottom=step == len(ratios) - 1)
            one.set_visible(place < count)
        if place < count:
            panels.append(axes)
    return figure, panels


def headline(figure: CaptionedFigure, text: str) -> None:
    """A title over all panels."""
    figure.suptitle(text, fontsize=8.5, fontweight="bold")


def zero_line(axes: Axes, at: float = 0.0) -> None:
    """A thin line that marks a value of reference."""
    axes.axhline(at, color=FAINT, linewidth=0.8, zorder=0)


def heatmap(
    axes: Axes, values: NDArray[Any], scale: Normalize, *, diverging: bool = True
) -> AxesImage:
    """`values[row, column]` as cells, row 0 at the bottom; cells without a value are hatched."""
    shown = np.ma.masked_invalid(values)
    if np.ma.is_masked(shown):
        rows, columns = values.shape
        axes.patch.set(hatch="//////", edgecolor="#D0D4D9")
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(-0.5, rows - 0.5))
    image = axes.imshow(
        shown,
        cmap=DIVERGING if diverging else SEQUENTIAL,
        norm=scale,
        origin="lower",
        aspect="auto",
        interpolation="none",
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return image


def colour_bar(
    figure: CaptionedFigure, image: AxesImage, axes: Any, label: str, extend: str = "neither"
) -> None:
    """A colour bar for all of `axes`, labelled with the quantity and its unit.

    `extend` (`min`, `max`, `both`) gives it a point where cells lie beyond its end.
    """
    slender = 11 * figure.get_figheight()  # else the bar is shorter than tall maps
    room = int(14 * figure.get_figheight())  # characters along the bar
    label = textwrap.fill(label, max(16, room), break_long_words=False)
    bar = figure.colorbar(
        image, ax=axes, label=label, fraction=0.05, aspect=slender, pad=0.02, extend=extend
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)
