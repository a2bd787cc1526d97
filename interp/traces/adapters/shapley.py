"""Shapley values of an adapter's parts: effects that add up to the whole.

The Shapley value of a part is its marginal effect, averaged over all orders in which the parts can
be switched on (Shapley 1953). Orders are sampled in antithetic pairs, each permutation with its
reverse (Mitchell et al. 2022); within one order the marginals telescope, so every prompt's values
add up to metric(tuned) - metric(base) exactly, whatever the number of permutations.

Intervals come from permutations *and* prompts: the interval over prompts (or topics), each side
widened by `permutation_se`, the permutations' part alone, which is a little conservative: if
it is large beside the interval, take more permutations, else more prompts.

The gradient estimate beside them is the derivative of the metric by the gates, averaged along the
diagonal from all off to all on (integrated gradients, Sundararajan et al. 2017; the Aumann-Shapley
value), at a few midpoints. It costs a backward pass per step instead of a forward pass per part and
permutation; `rank_correlation` says how well it would have served.

Cost: n_permutations * (parts - 1) + 2 forward passes per prompt at most (equal subsets are run
once), and `gradient_steps` times two forward passes and one backward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange, reduce
from jaxtyping import Float
from scipy.stats import spearmanr
from scipy.stats import t as student
from torch import Tensor

from interp.base.errors import InputError
from interp.base.stats import RESAMPLES, mean_ends
from interp.models import ModelPair
from interp.readout.question import Metric, Question, asked
from interp.traces.adapters.effects import PartEffects, facts
from interp.traces.adapters.gated_runs import Prompts
from interp.traces.adapters.space import AdapterSpace, Unit
from interp.traces.adapters.written import Runs, Written, runs_of


@dataclass(frozen=True)
class ShapleyEffects(PartEffects):
    """Shapley values; `values` are the means of `samples` over permutations.

    Attributes:
        samples: mean marginal effect over each antithetic pair of permutations,
            `[pair unit batch]`.
        gradient: the gradient estimate, `[unit batch]`; not finite if it was left out.
        gradient_steps: points along the diagonal, 0 if it was left out.
    """

    kind: ClassVar[str] = "adapter Shapley values"

    samples: Float[Tensor, "pair unit batch"]
    gradient: Float[Tensor, "unit batch"]
    gradient_steps: int

    @property
    def permutation_se(self) -> Float[Tensor, " unit"]:
        """Standard error of each part's mean value that comes from sampling permutations."""
        means = self.samples.double().mean(2)
        if len(means) < 2:
            return torch.full((len(self.units),), torch.nan, dtype=torch.float64)
        return means.std(0) / len(means) ** 0.5

    def rank_correlation(self) -> tuple[float, float]:
        """Spearman's correlation of gradient estimate and Shapley value over parts, and its p.

        Raises:
            InputError: if the gradient estimate was left out, or there are fewer than three parts.
        """
        if not self.gradient_steps:
            raise InputError("the gradient estimate was left out; give gradient_steps above 0")
        if len(self.units) < 3:
            raise InputError("a rank correlation needs at least three parts")
        found = spearmanr(self.gradient.mean(1).numpy(), self.mean().numpy())
        return float(found.statistic), float(found.pvalue)

    def summary(self, *, level: float = 0.95, n_resamples: int = RESAMPLES) -> pd.DataFrame:
        """As for necessity, with the columns `permutation_se` and `gradient` at the end."""
        table = super().summary(level=level, n_resamples=n_resamples)
        place = [self.units.index(unit) for unit in table["unit"]]
        table["permutation_se"] = self.permutation_se.numpy()[place]
        table["gradient"] = self.gradient.mean(1).double().numpy()[place]
        return table

    def _ends(self, level: float, n_resamples: int) -> tuple[np.ndarray, np.ndarray]:
        """Over topics, each side widened by what permutations add."""
        values = self.samples.double().mean(0)
        low, high = mean_ends(
            values, self.topics, level=level, n_resamples=n_resamples, seed=self.seed
        )
        mean, draws = values.mean(1).numpy(), len(self.samples)
        quantile = student.ppf((1 + level) / 2, draws - 1) if draws > 1 else 0.0
        more = quantile * np.nan_to_num(self.permutation_se.numpy())
        return mean - np.hypot(mean - low, more), mean + np.hypot(high - mean, more)


