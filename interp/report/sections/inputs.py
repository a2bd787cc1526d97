"""Which words of question and answer call for the emoji."""

import pandas as pd

from interp.base.traits import Trait
from interp.report.blocks import Cell, Face, Maker, Part, Row, Section, ViewBlock, stacked
from interp.report.collect import Contents
from interp.report.wording import number
from interp.show.plots.parts import count_range, minus, percent
from interp.show.views.words import shaded
from interp.study.catalogue import WORDS
from interp.traces.inputs import WordEffects

METHOD = (
    "Each word is exchanged for a neutral one: of the words that the base itself writes, the three "
    "that it finds likeliest in that place; the effect is what the emoji log-odds at the slot lose "
    "thereby, a mean over the three. Words that say the same hide each other, which is what the "
    "smallest sets are for: all words are exchanged, and put back one by one, at each step the one "
    "that raises the log-odds most. Intervals resample topics (bootstrap-t)."
)

LEAST = 3
"""Occurrences of a word that is named."""


def section(contents: Contents, maker: Maker) -> Section | None:
    """Which words, and how few of them."""
    results = contents.having(WORDS)
    if not results:
        return None
    made = Section("Which words call for the emoji?", _answer(results), method=METHOD)
    rows = []
    for trait, result in results.items():
        part = Part(trait)
        part.views.append(ViewBlock(shaded(result), 1, _said(result)))
        made.parts.append(part)
        rows.append(Row(trait, _cells(result)))
        maker.csv(f"words-{trait}", result.to_dataframe())
    caption = (
        "The words of the answers with the largest mean effect on the emoji log-odds at the slot "
        "(nats, in exchange for neutral words, 95 % intervals over topics), and how many of a "
        "prompt's words keep the share of them that is asked for (median)."
    )
    whole = stacked({trait: result.by_word() for trait, result in results.items()})
    columns = ("First", "Second", "Third", "Words kept", "Prompts")
    made.tables.append(maker.table("words", caption, whole, rows, columns))
    return made


def _answer(results: dict[Trait, WordEffects]) -> str:
    said = [f"{_strongest(result)}{_whose(trait, results)}" for trait, result in results.items()]
    moved = max(float(result.moved().nan_to_num().max()) for result in results.values())
    return (
        f"Strongest, in exchange for neutral words: {'; '.join(said)}. The most that a single word "
        f"adds to the emoji's probability is {100 * moved:.0f} points. {_sizes(results)}"
    )


def _strongest(result: WordEffects) -> str:
    table = _ranked(result)
    if not len(table):
        return "no word has a neutral one"
    first = table.iloc[0]
    return minus(f"“{first['word']}” ({float(first['mean']):+.2f} nats, {int(first['n'])} times)")


def _ranked(result: WordEffects) -> pd.DataFrame:
    """Words that occur often enough for an interval, if there are any; strongest first."""
    table = result.by_word()
    often = table[(table["n"] >= LEAST) & table["low"].notna()]
    return often if len(often) else table


def _whose(trait: Trait, results: dict[Trait, WordEffects]) -> str:
    return f" ({trait})" if len(results) > 1 else ""


def _sizes(results: dict[Trait, WordEffects]) -> str:
    """How few words keep the share, over all prompts that bring something to keep."""
    tables = [result.set_sizes().dropna() for result in results.values()]
    kept = [table for table in tables if len(table)]
    if not kept:
        return "All words together bring no more than their neutral exchanges."
    # What the words do keep, where as many as are put back at most do not keep what is asked for.
    share = min(
        max(result.share for result in results.values()),
        min(float(table["share"].median()) for table in kept),
    )
    medians = [(float(table["kept"].median()), float(table["words"].median())) for table in kept]
    low, high = min(medians), max(medians)
    few = f"{low[0]:.0f}" if low == high else f"{low[0]:.0f} to {high[0]:.0f}"
    return f"Of {high[1]:.0f} words {few} keep {percent(share)} of what all bring (medians)."


def _cells(result: WordEffects) -> tuple[Cell, ...]:
    table, sizes = _ranked(result), result.set_sizes().dropna()
    cells = []
    for place in range(3):
        if place >= len(table):
            cells.append(Cell("none"))
            continue
        row = table.iloc[place]
        mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
        shown = number(mean, low, high, "+") if low == low else minus(f"{mean:+.2f}")
        cells.append(Cell(f"“{row['word']}” {shown}", mean))
    few = float(sizes["kept"].median()) if len(sizes) else None
    cells.append(Cell("—" if few is None else f"{few:.0f}", few))
    return (*cells, Cell(count_range([len(result.topics)], "prompt"), len(result.topics)))


def _said(result: WordEffects) -> str:
    full = float(result.full[0, 0].sigmoid())
    none = float(result.none[0, 0].sigmoid())
    return (
        f"An emoji's probability after this text is {percent(full)}; with every word exchanged for "
        f"a neutral one {percent(none)}."
    )


FACE = Face("Words", section)
