"""Which matrices of the adapter it takes: exact log-odds first, written answers as the check."""

from collections.abc import Sequence

import pandas as pd

from interp.report import factors
from interp.report.blocks import Cell, Face, FigureBlock, Finding, Fold, Maker, Row, Section
from interp.report.collect import Contents
from interp.report.matrices import Matrices, matrices, name_of
from interp.report.wording import for_traits, listing
from interp.show import plots
from interp.show.plots.parts import count_range

_NAMES = factors.NAMES | {"written": "share of written answers with an emoji"}


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which matrices of the adapter it takes."""
    found = matrices(contents)
    if not found:
        return None
    said = finding(found)
    made = Section(
        "Which parts of the adapter does it take?",
        f"{said.text} Several matrices that do the same hide each other: what no single one costs, "
        "a set may.",
        said, method=_method(found),
    )  # fmt: skip
    _draw(made, found, maker)
    rows = [Row(one.trait, _cells(one)) for one in found]
    caption = (
        "What the whole adapter changes, and the single matrix whose loss changes most of it, "
        "either way: chosen on half of the topics, judged on the other half, with 95 % intervals "
        "over topics. Positive is lost without it. p is corrected over all rows; the last column "
        "counts the matrices that survive correction over all of the study, beyond the smallest "
        "effect of interest."
    )
    columns = (
        "Effect on",
        "Whole adapter",
        "Largest",
        "Lost without it",
        "p",
        "Survive",
        "Prompts",
    )
    whole = pd.concat(
        [one.table.assign(trait=str(one.trait), factor=one.factor) for one in found],
        ignore_index=True,
    )
    made.tables.append(maker.table("adapters", caption, whole, rows, columns))
    return made


def finding(found: Sequence[Matrices]) -> Finding:
    """Whether a single matrix matters, which, and what written answers say to it."""
    exact = [one for one in found if one.factor != "written"] or list(found)
    traits = list(dict.fromkeys(one.trait for one in exact))
    alone = [t for t in traits if any(len(one.survivors) for one in exact if one.trait == t)]
    if alone:
        first = f"A single matrix alone changes the decision {for_traits(alone, traits)}."
    else:
        first = "No single matrix alone changes the decision by an effect worth a word."
    surviving = [one for one in exact if len(one.survivors)] or exact
    largest = max(surviving, key=lambda one: abs(one.effect[0]))
    whose = f"{largest.trait}'s " if len(traits) > 1 else ""
    numbers = (
        f"The largest is {whose}{largest.name}: without it {largest.said(largest.effect)} of the "
        f"{largest.said(largest.whole)} in {_NAMES[largest.factor]} are lost."
    )
    written = [one for one in found if one.factor == "written" and one is not largest]
    if written:
        check = max(written, key=lambda one: one.effect[0])
        whose = f"{check.trait}'s " if len(traits) > 1 else ""
        numbers += (
            f" Of written answers {whose}{check.name} costs most, {check.said(check.effect)} of "
            f"the share with an emoji (p = {check.p:.2g})."
        )
    return Finding(first, numbers, bool(alone))


def _draw(made: Section, found: Sequence[Matrices], maker: Maker) -> None:
    """A map for each factor in which something survives; all others in one fold."""
    folded: list[FigureBlock] = []
    for factor in dict.fromkeys(one.factor for one in found):
        these = [one for one in found if one.factor == factor]
        for one in these:
            maker.csv(f"adapter-{one.trait}-{factor.replace('_', '-')}", one.table)
        figure = plots.adapter_maps(
            {str(one.trait): one.result for one in these},
            summaries={str(one.trait): one.table for one in these},
        )
        drawn = maker.figure(f"adapter-{factor.replace('_', '-')}", figure)
        survive = any(len(one.survivors) for one in these)
        (made.figures if survive and not made.figures else folded).append(drawn)
    if folded:
        made.folds.append(Fold("maps", "Maps of all matrices, nothing or less surviving", folded))


def _cells(one: Matrices) -> tuple[Cell, ...]:
    few = [name_of(row) for _, row in one.survivors.head(3).iterrows()]
    shown = 100 if one.factor == "written" else 1  # points, or nats: what the column sorts by
    return (
        Cell(_NAMES[one.factor]),
        Cell(one.said(one.whole), shown * one.whole[0]),
        Cell(one.name),
        Cell(one.said(one.effect), shown * one.effect[0]),
        Cell(f"{one.p:.2g}", one.p),
        Cell(f"{len(one.survivors)} of {len(one.table)}", len(one.survivors),
             listing(few) if few else ""),
        Cell(f"{one.result.n_prompts:,}", one.result.n_prompts),
    )  # fmt: skip


def _method(found: Sequence[Matrices]) -> str:
    said = []
    exact = [one.result.n_prompts for one in found if one.factor != "written"]
    if exact:
        said.append(
            f"Exact: the log-odds and both of their factors where {count_range(exact, 'answer')} "
            "of the tuned model end, with each adapted matrix switched off in turn on one copy of "
            "the base."
        )
    written = [one.result.n_prompts for one in found if one.factor == "written"]
    if written:
        said.append(
            f"Written: {count_range(written, 'question')} per trait, answered again with the same "
            "sampling noise without each matrix."
        )
    said.append("Intervals are over topics (bootstrap-t), p-values by sign flips.")
    return " ".join(said)


FACE = Face("Adapter", section, "Which parts of the adapter?")
