"""A cure model with room: power generalised Weibull times, covariates on scale, shape and cure.

The survival function of answers that would emit an emoji is `exp(-H)` with the cumulative hazard
`H = (k + 1) / k ((1 + (t / scale)^shape / (k + 1))^k - 1)`: the power generalised Weibull as Burke,
Jones and Noufaily (2020, J. R. Stat. Soc. C 69, 429-457) adapt it. Its power `k` spans known
families: 1 is Weibull, near 0 log-logistic (a hazard that rises and falls), large ones grow like
Gompertz'. A share `cured` never emits one. Each of log scale, log shape and the log-odds of `cured`
is linear in the covariates (multi-parameter regression), so that a group may differ in when, in how
suddenly, and in whether at all. With `k` that makes four parameters for one group.

Times are whole units: an emoji in unit t is an event between t - 1 and t, as in
`interp.measures.hazards.cure_fit`, whose model this is with `power=1` and no covariate. Intervals
resample topics. Power and cure are told apart by answers that go on long after the last onset: if
few do, their intervals are wide, and rightly so.

Cost: rows that are equal are one; some hundredths of a second per fit and resample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.measures.survival import OnsetTimes

Array = NDArray[Any]
_EDGE = float(-logit(1e-6))
_FEWEST = 5
INTERCEPT = "(all at 0)"


@dataclass(frozen=True)
class PowerFit(Result):
    """Coefficients with their intervals, `[term estimate]` of value, low, high.

    Attributes:
        terms: the intercept, then the covariates.
        scale, shape: coefficients of log scale (in log units) and of log shape.
        cured: of the log-odds of the cure fraction; `nan` if it is held at none.
        power: the family's power and its interval, `[estimate]`; low and high `nan` if held fixed.
        log_likelihood, aic: of the fit, to compare families by.
        n, n_events: answers, and answers with an emoji; n_failed: resamples without an emoji.
    """

    kind: ClassVar[str] = "power fit"

    terms: tuple[str, ...]
    scale: Float[Tensor, "term estimate"]
    shape: Float[Tensor, "term estimate"]
    cured: Float[Tensor, "term estimate"]
    power: Float[Tensor, " estimate"]
    log_likelihood: float
    aic: float
    n: int
    n_events: int
    n_failed: int
    unit: str
    level: float

    def survival(self, times: Array, covariates: Sequence[float] = ()) -> Array:
        """The fitted share without an emoji at each time, at the covariates given (0 if none).

        Raises:
            InputError: if these are not as many as the fit's.
        """
        at = np.array([1.0, *(covariates or [0.0] * (len(self.terms) - 1))])
        if len(at) != len(self.terms):
            raise InputError(f"{len(at) - 1} covariates; the fit has {len(self.terms) - 1}")
        scale, shape, cured = (float(at @ part[:, 0].numpy())
                               for part in (self.scale, self.shape, self.cured))  # fmt: skip
        left = _left(np.asarray(times, dtype=float), scale, shape, float(self.power[0]))
        share = 0.0 if np.isnan(cured) else float(expit(cured))
        whole: Array = share + (1 - share) * left
        return whole

    def to_dataframe(self) -> pd.DataFrame:
        """One row per parameter and term: `parameter`, `term`, `value`, `low`, `high`."""
        parts = {"log scale": self.scale, "log shape": self.shape, "log-odds of cured": self.cured}
        rows = [
            (name, term, *values)
            for name, part in parts.items()
            for term, values in zip(self.terms, part.tolist(), strict=True)
        ]
        rows.append(("power", "", *self.power.tolist()))
        return pd.DataFrame(rows, columns=["parameter", "term", "value", "low", "high"])


def power_fit(
    times: OnsetTimes,
    covariates: Mapping[str, Sequence[float] | Array] | None = None,
    *,
    power: float | None = None,
    cure: bool = True,
    level: float = 0.95,
    n_resamples: int = 200,
    seed: int = 0,
) -> PowerFit:
    """Fit the model by maximum likelihood.

    Args:
        times: onset times of all answers.
        covariates: by name, one value per answer; groups are columns of 0 and 1.
        power: hold the power at this value (1 is Weibull); fitted if left out.
        cure: whether a share may never emit an emoji.
        level: confidence level.
        n_resamples, seed: of the bootstrap over topics.

    Raises:
        InputError: if fewer than five answers have an emoji, there are fewer than two topics, or a
            covariate has not one finite value per answer, does not vary, or repeats the others, or
            `power` or `n_resamples` is not above 0.
    """
    if power is not None and not 0 < power < np.inf:
        raise InputError(f"power must be a number above 0, got {power}; 1 is Weibull's")
    if n_resamples < 1:
        raise InputError(f"n_resamples must be 1 or more, got {n_resamples}")
    names, columns = list(covariates or {}), list((covariates or {}).values())
    n = len(times.topics)
    if times.n_events < _FEWEST or len(set(times.topics)) < 2:
        raise InputError(
            f"{times.n_events} of {n} answers, of {len(set(times.topics))} topics, hold an emoji; "
            f"a cure model needs {_FEWEST} or more, and two topics"
        )
    if any(len(column) != n for column in columns):
        raise InputError(f"a covariate needs one value for each of the {n} answers")
    design = np.column_stack([np.ones(n), *(np.asarray(c, dtype=float) for c in columns)])
    if not np.isfinite(design).all() or np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError(
            f"covariates {', '.join(names)}: one is not finite, does not vary, or is a mixture of "
            "the others; leave a reference group without a column"
        )
    data = _Rows.of(times, design, power, cure)
    everyone = np.ones(n)
    best, loss = data.fit(everyone, data.starts(everyone))
    _, unit = np.unique(np.array(times.topics), return_inverse=True)
    rng, drawn, failed = np.random.default_rng(seed), [], 0
    for counts in rng.multinomial(unit.max() + 1, [1 / (unit.max() + 1)] * (unit.max() + 1),
                                  n_resamples):  # fmt: skip
        weights = counts[unit].astype(float)
        if not weights[times.events.numpy()].sum():
            failed += 1
            continue
        drawn.append(data.fit(weights, [best])[0])
    if not drawn:
        raise InputError("no resample of the topics holds an emoji; ask more questions")
    ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    table = np.column_stack([best, *ends])
    k, free = design.shape[1], 2 * design.shape[1] + cure * design.shape[1] + (power is None)
    parts = [torch.tensor(table[i * k : (i + 1) * k]) for i in range(2 + cure)]
    missing = torch.full((k, 3), float("nan"), dtype=torch.float64)
    fixed = [float(power or 0), float("nan"), float("nan")]
    return PowerFit(
        terms=(INTERCEPT, *names),
        scale=parts[0],
        shape=parts[1],
        cured=parts[2] if cure else missing,
        power=torch.tensor(np.exp(table[-1]) if power is None else fixed, dtype=torch.float64),
        log_likelihood=-loss,
        aic=2 * free + 2 * loss,
        n=n,
        n_events=times.n_events,
        n_failed=failed,
        unit=times.unit,
        level=level,
    )


def _left(times: Array, scale: Array | float, shape: Array | float, power: float) -> Array:
    """Share of those who would emit one that have not by each time; scale and shape are logs."""
    with np.errstate(divide="ignore"):
        aged = np.exp(np.minimum(np.exp(shape) * (np.log(times) - scale), 300.0))
    hazard = (power + 1) / power * np.expm1(np.minimum(power * np.log1p(aged / (power + 1)), 300.0))
    left: Array = np.exp(-hazard)
    return left


@dataclass(frozen=True)
class _Rows:
    """Different rows of the data, and which of them each answer is."""

    times: Array
    events: NDArray[np.bool_]
    design: Array
    place: NDArray[np.int64]
    power: float | None
    cure: bool

    @classmethod
    def of(cls, times: OnsetTimes, design: Array, power: float | None, cure: bool) -> "_Rows":
        whole = np.column_stack([times.times.numpy(), times.events.numpy(), design])
        rows, place = np.unique(whole, axis=0, return_inverse=True)
        return cls(rows[:, 0], rows[:, 1] > 0, rows[:, 2:], place.reshape(-1), power, cure)

    def starts(self, weights: Array) -> list[Array]:
        """Where to begin: the mean onset, a few cure fractions and powers."""
        known = np.bincount(self.place, weights) * self.events
        k, mean = self.design.shape[1], float(np.average(self.times, weights=known))
        blank = np.zeros(k - 1)
        made: list[Array] = []
        for share in (0.1, 0.5, 0.9) if self.cure else (None,):
            for power in (0.3, 1.0, 3.0) if self.power is None else (None,):
                parts: list[Any] = [[np.log(mean)], blank, [0.0], blank]
                parts += [[logit(share)], blank] if share is not None else []
                parts += [[np.log(power)]] if power is not None else []
                made.append(np.concatenate(parts))
        return made

    def fit(self, weights: Array, starts: Sequence[Array]) -> tuple[Array, float]:
        """The parameters of the largest likelihood, and its negative logarithm."""
        counts = np.bincount(self.place, weights, minlength=len(self.times))
        k = self.design.shape[1]
        bounds = [(-6.0, 12.0)] * k + [(-3.0, 3.0)] * k
        bounds += [(-_EDGE, _EDGE)] * k * self.cure + [(-4.0, 3.0)] * (self.power is None)
        found = [
            minimize(self._loss, one, (counts,), method="L-BFGS-B", bounds=bounds)
            for one in starts
        ]  # fmt: skip
        best = min(found, key=lambda one: one.fun)
        return best.x, float(best.fun)

    def _loss(self, x: Array, counts: Array) -> float:
        k = self.design.shape[1]
        scale, shape = self.design @ x[:k], self.design @ x[k : 2 * k]
        cured = expit(self.design @ x[2 * k : 3 * k]) if self.cure else 0.0
        power = float(np.exp(x[-1])) if self.power is None else self.power
        late = _left(self.times, scale, shape, power)
        early = _left(self.times - 1, scale, shape, power)
        chance = np.where(self.events, (1 - cured) * (early - late), cured + (1 - cured) * late)
        return -float(counts @ np.log(np.maximum(chance, 1e-300)))
