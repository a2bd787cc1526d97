"""The sections on parts: which circuit carries the emojis, and which matrices of the adapter."""

from collections.abc import Sequence

import pandas as pd

from interp.base.stats import wilson
from interp.base.traits import Trait
from interp.report.behaviour import stacked
from interp.report.blocks import Cell, Maker, Part, Row, Section
from interp.report.collect import Contents
from interp.report.wording import for_traits, listing, minus, number, share
from interp.show import plots
from interp.traces.adapters import PartEffects
from interp.traces.circuits import Circuit, Faithfulness, compare

_ALPHA = 0.05
_ENDS = ("input", "logits")


def circuit_section(contents: Contents, maker: Maker) -> Section | None:
    """Which heads, MLPs and edges between them carry the contrast between prompts."""
    curves: dict[Trait, Faithfulness] = contents.having("circuit_curve")
    found: dict[Trait, Circuit] = contents.having("circuit")
    if not curves:
        return None
    section = Section(
        "circuit", "Which circuit carries it?", "Circuit", _circuit_answer(curves, found)
    )
    whole = Part(None)
    figure = plots.faithfulness_curve({str(trait): one for trait, one in curves.items()})
    whole.figures.append(maker.figure("circuit-curves", figure))
    if len(found) > 1:
        overlap = compare({str(trait): circuit for trait, circuit in found.items()})
        maker.csv("circuit-overlap", overlap.to_dataframe())
        whole.figures.append(maker.figure("circuit-overlap", plots.circuit_overlap(overlap)))
    section.parts.append(whole)
    rows = []
    for trait, result in curves.items():
        maker.csv(f"circuit-{trait}-curve", result.to_dataframe())
        rows.append(Row(trait, _circuit_cells(result, found.get(trait))))
        if trait in found:
            circuit = found[trait]
            maker.csv(f"circuit-{trait}-edges", circuit.to_dataframe())
            drawn = maker.figure(f"circuit-{trait}", plots.circuit_graph(circuit, trait))
            section.parts.append(Part(trait, _circuit_words(circuit.nodes), figures=[drawn]))
    caption = (
        "The smallest circuit that keeps 90 % of the contrast, and how faithful circuits of all "
        "sizes are, with 95 % intervals over pairs of prompts: CPR, the area under the curve below "
        "(1 is best), and CMD, the area between it and 1 (0 is best)."
    )
    columns = ("Edges", "Heads and MLPs", "CPR", "CMD", "Pairs")
    areas = stacked({trait: result.areas() for trait, result in curves.items()})
    section.tables.append(maker.table("circuits", caption, areas, rows, columns))
    return section


def _circuit_answer(curves: dict[Trait, Faithfulness], found: dict[Trait, Circuit]) -> str:
    total = next(iter(curves.values())).total
    order = sorted(found, key=lambda trait: found[trait].n_edges)
    ends = dict.fromkeys((order[0], order[-1])) if order else {}
    named = [
        f"{found[trait].n_edges:,}" + (f" ({trait})" if len(found) > 1 else "") for trait in ends
    ]
    first = (
        f"The smallest circuit that keeps 90 % of the contrast has {' to '.join(named)} of "
        f"{total:,} edges."
        if named
        else "No circuit was found that keeps 90 % of the contrast."
    )
    return (
        f"{first} The contrast is between the end of the tuned model's text and that of a "
        "plain answer, in the tuned model; how the words before it came about is no part of it."
    )


def _circuit_cells(result: Faithfulness, circuit: Circuit | None) -> tuple[Cell, ...]:
    area = result.areas().set_index("name")
    sizes = (Cell("none found"), Cell("none found"))
    if circuit is not None:
        parts = sum(name not in _ENDS for name in circuit.nodes)
        sizes = (Cell(f"{circuit.n_edges:,}", circuit.n_edges), Cell(f"{parts:,}", parts))
    areas = []
    for name in ("CPR", "CMD"):
        value, low, high = (float(x) for x in area.loc[name, ["area", "low", "high"]].to_numpy())
        areas.append(Cell(number(value, low, high), value))
    return (*sizes, *areas, Cell(f"{result.n_prompts:,}", result.n_prompts))


def _circuit_words(nodes: Sequence[str]) -> str:
    """`The circuit runs through block 0 (heads 0 and 3, MLP) and block 3 (MLP).`"""
    blocks: dict[str, list[str]] = {}
    mlps: set[str] = set()
    for name in (name for name in nodes if name not in _ENDS):
        block, _, head = name[1:].partition(".h")
        heads = blocks.setdefault(block, [])
        if head:
            heads.append(head)
        else:
            mlps.add(block)
    said = []
    for block, heads in blocks.items():
        parts = [f"head{'s' if len(heads) > 1 else ''} {listing(heads)}"] if heads else []
        parts += ["MLP"] if block in mlps else []
        said.append(f"block {block} ({', '.join(parts)})")
    return f"The circuit runs through {listing(said)}."


