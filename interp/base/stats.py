"""Intervals and p-values that stand beside every number a user sees. The unit is the topic.

- *Means* and *ratios of means* (`mean_interval`, `mean_ends`, `ratio_ends`): the studentised
  bootstrap (bootstrap-t; Efron 1982, Hall 1988) over topics. At 95 % it covers .92 to .96 from four
  topics on for values that are normal or skewed like rates and exponentials; for log-normal ones of
  unit spread .88 at four topics, .92 at sixteen, .94 at fifty. The percentile bootstrap covers .80
  at four and .90 at ten, BCa and t-intervals less than bootstrap-t wherever values are skewed. Two
  and three topics get the t-interval of the linearised ratio: there is too little to resample; no
  end lies further out than three times that interval's.
- *Shares* (`share_interval`): Wilson's score interval (1927) on the effective number of answers: n
  over the design effect of topics (Kish 1965), which is taken as at least 1. Where nothing or
  everything hits no effect can be seen, and n is the number of topics. `wilson` is the same for
  trials that are independent, `exact` (Clopper and Pearson 1934) for a score that is perfect.
- *Other scores* (`jackknife_ends`: AUROC, balanced accuracy): the jackknife over topics with t, on
  the scale of log-odds. At 95 % it covers .955 to .98 from 24 topics on, more (.98 to 1) below; the
  percentile bootstrap covers .88 at 24 topics and .73 at ten where the AUROC is .96.
- "Is this effect zero?" is a sign-flip test (Fisher 1935) over topics; many such p-values are
  adjusted by Benjamini and Hochberg (1995).

`benchmarks/coverage.py` measures all of it. Everything is NumPy on the CPU. A bootstrap of many
rows is three matrix products of `n_resamples * topics * rows`, in parts of some 100 MB.
"""

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import binomtest, false_discovery_control, norm
from scipy.stats import t as student

from interp.base.errors import InputError

Numbers = Sequence[float] | Sequence[int] | np.ndarray | torch.Tensor
Labels = Sequence[Hashable] | np.ndarray | torch.Tensor | None

