"""Models of the time to the first emoji: a cure fraction, and hazard ratios.

*Cure fraction*: the share of answers that would never emit an emoji however long they went on. Of
the others, times are Weibull (or exponential, shape 1): `S(t) = c + (1 - c) exp(-(t/scale)^shape)`.
Times are counts of tokens or sentences, so the likelihood is that of grouped time: an event at t
lies in (t-1, t]. (lifelines' `MixtureCureFitter` takes time as continuous; the tests compare the
two on fine time.) The interval of `c` is the wider of the profile likelihood's, which takes answers
as independent, and the percentile bootstrap's over topics. A cure fraction can only be told from a
slow onset where answers are observed well past the last emoji: see `n_after_last`.

*Hazard ratios*: Cox (1972) regression with lifelines, one group against a reference, ties by Efron,
standard errors by the sandwich clustered by topic (Lin and Wei 1989), p-values adjusted over the
groups (Benjamini and Hochberg), and the test that the ratio is constant over time (Grambsch and
Therneau 1994, rank-transformed time). Like Kaplan-Meier it takes the end of an answer as telling
nothing about the emoji to come. A group without an emoji has no finite ratio: it is named and left
out.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit
from scipy.stats import chi2

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import fdr_bh
from interp.measures.survival import OnsetTimes

Array = NDArray[Any]
_SMALLEST = 1e-6  # a cure fraction below this counts as none
_FEWEST = 5
_FURTHEST = 10.0  # log hazard ratio, and its standard error, beyond which there is none


@dataclass(frozen=True)
class CureFit(Result):
    """A mixture cure model of one model's onset times.

    Attributes:
        cured: share that would never emit an emoji, with its interval `low`, `high`.
        scale, shape: of the others' Weibull times, in units; shape 1 is exponential.
        log_likelihood, aic: of the fit, to compare shapes by.
        n, n_events: answers, and answers with an emoji.
        n_after_last: answers without an emoji that lasted longer than the latest onset.
        n_failed: bootstrap resamples without an emoji, which have no fit.
    """

    kind: ClassVar[str] = "cure fit"

    cured: float
    low: float
    high: float
    scale: float
    shape: float
    family: str
    log_likelihood: float
    aic: float
    n: int
    n_events: int
    n_after_last: int
    n_failed: int
    unit: str
    level: float

    def survival(self, times: Array) -> Array:
        """The fitted share without an emoji at each time."""
        left: Array = np.exp(-((np.asarray(times, dtype=float) / self.scale) ** self.shape))
        return self.cured + (1 - self.cured) * left

    def to_dataframe(self) -> pd.DataFrame:
        names = [name for name in self.__dataclass_fields__ if name != "kind"]
        return pd.DataFrame([{name: getattr(self, name) for name in names}])


def cure_fit(
    times: OnsetTimes,
    *,
    family: str = "weibull",
    level: float = 0.95,
    n_resamples: int = 200,
    seed: int = 0,
) -> CureFit:
    """Fit a mixture cure model by maximum likelihood.

    Raises:
        InputError: if fewer than five answers have an emoji, there are fewer than two topics, or
            the family is neither `weibull` nor `exponential`.
    """
    if family not in ("weibull", "exponential"):
        raise InputError(f"unknown family {family!r}; use weibull or exponential")
    if times.n_events < _FEWEST:
        raise InputError(
            f"{times.n_events} of {len(times.topics)} answers hold an emoji; a cure model needs "
            f"{_FEWEST} or more. Ask more questions, or leave this model out and say so"
        )
    names = {topic: place for place, topic in enumerate(dict.fromkeys(times.topics))}
    if len(names) < 2:
        raise InputError("onset times of one topic; the interval over topics needs two or more")
    data = _Grouped.of(times)
    free = family == "weibull"
    best = data.fit(free)
    low, high = data.profile(best, free, level)
    rng, unit = np.random.default_rng(seed), np.array([names[topic] for topic in times.topics])
    drawn, failed = [], 0
    for weights in rng.multinomial(len(names), np.full(len(names), 1 / len(names)), n_resamples):
        part = data.weighted(weights[unit])
        if not part.weights[part.events].sum():
            failed += 1
            continue
        drawn.append(part.fit(free, start=best).cured)
    ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    latest = data.times[data.events].max()
    return CureFit(
        cured=best.cured,
        low=min(low, float(ends[0])),
        high=max(high, float(ends[1])),
        scale=best.scale,
        shape=best.shape,
        family=family,
        log_likelihood=best.value,
        aic=2 * (2 + free) - 2 * best.value,
        n=len(data.times),
        n_events=times.n_events,
        n_after_last=int((data.times[~data.events] > latest).sum()),
        n_failed=failed,
        unit=times.unit,
        level=level,
    )


@dataclass(frozen=True)
class _Best:
    cured: float
    scale: float
    shape: float
    value: float


@dataclass(frozen=True)
class _Grouped:
    """Grouped onset times with weights, and their likelihood."""

    times: Array
    events: Array
    weights: Array

    @classmethod
    def of(cls, times: OnsetTimes) -> "_Grouped":
        when = times.times.numpy().astype(float)
        return cls(when, times.events.numpy(), np.ones(len(when)))

    def weighted(self, weights: Array) -> "_Grouped":
        return _Grouped(self.times, self.events, weights.astype(float))

    def loss(self, cured: float, scale: float, shape: float) -> float:
        """Negative log-likelihood."""
        late = np.exp(-((self.times / scale) ** shape))
        early = np.exp(-(((self.times - 1) / scale) ** shape))
        chance = np.where(self.events, (1 - cured) * (early - late), cured + (1 - cured) * late)
        return -float(self.weights @ np.log(np.maximum(chance, 1e-300)))

    def fit(self, free: bool, start: _Best | None = None, cured: float | None = None) -> _Best:
        """Largest likelihood; `cured` holds the cure fraction fixed."""

        def unpack(x: Array) -> tuple[float, float, float]:
            share = float(expit(x[2])) if cured is None else cured
            return share, float(np.exp(x[0])), float(np.exp(x[1])) if free else 1.0

        mean = float(np.average(self.times, weights=self.weights * self.events))
        bounds = [(-3.0, 12.0), (-3.0, 3.0) if free else (0.0, 0.0)]
        starts = [[np.log(mean), 0.0]] if start is None else []
        if start is not None:
            starts = [[np.log(start.scale), np.log(start.shape)]]
        if cured is None:
            bounds.append((logit(_SMALLEST), -logit(_SMALLEST)))
            shares = (0.1, 0.5, 0.9) if start is None else (np.clip(start.cured, 0.01, 0.99),)
            starts = [[*one, logit(share)] for one in starts for share in shares]
        found = [
            minimize(lambda x: self.loss(*unpack(x)), one, method="L-BFGS-B", bounds=bounds)
            for one in starts
        ]
        best = min(found, key=lambda one: one.fun)
        share, scale, shape = unpack(best.x)
        return _Best(0.0 if share < 2 * _SMALLEST else share, scale, shape, -float(best.fun))

    def profile(self, best: _Best, free: bool, level: float) -> tuple[float, float]:
        """Where the likelihood, maximised over the rest, has fallen by half a chi-square."""
        drop = float(chi2.ppf(level, 1)) / 2

        def above(share: float) -> float:
            return self.fit(free, best, cured=share).value - best.value + drop

        ends = []
        for edge in (0.0, 1 - _SMALLEST):
            if abs(best.cured - edge) < 2 * _SMALLEST or above(edge) >= 0:
                ends.append(round(edge, 5))
            else:
                ends.append(float(brentq(above, *sorted((edge, best.cured)), xtol=1e-4)))
        return ends[0], ends[1]


@dataclass(frozen=True)
class HazardRatios(Result):
    """Hazard of the first emoji in each group over that in the reference.

    Attributes:
        reference: the group that the others are compared with.
        rows: (group, hazard ratio, low, high, p, adjusted p, p of "the ratio is constant",
            answers, answers with an emoji).
        without_event: groups left out because no answer holds an emoji.
        n_reference, n_reference_events: answers of the reference.
        n_topics: clusters of the standard errors.
    """

    kind: ClassVar[str] = "hazard ratios"

    reference: str
    rows: tuple[tuple[Any, ...], ...]
    without_event: tuple[str, ...]
    n_reference: int
    n_reference_events: int
    n_topics: int
    unit: str
    level: float

    def to_dataframe(self) -> pd.DataFrame:
        """One row per group."""
        columns = ["group", "hazard_ratio", "low", "high", "p", "p_adjusted", "p_constant", "n",
                   "n_events"]  # fmt: skip
        return pd.DataFrame(list(self.rows), columns=columns)


def hazard_ratios(
    groups: Mapping[str, OnsetTimes], reference: str, *, level: float = 0.95
) -> HazardRatios:
    """Compare groups (traits, methods) with a reference by Cox regression.

    Args:
        groups: onset times by name; the same topic in two groups is one cluster.
        reference: name of the group to compare with.
        level: confidence level.

    Raises:
        InputError: if the reference is missing or has no emoji, no other group has one, units
            differ, or the fit does not converge.
    """
    held = groups.get(reference)
    if held is None or held.n_events == 0:
        state = "is none of the groups" if held is None else "has no answer with an emoji"
        raise InputError(
            f"reference {reference!r} {state}; compare with another of {', '.join(groups)}"
        )
    if len({times.unit for times in groups.values()}) > 1:
        raise InputError("the groups' onset times are in different units; measure all in one")
    others = [name for name in groups if name != reference]
    shown = [name for name in others if groups[name].n_events]
    if not shown:
        raise InputError(f"no group but {reference!r} has an answer with an emoji")
    parts = []
    for name in (reference, *shown):
        part = groups[name].to_dataframe()[["time", "event", "topic"]]
        parts.append(part.assign(**{f"g{k}": float(name == n) for k, n in enumerate(shown)}))
    table, constant = _cox(pd.concat(parts, ignore_index=True), len(shown), level)
    adjusted = fdr_bh(table["p"].to_numpy())
    rows = tuple(
        (
            name,
            *(float(table[column].iloc[k]) for column in ("ratio", "low", "high", "p")),
            float(adjusted[k]),
            float(constant[k]),
            len(groups[name].topics),
            groups[name].n_events,
        )
        for k, name in enumerate(shown)
    )
    return HazardRatios(
        reference=reference,
        rows=rows,
        without_event=tuple(name for name in others if name not in shown),
        n_reference=len(held.topics),
        n_reference_events=held.n_events,
        n_topics=len({topic for part in parts for topic in part["topic"]}),
        unit=held.unit,
        level=level,
    )


def _cox(data: pd.DataFrame, n_groups: int, level: float) -> tuple[pd.DataFrame, Array]:
    """Ratio, interval and p-value of each group, and the p-values of a constant ratio."""
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning
    from lifelines.statistics import proportional_hazard_test

    fitter = CoxPHFitter(alpha=1 - level)
    with warnings.catch_warnings():
        # It warns ahead of fits that may fail; whether one did is checked below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            fitter.fit(data, "time", "event", cluster_col="topic")
        except ConvergenceError:
            raise InputError(
                "the Cox regression does not converge: the groups' onsets hardly overlap in time; "
                "compare fewer groups, or read their Kaplan-Meier curves"
            ) from None
        tested = proportional_hazard_test(fitter, data, time_transform=_ranks)
    found = fitter.summary.loc[[f"g{k}" for k in range(n_groups)]]
    bounds = [column for column in found.columns if column.startswith("exp(coef) ")]
    table = found[["exp(coef)", *bounds, "p"]].set_axis(["ratio", "low", "high", "p"], axis=1)
    # Where onsets do not overlap the ratio runs off to zero or infinity, and stops somewhere.
    far = (found["coef"].abs() > _FURTHEST) | (found["se(coef)"] > _FURTHEST)
    if not np.isfinite(table.to_numpy()).all() or far.any():
        raise InputError(
            "the Cox regression has no finite hazard ratio: a group's onsets hardly overlap with "
            "the reference's in time; read their Kaplan-Meier curves"
        )
    tests = tested.summary.loc[[f"g{k}" for k in range(n_groups)], "p"].to_numpy(dtype=float)
    return table, tests


def _ranks(times: pd.Series, events: pd.Series, weights: pd.Series) -> pd.Series:  # noqa: ARG001
    """Ranks of the events' times. lifelines' own give tied events the order of their rows: where
    rows stand group by group, that is a trend of the groups in time."""
    return times.where(events.astype(bool)).rank()
