"""Differences from zero, over topics, their p-values corrected over an experiment's table, and how
a number is written in a verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from interp.base.stats import fdr_bh, sign_flip_p
from interp.behaviour.shares import Rows
from interp.show.plots.parts import percent


def difference(
    measure: str, values: Sequence[float], topics: Sequence[str], seed: int
) -> dict[str, Any]:
    """A row of the table: the mean of `values`, its interval and its p-value, both over topics."""
    rows = Rows(0.95, seed)
    if len(set(values)) > 1:
        row = rows.mean(measure, values, topics)
    else:  # an interval of equal values would claim to be certain
        row = rows.plain(measure, values[0], len(values))
    return row | {"p": sign_flip_p(list(values), seed, topics=topics)}


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `p_adjusted`: its `p`s, corrected over all rows that have one."""
    p = table["p"].astype(float) if "p" in table else pd.Series(float("nan"), table.index)
    tested = p.notna()
    adjusted = p.copy()
    if tested.any():
        adjusted[tested] = fdr_bh(p[tested].to_numpy())
    return table.assign(p_adjusted=adjusted)


def shortened(lines: list[str], most: int = 7) -> list[str]:
    """The first lines of a verdict; the last of them says where the others are."""
    more = f" {len(lines) - most} more are in results.csv." if len(lines) > most else ""
    return [*lines[: most - 1], *(f"{line}{more}" for line in lines[most - 1 : most])]


def some(table: pd.DataFrame, measure: str) -> bool:
    """Whether any row of a measure has a value; without one there is nothing to draw."""
    return bool(table.loc[table["measure"] == measure, "value"].notna().any())


def written(row: Mapping[str, Any] | pd.Series, form: str = ".0%") -> str:
    """`value [low, high]`, without the brackets where there is no interval; no 0 % that is none."""

    def said(part: float) -> str:
        text = f"{part:{form}}"
        none = form.endswith("%") and part != 0 and float(text.rstrip("%")) == 0
        return percent(part).replace(" %", "%") if none else text

    value, low, high = (row[name] for name in ("value", "low", "high"))
    return said(value) + (f" [{said(low)}, {said(high)}]" if pd.notna(low) else "")