def shapley(
    pair: ModelPair | AdapterSpace,
    prompts: Prompts | Written,
    *,
    n_permutations: int = 32,
    gradient_steps: int = 4,
    by: str = "module",
    metric: Metric | None = None,
    ask: Question | None = None,
) -> ShapleyEffects:
    """Shapley values of the adapter's parts by antithetic permutation sampling.

    Args:
        n_permutations: an even number; half are drawn, each goes with its reverse. All prompts
            share them.
        gradient_steps: points at which the gradient estimate is taken; 0 leaves it out (a metric
            without a derivative needs that, and so does `Written`).
        ask: its seed is that of permutations, intervals and p-values.
        pair, prompts, metric, by: as for `interp.adapters.necessity`.

    Raises:
        AdapterError: if the adapter cannot be switched.
        InputError: if an argument does not fit.
    """
    if n_permutations < 2 or n_permutations % 2:
        raise InputError(f"n_permutations must be even and at least 2, got {n_permutations}")
    if gradient_steps < 0:
        raise InputError(f"gradient_steps must be at least 0, got {gradient_steps}")
    space = AdapterSpace.of(pair)
    ask = asked(ask, metric)
    runs = runs_of(space, prompts, ask)
    units = space.units(by)
    gradient = _along_diagonal(runs, units, gradient_steps)
    ends = runs.ends()
    samples = _sampled(runs, units, n_permutations // 2, ask.seed)
    shared = facts(runs, units, "shapley", by, ends, ask)
    return ShapleyEffects(
        values=samples.mean(0).float(), samples=samples.float(), gradient=gradient.float(),
        gradient_steps=gradient_steps, **shared,
    )  # fmt: skip


def _sampled(
    runs: Runs, units: Sequence[Unit], n_pairs: int, seed: int
) -> Float[Tensor, "pair unit batch"]:
    """Marginal effects, averaged over each permutation and its reverse."""
    random = torch.Generator().manual_seed(seed)
    size, table = len(units), runs.space.membership(units).cpu()
    orders = []
    for _ in range(n_pairs):
        order = torch.randperm(size, generator=random)
        orders += [order, order.flip(0)]
    # Row k of an order: its first k parts on.
    steps = torch.zeros(len(orders), size + 1, size)
    for row, order in enumerate(orders):
        for k, part in enumerate(order.tolist()):
            steps[row, k + 1 :, part] = 1.0
    values = runs.values(
        rearrange(steps, "order row part -> (order row) part") @ table, "Shapley permutations"
    )
    values = rearrange(values, "(order row) prompt -> order row prompt", order=len(orders))
    marginal = torch.empty(len(orders), size, len(runs), dtype=torch.float64)
    for row, order in enumerate(orders):
        marginal[row, order] = values[row].diff(dim=0)
    return reduce(marginal, "(pair way) unit prompt -> pair unit prompt", "mean", way=2)


def _along_diagonal(runs: Runs, units: Sequence[Unit], steps: int) -> Float[Tensor, "unit batch"]:
    """Mean derivative by each part's gate at `steps` midpoints from all off to all on."""
    if not steps:
        return torch.full((len(units), len(runs)), torch.nan, dtype=torch.float64)
    total = torch.zeros(len(units), len(runs), dtype=torch.float64)
    for step in range(steps):
        if runs.progress is not None:
            runs.progress("gradient estimate", step, steps)
        gates = torch.full((runs.space.n_components,), (step + 0.5) / steps)
        total += runs.gradient(units, gates)
    return total / steps
