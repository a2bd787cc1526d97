"""Which matrices of the adapter it takes."""

import pandas as pd

from interp.base.stats import share_interval
from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Finding, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.wording import for_traits, listing, minus, percent, share
from interp.show import plots
from interp.show.plots.parts import count_range
from interp.study.catalogue import NECESSITY
from interp.traces.adapters import PartEffects

_ALPHA = 0.05


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which matrices of the adapter it takes."""
    results = contents.having(NECESSITY)
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
        first = "No single matrix is missed beyond chance when it alone is switched off."
    found = Finding(
        first,
        f"The costliest costs {_costliest(tables)} of the share of answers with an emoji.",
        bool(missed),
    )
    answer = (
        f"{found.text} Several matrices that do the same hide each other: what no single one "
        "costs, a set may."
    )
    made = Section(
        "Which parts of the adapter does it take?", answer, found, method=_method(results)
    )
    rows = []
    for trait, result in results.items():
        table = tables[trait]
        maker.csv(f"adapter-{trait}-necessity", table)
        rows.append(Row(trait, _cells(result, table)))
        made.parts.append(Part(trait, _words(table)))
    figure = plots.adapter_maps(
        {str(trait): result for trait, result in results.items()},
        summaries={str(trait): table for trait, table in tables.items()},
    )
    made.figures.append(maker.figure("adapter-necessity", figure))
    caption = (
        "The matrix of each adapter without which fewest answers hold an emoji, and how many "
        "percentage points of the whole adapter's share it costs, with 95 % intervals over topics; "
        "p is corrected over the matrices."
    )
    columns = ("Whole adapter", "Costliest matrix", "Costs", "p", "Answers")
    made.tables.append(maker.table("adapters", caption, stacked(tables), rows, columns))
    return made


def _cells(result: PartEffects, table: pd.DataFrame) -> tuple[Cell, ...]:
    hits = (result.tuned > 0.5).tolist()  # each answer holds an emoji (1) or not (0)
    value = sum(hits) / len(hits)
    two = len(set(result.topics or range(len(hits)))) > 1
    whole = share(value, share_interval(hits, result.topics)) if two else percent(value)
    worst = _worst(table)
    p = float(worst["p_adjusted"])
    return (
        Cell(whole, value),
        Cell(_name(worst)),
        Cell(_points(worst), float(worst["effect"])),
        Cell(f"{p:.2g}", p),
        Cell(f"{result.n_prompts:,}", result.n_prompts),
    )


def _worst(table: pd.DataFrame) -> pd.Series:
    """The matrix without which fewest answers hold an emoji."""
    return table.iloc[int(table["effect"].to_numpy().argmax())]


def _costliest(tables: dict[Trait, pd.DataFrame]) -> str:
    """`12 points [0, 25] (block 3's o)`, and over several traits whose it is."""
    rows = {trait: _worst(table) for trait, table in tables.items()}
    most = max(rows, key=lambda trait: float(rows[trait]["effect"]))
    whose = f"{most}, " if len(rows) > 1 else ""
    return f"{_points(rows[most])} ({whose}{_name(rows[most])})"


def _needed(table: pd.DataFrame) -> pd.DataFrame:
    """Matrices whose loss lowers the share of answers with an emoji, beyond chance."""
    return table[(table["p_adjusted"] < _ALPHA) & (table["effect"] > 0) & table["above_noise"]]


def _words(table: pd.DataFrame) -> str:
    needed = [
        f"{_name(row)} (costs {_points(row)})" for _, row in _needed(table).head(3).iterrows()
    ]
    if not needed:
        worst = _worst(table)
        return (
            f"No single matrix is missed beyond chance: the costliest, {_name(worst)}, costs "
            f"{_points(worst)} of the share of answers with an emoji "
            f"(p = {worst['p_adjusted']:.2g})."
        )
    return f"Fewest answers hold an emoji without {listing(needed)}."


def _name(row: pd.Series) -> str:
    layer = "" if pd.isna(row["layer"]) else f"block {int(row['layer'])}'s "
    return f"{layer}{row['projection'].removesuffix('_proj')}"


def _points(row: pd.Series) -> str:
    """What its loss costs in percentage points, with its interval; a figure shows the same sign."""
    value, low, high = (round(100 * float(row[name])) for name in ("effect", "low", "high"))
    return minus(f"{value} points [{low}, {high}]")


def _method(results: dict[Trait, PartEffects]) -> str:
    counts = [result.n_prompts for result in results.values()]
    return (
        f"{count_range(counts, 'question')} per trait, answered again with the same sampling noise "
        "without each adapted matrix in turn, on one copy of the base. Intervals resample topics; "
        "p-values (sign flips) are corrected over the matrices."
    )


FACE = Face("Adapter", section, "Which parts of the adapter?")