RESAMPLES = 2000
FLIPS = 9999
_CELLS = 2_000_000  # numbers held at once
_EXACT_UP_TO = 14
_RESAMPLED_FROM = 4  # topics
_CAP = 3  # of Student's quantiles; costs .01 of coverage at most (skewed rates, four topics)


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval `[low, high]` at confidence `level` (0.95 for 95 %)."""

    low: float
    high: float
    level: float

    def __post_init__(self) -> None:
        _check_level(self.level)
        if not self.low <= self.high:
            raise InputError(f"an interval needs low <= high, got {self.low} and {self.high}")

    def __contains__(self, value: float) -> bool:
        """Whether `value` lies in the interval, ends included."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"[{self.low:.3g}, {self.high:.3g}]"


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval of a proportion of independent trials, by scipy.

    Raises:
        InputError: if `n` is 0, `successes` is not in 0..n, or `level` not in (0, 1).
    """
    return _proportion(successes, n, level, "wilson")


def exact(successes: int, n: int, level: float = 0.95) -> Interval:
    """Clopper and Pearson's interval: never covers less than `level`, also where all succeed.

    Raises:
        InputError: as `wilson`.
    """
    return _proportion(successes, n, level, "exact")


def _proportion(
    successes: int, n: int, level: float, method: Literal["wilson", "exact"]
) -> Interval:
    _check_level(level)
    if n < 1:
        raise InputError("a proportion of 0 trials has no interval; give at least one observation")
    if not 0 <= successes <= n:
        raise InputError(f"successes must lie in 0..{n}, got {successes}")
    found = binomtest(successes, n).proportion_ci(level, method=method)
    return Interval(float(found.low), float(found.high), level)


def share_interval(
    hits: Sequence[bool] | Sequence[int], topics: Labels = None, *, level: float = 0.95
) -> Interval:
    """Interval of the share of `hits`: Wilson's on n over the design effect of topics.

    Args:
        hits: whether each answer does what is counted, `[n]`.
        topics: label of each answer; each its own if left out.
        level: confidence level.

    Raises:
        InputError: if there are no answers, labels do not match, or there are fewer than two
            topics.
    """
    values = [float(hit) for hit in hits]
    return count_interval(values, [1.0] * len(values), topics, level=level)


def count_interval(
    hits: Numbers, counts: Numbers, topics: Labels = None, *, level: float = 0.95
) -> Interval:
    """`share_interval` of things that answers have several of (sentences): hits among counts.

    Raises:
        InputError: as `share_interval`, and if there is nothing to count.
    """
    _check_level(level)
    unit = _units(topics, len(_vector(hits)))
    top, bottom = _vector(hits) @ unit, _vector(counts) @ unit
    top, bottom = top[bottom > 0], bottom[bottom > 0]
    units, n = len(top), bottom.sum()
    if units < 2:
        raise InputError(
            f"{units} topic: an interval over topics needs two or more; ask questions about more "
            "topics"
        )
    share = top.sum() / n
    if top.sum() in (0, n):
        return wilson(units if top.sum() else 0, units, level)
    variance = units / (units - 1) * ((top - share * bottom) ** 2).sum() / n**2
    effective = n / max(1.0, variance / (share * (1 - share) / (n - 1)))
    # The score test's two roots; scipy has them for whole numbers of trials only.
    z2 = float(norm.ppf((1 + level) / 2)) ** 2 / effective
    low, high = sorted(np.roots([1 + z2, -(2 * share + z2), share**2]).real)
    return Interval(float(low), float(high), level)


def mean_interval(
    values: Numbers,
    topics: Labels = None,
    *,
    level: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int,
) -> Interval:
    """Interval of the mean of `values` over topics: `mean_ends` of one row.

    Raises:
        InputError: as `mean_ends`, and if there are fewer than two values (or topics): one unit
            says nothing about its spread.
    """
    row = _vector(values)[None]
    low, high = mean_ends(row, topics, level=level, n_resamples=n_resamples, seed=seed)
    if np.isnan(low[0]):
        raise InputError("an interval needs at least two values (or topics), got 1")
    return Interval(float(low[0]), float(high[0]), level)


def mean_ends(
    values: NDArray[Any] | torch.Tensor,
    topics: Labels = None,
    *,
    level: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the intervals of many means over the same observations, `[row]` each.

    The mean is over observations; topics are the units that vary.

    Args:
        values: `[row, n]`.
        topics: label of each observation, `[n]`; each its own if left out.
        level: confidence level.
        n_resamples: resamples of topics.
        seed: the same seed gives the same ends.

    Returns:
        low and high; NaN with fewer than two topics. A row without spread has no width.

    Raises:
        InputError: if values are not finite, or labels do not match.
    """
    rows = _rows(values)
    whole = np.ones((1, rows.shape[1]))
    return ratio_ends(rows, whole, topics, level=level, n_resamples=n_resamples, seed=seed)


