"""The layered graph of a circuit.

It stands bottom-up: the input below, each block's heads and above them its MLP, the logits
on top. An edge leaves a node at its top and enters at its bottom, where its arrowhead is; a head
has three entries, for query, key and value. Its width is proportional to |score|. Only as many
edges are drawn as can be read: the largest that lead to the logits by each other. The caption says
how many are not, and which blocks have no node that is drawn.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

from interp.base.errors import InputError
from interp.base.traits import Trait
from interp.readout.rules import GRADIENT
from interp.show.plots.parts import plural
from interp.show.plots.style import (
    BASE_COLOUR,
    FAINT,
    INK,
    TWO_COLUMNS,
    CaptionedFigure,
    new_figure,
    style,
)
from interp.show.plots.subject import Subject
from interp.traces.circuits import Circuit
from interp.traces.circuits.export import node_edges

UP, DOWN = "#B2182B", "#2166AC"
_BOX = {"head": (0.62, 0.30), "mlp": (0.62, 0.26), "end": (0.95, 0.26)}  # inches
_ENTRY = {"q": -0.19, "k": 0.0, "v": 0.19, "": 0.0}
_ROW, _WIDEST = 0.62, 4.0
_HEAD = 0.05  # inches of an arrowhead, beside what its edge's width adds
_TALLEST = 11.0
_ROOM = TWO_COLUMNS - 2.9  # inches for the heads of a line
Place = tuple[float, float]


def circuit_graph(
    circuit: Circuit,
    trait: Trait | str | None = None,
    *,
    most: int = 40,
    colour: str = "sign",
) -> CaptionedFigure:
    """The circuit's largest edges as a layered graph.

    Args:
        circuit: what to draw.
        trait: the adapter's (its colour and name); neutral if left out.
        most: how many edges to draw at most; 40 can be read over two columns.
        colour: red for edges that hold the metric up and blue for those that hold it down, or the
            trait's colour (negative edges dashed).

    Raises:
        InputError: if the circuit has no edge, or `colour` is unknown.
    """
    who = Subject.of(trait)
    if colour not in ("sign", "trait"):
        raise InputError(f"unknown colour {colour!r}; use 'sign' or 'trait'")
    if circuit.n_edges == 0:
        raise InputError("the circuit has no edge to draw; select a larger one")
    core = circuit.core(most)
    table, edges = core.to_dataframe(), node_edges(core)
    names = {name for source, target, _, _ in edges for name in (source, target)}
    places = _places(names, circuit.n_heads)
    top = max(y for _, y in places.values())
    with style():
        height = min(0.9 + _ROW * (1 + top), _TALLEST)
        figure = new_figure(TWO_COLUMNS, height)
        axes = figure.subplots()
        scale = _WIDEST / float(table["score"].abs().max())
        for source, target, entry, score in sorted(edges, key=lambda edge: -abs(edge[3])):
            line = _line(score, colour, who)
            _edge(axes, places[source], places[target], entry, abs(score) * scale, line)
        for name, place in places.items():
            _node(axes, name, place)
        skipped = _blocks(axes, places, circuit.n_layers)
        axes.set(xlim=(-TWO_COLUMNS / 2, TWO_COLUMNS / 2), ylim=(-0.4, top * _ROW + 0.4))
        axes.set(xticks=[], yticks=[])
        axes.axis("off")
        metric = {"log_odds": "emoji log-odds"}.get(circuit.metric, circuit.metric)
        axes.set_title(f"{who.title}: circuit of {metric}, {circuit.contrast} contrast")
        axes.legend(handles=_legend(table["score"], scale, circuit, colour, who),
                    loc="upper right", handlelength=2.2)  # fmt: skip
    figure.caption = _graph_caption(circuit, len(table), colour, who)
    if skipped:
        which = f"{'Block' if skipped.isdecimal() else 'Blocks'} {skipped}"
        figure.caption += f" {which} of 0 to {circuit.n_layers - 1}: no node that is drawn."
    best = table.iloc[0]
    figure.alt = (
        f"Layered graph of {plural(len(table), 'edge')} between {plural(len(places), 'node')}; "
        f"the largest is {best['edge']} with {best['score']:.2f} {circuit.unit}."
    )
    return figure


def _places(names: set[str], n_heads: int) -> dict[str, Place]:
    """Nodes in rows, only those rows that have one; x in inches from the middle, y in rows."""

    def row_of(name: str) -> tuple[int, int]:
        if _kind(name) == "end":
            return (-1, 0) if name == "input" else (10**6, 0)
        return int(name[1:].partition(".")[0]), int(name[0] == "m")

    places: dict[str, Place] = {}
    y = 0
    for row in sorted({row_of(name) for name in names}):
        for line in _lines({name for name in names if row_of(name) == row}, n_heads):
            places |= {name: (x, float(y)) for name, x in line}
            y += 1
    return places


def _lines(names: set[str], n_heads: int) -> list[list[tuple[str, float]]]:
    """A row's nodes with their x, in several lines if they are many.

    MLPs stand in a column of their own, so that few edges cross them; heads each in its own if
    they fit, so that a head stands in the same place in the figures of all traits.
    """
    first = next(iter(names))
    if _kind(first) != "head":
        return [[(first, 1.9 if _kind(first) == "mlp" else -0.55)]]
    number = {name: int(name.partition(".h")[2]) for name in names}
    order = sorted(names, key=lambda name: number[name])
    if n_heads <= 6:
        step = min(1.0, _ROOM / max(1, n_heads - 1))
        return [[(name, (number[name] - (n_heads - 1) / 2) * step - 0.55) for name in order]]
    lines = []
    for start in range(0, len(order), 6):
        part = order[start : start + 6]
        step = min(1.0, _ROOM / max(1, len(part) - 1))
        lines.append([(n, (i - (len(part) - 1) / 2) * step - 0.55) for i, n in enumerate(part)])
    return lines


def _line(score: float, colour: str, who: Subject) -> tuple[str, str]:
    if colour == "sign":
        return (UP if score >= 0 else DOWN), "-"
    return who.colour, "-" if score >= 0 else "--"


def _kind(name: str) -> str:
    return "end" if name in ("input", "logits") else "head" if name[0] == "a" else "mlp"


def _edge(
    axes: Axes, start: Place, end: Place, entry: str, width: float, line: tuple[str, str]
) -> None:
    """A curve that leaves upwards and arrives upwards; long ones between columns bow outward."""
    x0, y0 = start[0], start[1] * _ROW + 0.13
    x1, y1 = end[0] + _ENTRY[entry], end[1] * _ROW - (0.15 if entry else 0.13)
    rows, reach = end[1] - start[1], min(0.5 * (y1 - y0), 0.8 * _ROW)
    bow = 0.0
    if rows > 1 and abs(start[0] - end[0]) < 0.4:
        bow = (1 if start[0] >= 0 else -1) * min(0.45 + 0.09 * rows, 1.3)
    middle = [(x0 + bow, y0 + reach), (x1 + bow, y1 - reach)]
    head = _HEAD + 0.012 * width
    path = Path([(x0, y0), *middle, (x1, y1 - head)], [Path.MOVETO, *[Path.CURVE4] * 3])
    axes.add_patch(
        PathPatch(path, fill=False, edgecolor=line[0], linestyle=line[1], alpha=0.75, zorder=1,
                  linewidth=max(0.35, width), capstyle="butt")
    )  # fmt: skip
    tip = [(x1 - 0.55 * head, y1 - head), (x1 + 0.55 * head, y1 - head), (x1, y1)]
    axes.add_patch(Polygon(tip, closed=True, facecolor=line[0], linewidth=0, zorder=1.5))


def _node(axes: Axes, name: str, place: Place) -> None:
    width, height = _BOX[_kind(name)]
    x, y = place[0], place[1] * _ROW
    face = {"head": "#F3F5F8", "mlp": "#E9EEF3", "end": "white"}[_kind(name)]
    axes.add_patch(
        FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=face,
                       edgecolor=INK, linewidth=0.7, zorder=2,
                       boxstyle="round,pad=0,rounding_size=0.06")
    )  # fmt: skip
    up = 0.045 if _kind(name) == "head" else 0
    axes.text(x, y + up, name, ha="center", va="center_baseline", fontsize=6.5, zorder=3)
    if _kind(name) == "head":
        for letter in "qkv":
            axes.text(x + _ENTRY[letter], y - 0.085, letter, ha="center", va="center_baseline",
                      fontsize=5, color=BASE_COLOUR, zorder=3)  # fmt: skip


def _blocks(axes: Axes, places: dict[str, Place], n_layers: int) -> str:
    """A band behind each block, with its number; where blocks are left out, a dotted line.

    Returns:
        the blocks left out: `1, 3 to 5`; empty if none is.
    """
    rows: dict[int, list[float]] = {}
    for name, (_, y) in places.items():
        if _kind(name) != "end":
            rows.setdefault(int(name[1:].partition(".")[0]), []).append(y)
    for index, (block, ys) in enumerate(sorted(rows.items())):
        low, high = (min(ys) - 0.5) * _ROW, (max(ys) + 0.5) * _ROW
        if index % 2 == 0:
            axes.axhspan(low, high, color=FAINT, alpha=0.16, linewidth=0, zorder=0)
        axes.text(-TWO_COLUMNS / 2 + 0.05, (low + high) / 2, f"Block {block}", va="center",
                  fontsize=6.5, color=BASE_COLOUR)  # fmt: skip
        if block - 1 not in rows and block > 0:
            axes.axhline(low, color=BASE_COLOUR, linewidth=0.7, linestyle=":", zorder=0)
    lost = [block for block in range(n_layers) if block not in rows]
    runs: list[list[int]] = []
    for block in lost:
        if runs and runs[-1][-1] == block - 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in runs)


def _legend(
    scores: pd.Series, scale: float, circuit: Circuit, colour: str, who: Subject
) -> list[Line2D]:
    """What widths and colours mean, with the largest and the smallest edge drawn."""
    handles = []
    for value in (float(scores.abs().max()), float(scores.abs().min())):
        ink = INK if colour == "sign" else who.colour
        handles.append(
            Line2D([], [], color=ink, linewidth=max(0.35, value * scale),
                   label=f"|score| {value:.2g} {circuit.unit}")
        )  # fmt: skip
    if colour == "sign":
        if (scores >= 0).any():
            handles.append(Line2D([], [], color=UP, linewidth=2, label="holds the metric up"))
        if (scores < 0).any():
            handles.append(Line2D([], [], color=DOWN, linewidth=2, label="holds the metric down"))
    return handles


def _graph_caption(circuit: Circuit, drawn: int, colour: str, who: Subject) -> str:
    rest = circuit.n_edges - drawn
    left = (
        f" Drawn: the {plural(drawn, 'largest edge')} that lead to the logits by each other; "
        f"{rest:,} more are not drawn."
        if rest
        else ""
    )
    how = {"greedy": "grown from the logits by the largest scores", "top": "of the largest scores"}
    width = (
        f"|score|, the estimated loss of {circuit.metric} ({circuit.unit}) when the edge alone is "
        "corrupted"
        if circuit.level == "edge"
        else f"|score| of the node that an edge leaves from, the estimated loss of "
        f"{circuit.metric} ({circuit.unit}) when all its edges are corrupted"
    )
    shades = (
        "red edges hold the metric up, blue ones down"
        if colour == "sign"
        else "edges with negative scores dashed"
    )
    by = "EAP-IG" if circuit.rule == GRADIENT.name else f"scores by {circuit.rule}"
    return (
        f"{who.title}, {circuit.contrast} contrast: circuit of "
        f"{plural(circuit.n_edges, 'edge')} of {circuit.graph.n_edges:,}, {how[circuit.search]} "
        f"({by}, {plural(circuit.ig_steps, 'step')}, mean over "
        f"{plural(circuit.n_prompts, 'prompt')}).{left} Width: {width}; {shades}. a0.h1 is head 1 "
        "of block 0, m0 the block's MLP; heads are entered by query, key and value, and heads that "
        "share a key or value head share its edges."
    )
