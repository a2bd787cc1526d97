"""Which components write the difference: directly, by estimate, and within the adapter."""

import pandas as pd

from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Maker, Part, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.wording import extent, listing, minus, number
from interp.show import plots
from interp.study.catalogue import ATTRIBUTION, DIRECTIONS, RANKS, SCREEN
from interp.traces.adapters import Directions, RankReadings
from interp.traces.attribution import Attribution
from interp.traces.patching import ScreenResult

METHOD = (
    "Direct: each component's output along the path between both models' final norm outputs, which "
    "sums to the measured change, without what later components make of it. Screened: effects of "
    "every patch (tuned into base, denoising) by gradient, the strongest and as many others "
    "patched exactly. Rank directions: what the emoji log-odds lose without one singular direction "
    "of a matrix's change. Where the tuned model's answers end; intervals over topics."
)


def section(contents: Contents, maker: Maker) -> Section | None:
    """Direct attribution, the screen, the adapter's rank directions."""
    direct, screened = contents.having(ATTRIBUTION), contents.having(SCREEN)
    ranks, firing = contents.having(DIRECTIONS), contents.having(RANKS)
    if not (direct or screened or ranks or firing):
        return None
    said = [_direct(direct)] if direct else []
    said += [_screened(screened)] if screened else []
    said += [_ranks(ranks)] if ranks else []
    said += [_firing(firing)] if firing else []
    made = Section("Which components write the difference?", " ".join(said), method=METHOD)
    for trait, result in direct.items():
        figure = maker.figure(f"direct-{trait}", plots.attribution_components(result, trait))
        made.parts.append(Part(trait, figures=[figure]))
        maker.csv(f"direct-{trait}", result.summary())
    for trait, one in screened.items():
        maker.csv(f"screen-{trait}", one.to_dataframe())
    if firing:
        maker.csv("ranks", stacked({trait: one.to_dataframe() for trait, one in firing.items()}))
    if ranks:
        caption = (
            "The rank directions of the adapter without which the log-odds change most: what they "
            "lose (nats; negative: gain), of those that were measured exactly."
        )
        rows = [Row(trait, _cells(result)) for trait, result in ranks.items()]
        whole = stacked({trait: result.to_dataframe() for trait, result in ranks.items()})
        columns = ("First", "Second", "Third")
        made.tables.append(maker.table("directions", caption, whole, rows, columns))
    return made


def _direct(results: dict[Trait, Attribution]) -> str:
    names, values = set(), {}
    for trait, result in results.items():
        table = result.summary()
        way = 1 if float(result.difference().sum()) >= 0 else -1  # all components: the whole
        row = table.iloc[int((way * table["difference"].to_numpy()).argmax())]
        names.add(str(row["name"]))
        values[trait] = (float(row["difference"]), float(row["low"]), float(row["high"]))
    return (
        f"Most of the difference is written by {listing(sorted(names))}, which adds "
        f"{extent(values, '+')} nats directly."
    )


def _screened(results: dict[Trait, ScreenResult]) -> str:
    said = []
    for trait, result in results.items():
        row = result.to_dataframe().iloc[0]
        which = "" if row["element"] < 0 else f" {int(row['element'])}"
        place = f"{row['site']}{which} of block {int(row['layer'])}"
        agree = result.rank_correlation
        how = "" if agree is None else f"; estimates rank as exact values do with ρ = {agree:.2f}"
        whose = f" ({trait})" if len(results) > 1 else ""
        said.append(f"{place}, {float(row['effect']):+.2f} nats{how}{whose}")
    return minus(f"Of all nodes that were screened and patched, the strongest is {listing(said)}.")


def _ranks(results: dict[Trait, Directions]) -> str:
    values, names = {}, set()
    for trait, result in results.items():
        row = _measured(result).iloc[0]
        values[trait] = (-float(row["effect"]), -float(row["high"]), -float(row["low"]))
        names.add(f"{row['module']} (rank {int(row['rank'])})")
    return (
        f"Without the strongest rank direction of the adapter, {listing(sorted(names))}, the emoji "
        f"log-odds change by {extent(values, '+')} nats."
    )


def _measured(result: Directions) -> pd.DataFrame:
    """The components that were switched off, not those that a gradient speaks of."""
    table = result.to_dataframe()
    return table[table["exact"]]


def _firing(results: dict[Trait, RankReadings]) -> str:
    said = []
    for trait, result in results.items():
        table = result.to_dataframe()
        row = table.iloc[int(table["largest"].to_numpy().argmax())]
        whose = f" ({trait})" if len(results) > 1 else ""
        said.append(f"{row['module']} {int(row['rank'])}, after “{row['after'].strip()}”{whose}")
    return f"The rank that adds most at a token is {listing(said)}."


def _cells(result: Directions) -> tuple[Cell, ...]:
    table, cells = _measured(result), []
    for place in range(min(3, len(table))):
        row = table.iloc[place]
        value = (float(row["effect"]), float(row["low"]), float(row["high"]))
        cells.append(Cell(f"{row['module']} {int(row['rank'])}: {number(*value)}", value[0]))
    return (*cells, *[Cell("none")] * (3 - len(cells)))


FACE = Face("Components", section)
