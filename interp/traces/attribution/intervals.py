"""A table of many means at once with the intervals and p-values of `interp.base.stats`."""

from collections.abc import Hashable, Sequence

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.stats import RESAMPLES, fdr_bh, mean_ends, sign_flip_ps


def table_of_means(
    values: Float[Tensor, "row batch"],
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean of each row with its interval and p-value over prompts.

    Returns:
        One row each: `mean`, `low`, `high` (`interp.base.stats.mean_ends` over prompts, or whole
        clusters), `p` (sign-flip test of the mean being zero), `p_adjusted` (false discovery rate
        over all rows), `n`.

    Raises:
        InputError: if values are not finite, labels do not match, or there are fewer than two
            prompts or clusters.
    """
    array = values.detach().cpu().double().numpy()
    if array.size == 0:
        raise InputError("there is nothing to take the mean of; give prompts and components")
    low, high = mean_ends(array, clusters, level=level, n_resamples=n_resamples, seed=seed)
    if array.shape[1] < 2 or pd.isna(low).any():
        raise InputError("an interval needs at least two values (or topics), got 1")
    p = sign_flip_ps(array, seed, topics=clusters)
    return pd.DataFrame(
        {"mean": array.mean(1), "low": low, "high": high, "p": p, "p_adjusted": fdr_bh(p)}
    ).assign(n=array.shape[1])
