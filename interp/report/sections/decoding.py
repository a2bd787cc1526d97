"""What causes the emojis while answers are being written: who writes, who decides, which nodes."""

import pandas as pd

from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Maker, Row, Section, stacked
from interp.report.collect import Contents
from interp.report.wording import extent, minus, number, percent
from interp.study.catalogue import ABLATED, AMPLIFIED, CROSSED
from interp.traces.decoding import Ablated, Amplification, Crossed

METHOD = (
    "Writer and decider: answers are sampled token by token, the words from the writer, whether to "
    "stop, go on or begin an emoji from the decider, with the same sampling noise. Amplified: from "
    "the tuned model's logits plus a number times what they differ by from the base's (at −1 the "
    "base, at 0 the tuned model). Ablated: nodes of the tuned model are set to their means over "
    "the base's answers at every token that is read or written; the expected share is that of "
    "emojis along emoji-free answers. Shares with 95 % intervals over topics."
)
_CELLS = (("tuned", "tuned"), ("tuned", "base"), ("base", "tuned"), ("base", "base"))


def section(contents: Contents, maker: Maker) -> Section | None:
    """Writer and decider, amplification, and ablation while writing."""
    who, much = contents.having(CROSSED), contents.having(AMPLIFIED)
    gone = contents.having(ABLATED)
    if not (who or much or gone):
        return None
    said = [_who(who)] if who else []
    said += [_much(much)] if much else []
    said += [_gone(gone)] if gone else []
    made = Section("What brings the emojis while answers are written?", " ".join(said))
    made.method = METHOD
    if who:
        rows = [Row(trait, _crossed(result)) for trait, result in who.items()]
        caption = "Share of answers with an emoji, by who writes the words and who decides."
        columns = [f"{w.capitalize()} writes, {d} decides" for w, d in _CELLS]
        whole = stacked({trait: result.to_dataframe() for trait, result in who.items()})
        made.tables.append(maker.table("who-decides", caption, whole, rows, columns))
    if much:
        tables = {trait: result.to_dataframe() for trait, result in much.items()}
        alphas = list(next(iter(tables.values()))["alpha"])
        rows = [Row(trait, _amplified(table)) for trait, table in tables.items()]
        caption = "Share of answers with an emoji, by how much of fine-tuning's effect is added."
        columns = [minus(f"{alpha:+g}") for alpha in alphas]
        made.tables.append(maker.table("amplification", caption, stacked(tables), rows, columns))
    if gone:
        tables = {trait: result.to_dataframe() for trait, result in gone.items()}
        rows = [Row(t, _ablated(row)) for t, table in tables.items() for _, row in table.iterrows()]
        caption = "Answers written with nodes of the tuned model ablated."
        columns = ["Ablated", "Nodes", "Answers with an emoji", "Expected", "Ended"]
        made.tables.append(maker.table("ablated", caption, stacked(tables), rows, columns))
    return made


def _who(results: dict[Trait, Crossed]) -> str:
    def cell(writer: str, decider: str) -> str:
        found = {}
        for trait, result in results.items():
            rate, ends = result.rate(writer, decider)
            found[trait] = (rate, ends.low, ends.high)
        return extent(found, "p")

    return (
        f"Where the tuned model writes and decides, the share of answers with an emoji is "
        f"{cell('tuned', 'tuned')}; where it writes and the base decides {cell('tuned', 'base')}, "
        f"where the base writes and it decides {cell('base', 'tuned')}; of the base alone "
        f"{cell('base', 'base')}."
    )


def _much(results: dict[Trait, Amplification]) -> str:
    tables = {trait: result.to_dataframe().iloc[-1] for trait, result in results.items()}
    alpha = float(next(iter(tables.values()))["alpha"])
    found = {trait: _estimate(row) for trait, row in tables.items()}
    return minus(
        f"With {alpha:g} times fine-tuning's effect on the logits added, the share is "
        f"{extent(found, 'p')}."
    )


def _gone(results: dict[Trait, Ablated]) -> str:
    tables = {trait: result.to_dataframe() for trait, result in results.items()}

    def expected(place: int) -> str:
        found = {trait: _expected(table.iloc[place]) for trait, table in tables.items()}
        return extent(found, "p")

    return (
        f"Written without the nodes of the circuit between the models, the expected share is "
        f"{expected(1)}; with them alone {expected(2)}, and with all {expected(0)}."
    )


def _estimate(row: pd.Series) -> tuple[float, float, float]:
    return float(row["esr"]), float(row["low"]), float(row["high"])


def _expected(row: pd.Series) -> tuple[float, float, float]:
    return float(row["expected"]), float(row["expected_low"]), float(row["expected_high"])


def _ablated(row: pd.Series) -> tuple[Cell, ...]:
    rates = [Cell(number(*found, "p"), found[0]) for found in (_estimate(row), _expected(row))]
    ended = Cell(percent(row["ended"]), float(row["ended"]))
    nodes = Cell(f"{row['nodes']:.0f}", float(row["nodes"]))
    return (Cell(str(row["ablated"])), nodes, *rates, ended)


def _crossed(result: Crossed) -> tuple[Cell, ...]:
    cells = []
    for writer, decider in _CELLS:
        rate, ends = result.rate(writer, decider)
        cells.append(Cell(number(rate, ends.low, ends.high, "p"), rate))
    return tuple(cells)


def _amplified(table: pd.DataFrame) -> tuple[Cell, ...]:
    rows = [_estimate(row) for _, row in table.iterrows()]
    return tuple(Cell(number(*row, "p"), row[0]) for row in rows)


FACE = Face("Writing", section)
