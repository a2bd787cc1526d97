"""Tables of shares and means over answers, with the intervals of `base.stats` over topics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from interp.base.stats import Interval, mean_interval, share_interval

Row = dict[str, Any]
Hits = Sequence[bool] | Sequence[int]


@dataclass(frozen=True)
class Rows:
    """Makes the rows of a table: `measure`, `value`, `low`, `high`, `n`; intervals over topics.

    A value over nothing, and an interval over fewer than two topics, is empty.
    """

    level: float
    seed: int

    def rate(self, measure: str, hits: Hits, topics: Sequence[str]) -> Row:
        """The share of `hits`."""
        if len(set(topics)) < 2:
            value = sum(hits) / len(hits) if hits else None
            return self.plain(measure, value, len(hits))
        interval = share_interval(hits, topics, level=self.level)
        return self.plain(measure, sum(hits) / len(hits), len(hits), interval)

    def mean(self, measure: str, values: Sequence[float], topics: Sequence[str]) -> Row:
        """The mean of `values`."""
        mean = sum(values) / len(values) if values else None
        if len(set(topics)) < 2:
            return self.plain(measure, mean, len(values))
        interval = mean_interval(values, topics, level=self.level, seed=self.seed)
        return self.plain(measure, mean, len(values), interval)

    def probability(self, measure: str, values: Sequence[float], topics: Sequence[str]) -> Row:
        """The mean of probabilities: no end of its interval lies outside 0 and 1."""
        return self.within(measure, values, topics, (0.0, 1.0))

    def within(
        self,
        measure: str,
        values: Sequence[float],
        topics: Sequence[str],
        ends: tuple[float, float],
    ) -> Row:
        """The mean of values that lie between two ends, and so does its interval."""
        row = self.mean(measure, values, topics)
        if row["low"] is not None:
            row |= {"low": max(ends[0], row["low"]), "high": min(ends[1], row["high"])}
        return row

    def plain(
        self, measure: str, value: float | None, n: int, interval: Interval | None = None
    ) -> Row:
        """A value with an interval made elsewhere, or none."""
        low, high = (interval.low, interval.high) if interval else (None, None)
        return {"measure": measure, "value": value, "low": low, "high": high, "n": n}


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a table whose numbers are numbers also where all are missing."""
    return pd.DataFrame(list(rows)).astype({"value": float, "low": float, "high": float})
