"""Does a self-report measure anything, and does it go with what the model does?

*Cronbach's alpha* (1951): `k / (k - 1) * (1 - sum of item variances / variance of the sum)` over
respondents, sample variances. The respondents are administrations: every prompt and option order of
every model given. Over one model it says whether the items move together when the wording moves,
which is not what alpha means for people; over several tuned models it says whether items agree on
how the models differ. It is undefined where the sum does not vary, and may be negative.

*Correlation with behaviour*: Spearman's rho of self-reported trait score and ESR over traits, with
a permutation p-value (exact up to eight pairs). Five traits allow 120 orders: the smallest possible
two-sided p is 2/120 = 0.017, reached only by a perfect ordering. A rho without that p says nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import permutation_test, rankdata, spearmanr
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.traits import Trait, in_order
from interp.measures.questionnaire import SelfReport

_EXACT_UP_TO = 8


def cronbach_alpha(scores: Float[Tensor, "respondent item"]) -> float | None:
    """Cronbach's alpha; `None` where the respondents' sums do not differ.

    Raises:
        InputError: if there are fewer than two items or respondents.
    """
    respondents, k = scores.shape
    if respondents < 2 or k < 2:
        raise InputError(f"alpha needs two respondents and two items, got {respondents} and {k}")
    of_sum = float(scores.double().sum(1).var())
    if of_sum < 1e-12:
        return None
    return k / (k - 1) * (1 - float(scores.double().var(0).sum()) / of_sum)


def alphas(reports: Sequence[SelfReport]) -> pd.DataFrame:
    """Cronbach's alpha of each trait over all administrations of all reports.

    Returns:
        `trait`, `alpha` (empty where undefined), `n_items`, `n_respondents`, `n_models`.

    Raises:
        InputError: if there is no report, only one administration, or reports differ in items.
    """
    if not reports:
        raise InputError("no self-reports to compute alpha over")
    if len({(report.traits, report.facets) for report in reports}) > 1:
        raise InputError("self-reports of different items have no alpha; give one questionnaire's")
    rows = []
    for trait in in_order(set(map(Trait, reports[0].traits))):
        scores = torch.cat([report.of(trait).flatten(1).T for report in reports])
        alpha = cronbach_alpha(scores) if scores.shape[1] > 1 else None
        rows.append((str(trait), alpha, scores.shape[1], len(scores)))
    table = pd.DataFrame(rows, columns=["trait", "alpha", "n_items", "n_respondents"])
    return table.assign(n_models=len(reports))


@dataclass(frozen=True)
class Agreement(Result):
    """Rank correlation of self-reported trait scores with a behaviour, over traits.

    Attributes:
        rho: Spearman's; `None` where one side has no spread.
        p: two-sided permutation p-value; `smallest_p` the smallest that n pairs allow.
        traits, reported, measured: the pairs.
    """

    kind: ClassVar[str] = "agreement"

    rho: float | None
    p: float | None
    smallest_p: float
    traits: tuple[str, ...]
    reported: tuple[float, ...]
    measured: tuple[float, ...]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per trait: `trait`, `reported`, `measured`, and the correlation's numbers."""
        rows = zip(self.traits, self.reported, self.measured, strict=True)
        table = pd.DataFrame(list(rows), columns=["trait", "reported", "measured"])
        return table.assign(rho=self.rho, p=self.p, smallest_p=self.smallest_p, n=len(table))


def self_report_agreement(
    reported: Mapping[Trait, float],
    measured: Mapping[Trait, float],
    *,
    seed: int = 0,
    n_resamples: int = 9999,
) -> Agreement:
    """Spearman's rho of self-report and behaviour over the traits that have both.

    Args:
        reported: score of each trait by the model tuned for it (less the base's, say).
        measured: that model's ESR.
        seed, n_resamples: of the random permutations, where there are more than eight pairs.

    Raises:
        InputError: if fewer than four traits have both, or a value is not finite.
    """
    both = [trait for trait in reported if trait in measured]
    x = np.array([reported[trait] for trait in both], dtype=float)
    y = np.array([measured[trait] for trait in both], dtype=float)
    finite = int(np.isfinite([x, y]).all(0).sum())
    if finite < max(4, len(both)):
        raise InputError(
            f"a rank correlation needs four or more traits, all with finite values on both sides; "
            f"got {len(both)}, of which {finite} have them"
        )
    rho, p = _spearman(x, y, seed, n_resamples)
    n_orders = math.factorial(len(both)) if len(both) <= _EXACT_UP_TO else n_resamples + 1
    smallest = 2 / n_orders if len(both) <= _EXACT_UP_TO else 1 / n_orders
    return Agreement(rho, p, smallest, tuple(map(str, both)), tuple(x.tolist()), tuple(y.tolist()))


def _spearman(
    x: NDArray[Any], y: NDArray[Any], seed: int, n_resamples: int
) -> tuple[float | None, float | None]:
    """Rho and its two-sided permutation p-value, by scipy."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, None
    # |rho| of an order of x rises with this product of centred ranks, which takes all at once.
    ranks = rankdata(y) - (len(y) + 1) / 2
    found = permutation_test(
        (rankdata(x),), lambda order, axis=-1: np.abs(order @ ranks), vectorized=True,  # noqa: ARG005
        permutation_type="pairings", alternative="greater", rng=np.random.default_rng(seed),
        n_resamples=np.inf if len(x) <= _EXACT_UP_TO else n_resamples,
    )  # fmt: skip
    return float(spearmanr(x, y).statistic), float(found.pvalue)
