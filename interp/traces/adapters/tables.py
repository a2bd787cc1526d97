"""Tables of the results of adapter space: means with their intervals, and shares of answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from interp.base.stats import count_interval, mean_ends
from interp.traces.adapters.generation import Counts


def mean_table(
    named: Mapping[str, Sequence[Any]],
    values: Float[Tensor, "row batch"],
    topics: Sequence[str] | None,
    *,
    level: float,
    n_resamples: int,
    seed: int,
) -> pd.DataFrame:
    """One row for each row of values, behind the named columns.

    Returns:
        Those columns, `mean`, `low`, `high` (NaN with fewer than two prompts or topics) and `n`.
    """
    values = values.double()
    low, high = mean_ends(values, topics, level=level, n_resamples=n_resamples, seed=seed)
    means = {"mean": values.mean(1).numpy(), "low": low, "high": high}
    return pd.DataFrame({**named, **means}).assign(n=values.shape[1])


def esr_table(counts: Mapping[Any, Counts], name: str, level: float = 0.95) -> pd.DataFrame:
    """Both emoji-to-sentence ratios of each condition with their intervals over topics.

    Args:
        counts: what `count` returns, by condition.
        name: what the conditions are called.
        level: confidence level.

    Returns:
        Columns `name`, `over` (`response` or `sentence`), `with_emoji`, `n`, `esr`, `low`, `high`.
        Where there is nothing to count (no sentence) share and interval are empty, and the
        interval where fewer than two topics have any.
    """
    rows: list[tuple[Any, ...]] = []
    for condition, numbers in counts.items():
        for over, place in (("response", 0), ("sentence", 2)):
            hits, n = ([topic[at] for topic in numbers] for at in (place, place + 1))
            share = sum(hits) / sum(n) if sum(n) else None
            bounds: tuple[float | None, float | None] = (None, None)
            if sum(some > 0 for some in n) > 1:
                interval = count_interval(hits, n, level=level)
                bounds = (interval.low, interval.high)
            rows.append((condition, over, sum(hits), sum(n), share, *bounds))
    columns = [name, "over", "with_emoji", "n", "esr", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[4:], float))