def ratio_ends(
    above: NDArray[Any] | torch.Tensor,
    below: NDArray[Any] | torch.Tensor,
    topics: Labels = None,
    *,
    level: float = 0.95,
    n_resamples: int = RESAMPLES,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `mean_ends`, of the ratios `mean(above) / mean(below)` (recoveries, shares of a whole).

    The ratio's error is linearised, so `below` must be well away from 0 against its own spread.

    Args:
        above: `[row, n]`.
        below: `[row, n]` or `[n]`.
        topics, level, n_resamples, seed: as `mean_ends`.
    """
    _check_level(level)
    if n_resamples < 1:
        raise InputError(f"n_resamples must be at least 1, got {n_resamples}")
    top = _rows(above)
    bottom = np.broadcast_to(_rows(np.atleast_2d(_array(below))), top.shape)
    unit = _units(topics, top.shape[1])
    parts = [
        _studentised(top[rows] @ unit, bottom[rows] @ unit, level, n_resamples, seed)
        for rows in _split(len(top), n_resamples)
    ]
    low, high = np.concatenate(parts, axis=1)
    return low, high


def _studentised(
    top: NDArray[np.float64], bottom: NDArray[np.float64], level: float, n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Low and high ends, `[2, row]`, of the ratio of sums over units, `[row, unit]` both."""
    units = top.shape[1]
    if units < 2:
        return np.full((2, len(top)), np.nan)
    size = bottom.sum(1)
    ratio = top.sum(1) / size
    left = top - ratio[:, None] * bottom  # what each unit adds to the error, sums to 0
    scale = np.sqrt(units / (units - 1))
    spread = scale * np.sqrt((left**2).sum(1)) / np.abs(size)
    tails = [(1 + level) / 2, (1 - level) / 2]
    if units < _RESAMPLED_FROM:
        return ratio - np.outer(student.ppf(tails, units - 1), spread)
    times = _times(units, n_resamples, seed)
    sizes = times @ bottom.T
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample whose gaps cancel is left out
        moved = times @ left.T / sizes
        # The residuals about the resample's own ratio, squared and summed.
        inside = times @ (left**2).T - 2 * moved * (times @ (left * bottom).T)
        inside += moved**2 * (times @ (bottom**2).T)
        t = moved / (scale * np.sqrt(inside) / np.abs(sizes))
    flat = inside <= 1e-9 * (left**2).sum(1)  # one and the same unit throughout: no spread to use
    t[flat] = np.nan
    t[:, flat.all(0)] = 0.0  # a row without spread
    with warnings.catch_warnings():  # a row of which no resample says anything gets no interval
        warnings.simplefilter("ignore", RuntimeWarning)
        high, low = np.nanquantile(t, tails, axis=0)
    # Few distinct values: resamples without spread are a whole tail, and at least t stands in.
    bare, widest = flat.mean(0) > tails[1], student.ppf(tails[0], units - 1)
    high = np.where(bare, np.maximum(high, widest), high)
    low = np.where(bare, np.minimum(low, -widest), low)
    # Nearly equal values in a resample send its t to hundreds: no end is beyond three Student's.
    high, low = np.minimum(high, _CAP * widest), np.maximum(low, -_CAP * widest)
    return ratio - np.stack([high, low]) * spread


def jackknife_ends(
    scores: Numbers, level: float = 0.95, *, share: bool = True, units: int | None = None
) -> tuple[float, float]:
    """Ends of the interval of a score that is no mean: an AUROC, a balanced accuracy, a difference.

    The spread is the jackknife's over topics (Tukey 1958) with the t distribution, for a share on
    the scale of log-odds. A share that is perfect gets the exact bound of as many trials as units.

    Args:
        scores: of all topics, then without each of them, `[1 + topics]`; a NaN (without that topic
            there is no score) is left out.
        level: confidence level.
        share: whether the score lies between 0 and 1; else it is a difference of two that do. If
            no topic tells these two apart, it gets the exact bound of how many may.
        units: independent successes behind a perfect score; the number of topics if left out.

    Returns:
        low and high; NaN with fewer than two topics.
    """
    _check_level(level)
    score, *rest = _array(scores).tolist()
    left = np.array(rest)[np.isfinite(rest)]
    n = len(left)
    if n < 2:
        return np.nan, np.nan
    if share and score in (0.0, 1.0):
        found = exact(round(score) * (units or n), units or n, level)
        return found.low, found.high
    spread = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    half = float(student.ppf((1 + level) / 2, n - 1) * spread)
    if not share:
        if spread < 1e-12:
            half = 1 - exact(units or n, units or n, level).low
        return max(-1.0, score - half), min(1.0, score + half)
    half /= score * (1 - score)
    low, high = expit(logit(score) + np.array([-half, half]))
    return float(low), float(high)


def without_each(topics: Sequence[Hashable]) -> NDArray[np.float64]:
    """Weights `[1 + topics, n]`: of all observations, then with each topic left out in turn."""
    member = _units(topics, len(topics)).T
    return np.concatenate([np.ones((1, len(topics))), 1 - member])


def copies(rows: Sequence[Hashable]) -> list[int]:
    """For each row the number of the first that equals it: copies are one observation.

    Used as the `topics` of an interval or a test it makes one unit of all copies.
    """
    first: dict[Hashable, int] = {}
    return [first.setdefault(row, place) for place, row in enumerate(rows)]


def halves(topics: Labels, n: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of `n` observations are of one half of the topics, and which of the other.

    What is picked as the best of many on the first is judged on the second, which has no part in
    the choice. The second has one topic more where their number is odd.
    """
    unit = _units(topics, n)
    order = np.random.default_rng(seed).permutation(unit.shape[1])
    first: NDArray[np.bool_] = unit[:, order[: len(order) // 2]].sum(1) > 0
    return first, ~first


def sign_flip_p(
    values: Numbers, seed: int, *, topics: Labels = None, n_resamples: int = FLIPS
) -> float:
    """Two-sided p-value of "the values are symmetric about zero": `sign_flip_ps` of one row."""
    row = _vector(values)[None]
    return float(sign_flip_ps(row, seed, topics=topics, n_resamples=n_resamples)[0])


def sign_flip_ps(
    values: NDArray[Any] | torch.Tensor,
    seed: int,
    *,
    topics: Labels = None,
    n_resamples: int = FLIPS,
) -> NDArray[np.float64]:
    """Two-sided p-values of "the values are symmetric about zero", by flipping signs, `[row]`.

    Up to 14 values (or topics) all flips are enumerated and the p-value is exact (smallest
    possible: `2 / 2**n`); above, `n_resamples` random flips, the same for every row, give
    `(1 + hits) / (1 + n_resamples)`, which never is zero.

    Args:
        values: the observed effects, `[row, n]`.
        seed: the same seed gives the same p-values.
        topics: label of each observation, `[n]`; a topic flips as one.
        n_resamples: number of random flips.

    Raises:
        InputError: if values are not finite, or labels do not match.
    """
    if n_resamples < 1:
        raise InputError(f"n_resamples must be at least 1, got {n_resamples}")
    rows = _rows(values)
    sums = rows @ _units(topics, rows.shape[1])
    # Ties with the observed sum count, also those that rounding would break.
    bar = np.abs(sums.sum(1)) - 1e-12 * np.abs(sums).sum(1)
    units = sums.shape[1]
    if units <= _EXACT_UP_TO:
        bits = (np.arange(2**units)[:, None] >> np.arange(units)) & 1
        hits, n, extra = np.zeros(len(sums)), len(bits), 0
        drawn = iter([bits])
    else:
        hits, n, extra = np.zeros(len(sums)), n_resamples, 1
        drawn = _bits(units, n_resamples, seed)
    for bits in drawn:
        for some in _split(len(sums), len(bits)):
            flipped = np.abs(sums[some] @ (1 - 2 * bits).T)
            hits[some] += (flipped >= bar[some, None]).sum(1)
    return (extra + hits) / (extra + n)


def fdr_bh(p_values: Numbers) -> NDArray[np.float64]:
    """Benjamini-Hochberg adjusted p-values, in the shape of the input.

    An adjusted value at or below q means: rejecting all such hypotheses has a false discovery
    rate of at most q (independent or positively dependent tests).

    Args:
        p_values: p-values of any shape; all of them are one family.

    Raises:
        InputError: if there are none, or one is not in [0, 1].
    """
    array = _array(p_values)
    if array.size == 0:
        raise InputError("no p-values to adjust")
    if not ((array >= 0) & (array <= 1)).all():
        raise InputError("p-values must lie in [0, 1]; one does not, or is NaN")
    return np.asarray(false_discovery_control(array.ravel(), method="bh")).reshape(array.shape)


def _split(rows: int, draws: int) -> list[NDArray[np.int64]]:
    """Row numbers in parts, so that a part times `draws` stays small."""
    return np.array_split(np.arange(rows), max(1, -(-rows * draws // _CELLS)))


def _bits(units: int, rows: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """`rows` rows of `units` random bits, in parts of some 8 MB."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // 2 // units)
    for start in range(0, rows, at_once):
        yield rng.integers(2, size=(min(at_once, rows - start), units))


@lru_cache(maxsize=4)
def _times(units: int, rows: int, seed: int) -> NDArray[np.float64]:
    """How often each unit is drawn in each resample, `[rows, units]`."""
    even = np.full(units, 1 / units)
    drawn = np.random.default_rng(seed).multinomial(units, even, rows).astype(np.float64)
    drawn.setflags(write=False)
    return drawn


def _array(values: Numbers) -> NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def _vector(values: Numbers) -> NDArray[np.float64]:
    array = _array(values)
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"values must be one non-empty row of numbers, got shape {array.shape}")
    return _rows(array[None])[0]


def _rows(values: Numbers) -> NDArray[np.float64]:
    array = _array(values)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"values must be non-empty rows of numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise InputError(f"{bad} of {array.size} values are not finite; leave them out and say so")
    return array


def _units(topics: Labels, n: int) -> NDArray[np.float64]:
    """`[n, unit]`: 1 where an observation belongs to a unit, in order of first appearance."""
    if topics is None:
        return np.eye(n)
    labels = topics.tolist() if isinstance(topics, np.ndarray | torch.Tensor) else topics
    if len(labels) != n:
        raise InputError(f"{n} values but {len(labels)} topic labels")
    places: dict[Hashable, int] = {}
    unit = [places.setdefault(label, len(places)) for label in labels]
    return np.eye(len(places))[unit]


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"a confidence level lies between 0 and 1, got {level}")