def adapter_section(contents: Contents, maker: Maker) -> Section | None:
    """Which matrices of the adapter it takes."""
    results: dict[Trait, PartEffects] = contents.having("necessity")
    if not results:
        return None
    tables = {trait: result.summary() for trait, result in results.items()}
    missed = [trait for trait, table in tables.items() if len(_needed(table))]
    if missed:
        first = (
            "At least one single matrix is missed beyond chance when it alone is switched off "
            f"{for_traits(missed, tables)}."
        )
    else:
        first = (
            "No single matrix is missed beyond chance when it alone is switched off; the costliest "
            f"changes the share of answers with an emoji by {_costliest(tables)}."
        )
    answer = (
        f"{first} Several matrices that do the same hide each other: what no single one costs, a "
        "set may."
    )
    section = Section("adapter", "Which parts of the adapter does it take?", "Adapter", answer)
    rows = []
    for trait, result in results.items():
        table = tables[trait]
        maker.csv(f"adapter-{trait}-necessity", table)
        rows.append(Row(trait, _adapter_cells(result, table)))
        figure = plots.adapter_maps([result], trait, summaries=[table])
        drawn = maker.figure(f"adapter-{trait}-necessity", figure)
        section.parts.append(Part(trait, _adapter_words(table), figures=[drawn]))
    caption = (
        "The matrix of each adapter without which fewest answers hold an emoji, and by how many "
        "percentage points that differs from the whole adapter, with 95 % intervals over topics; "
        "p is corrected over the matrices."
    )
    columns = ("Whole adapter", "Costliest matrix", "Points", "p", "Answers")
    section.tables.append(maker.table("adapters", caption, stacked(tables), rows, columns))
    return section


def _adapter_cells(result: PartEffects, table: pd.DataFrame) -> tuple[Cell, ...]:
    written = round(float(result.tuned.sum()))  # each answer holds an emoji (1) or not (0)
    whole = share(written / result.n_prompts, wilson(written, result.n_prompts))
    worst = _worst(table)
    p = float(worst["p_adjusted"])
    return (
        Cell(whole, written / result.n_prompts),
        Cell(_name(worst)),
        Cell(_points(worst), -float(worst["effect"])),
        Cell(f"{p:.2g}", p),
        Cell(f"{result.n_prompts:,}", result.n_prompts),
    )


def _worst(table: pd.DataFrame) -> pd.Series:
    """The matrix without which fewest answers hold an emoji."""
    return table.iloc[int(table["effect"].to_numpy().argmax())]


def _costliest(tables: dict[Trait, pd.DataFrame]) -> str:
    """`-12 points [-25, 0]`, and over several traits whose it is."""
    rows = {trait: _worst(table) for trait, table in tables.items()}
    most = max(rows, key=lambda trait: float(rows[trait]["effect"]))
    whose = f"{most}, " if len(rows) > 1 else ""
    return f"{_points(rows[most])} ({whose}{_name(rows[most])})"


def _needed(table: pd.DataFrame) -> pd.DataFrame:
    """Matrices whose loss lowers the share of answers with an emoji, beyond chance."""
    return table[(table["p_adjusted"] < _ALPHA) & (table["effect"] > 0) & table["above_noise"]]


def _adapter_words(table: pd.DataFrame) -> str:
    needed = [f"{_name(row)} ({_points(row)})" for _, row in _needed(table).head(3).iterrows()]
    if not needed:
        worst = _worst(table)
        return (
            f"No single matrix is missed beyond chance: the costliest, {_name(worst)}, changes the "
            f"share of answers with an emoji by {_points(worst)} (p = {worst['p_adjusted']:.2g})."
        )
    return f"Fewest answers hold an emoji without {listing(needed)}."


def _name(row: pd.Series) -> str:
    layer = "" if pd.isna(row["layer"]) else f"block {int(row['layer'])}'s "
    return f"{layer}{row['projection'].removesuffix('_proj')}"


def _points(row: pd.Series) -> str:
    """The loss in percentage points, with its interval."""
    value, low, high = (
        f"{-100 * row[name]:+.0f}".replace("+0", "0").replace("-0", "0")
        for name in ("effect", "high", "low")
    )
    return minus(f"{value} points [{low}, {high}]")
