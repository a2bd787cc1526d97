"""Necessity and sufficiency of an adapter's parts, exact.

The adapter's whole effect on a prompt is metric(tuned) - metric(base). For a part m of it (a
module, a layer, a kind of matrix):

    necessity   = metric(all on) - metric(all but m)      what is lost without it
    sufficiency = metric(only m) - metric(base)           what it brings by itself

Positive means: towards the emoji (whatever the metric measures). The two differ where parts work
together: a chain of two modules has full necessity and no sufficiency in both, two modules that do
the same have the reverse. Neither adds up to the whole; Shapley values do (`shapley`).

Every effect has its share of the whole effect (ratio of means over prompts; prompts in which the
whole is at most `min_gap` are left out of shares, counted and said), a bootstrap-t interval over
topics, a sign-flip p-value adjusted for the number of parts, and a noise floor: the
largest difference of the metric between gated runs in a batch and the pair's own models on each
prompt alone, at least eight roundings of the largest logit. Below it nothing has been measured.

Cost: one forward pass per part and prompt, two more per prompt for the ends and two for the noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.base.results import ByMetric, Result
from interp.base.stats import RESAMPLES, fdr_bh, mean_ends, ratio_ends, sign_flip_ps
from interp.models import ModelPair
from interp.readout.metric import Several, label, unit_of
from interp.readout.question import Metric, Question, asked
from interp.traces.adapters.gated_runs import GatedRuns, Prompts
from interp.traces.adapters.space import AdapterSpace, Unit
from interp.traces.adapters.written import Runs, Written, WrittenRuns, runs_of


@dataclass(frozen=True)
class PartEffects(Result):
    """Effect of every part of an adapter on every prompt; see the module's docstring.

    Attributes:
        values: `[unit batch]`, in `unit`.
        base, tuned: the metric with all modules off and on, `[batch]`.
        units: names of the parts; layers, projections: where they stand (None: no single one).
        measure: `necessity`, `sufficiency` or `shapley`.
        by: `module`, `layer` or `projection`.
        noise_floor: differences up to this are rounding.
        min_gap: prompts with |tuned - base| at or below it have no shares; negative where all count
            (0 and 1 for written answers).
        topics: the unit of resampling of each prompt; None: each prompt is one.
        seed: of intervals and p-values.
        notes: what a reader should be told.
    """

    kind: ClassVar[str] = "adapter effects"

    values: Float[Tensor, "unit batch"]
    base: Float[Tensor, " batch"]
    tuned: Float[Tensor, " batch"]
    units: tuple[str, ...]
    layers: tuple[int | None, ...]
    projections: tuple[str | None, ...]
    measure: str
    by: str
    metric: str
    unit: str
    noise_floor: float
    min_gap: float
    topics: tuple[str, ...] | None
    seed: int
    notes: tuple[str, ...]

    @property
    def n_prompts(self) -> int:
        """Prompts, those without a share included."""
        return len(self.base)

    @property
    def defined(self) -> Bool[Tensor, " batch"]:
        """Prompts that the adapter moves by more than `min_gap`."""
        return (self.tuned - self.base).abs() > self.min_gap

    def mean(self) -> Float[Tensor, " unit"]:
        """Mean effect over all prompts."""
        return self.values.mean(1)

    def share(self) -> Float[Tensor, "unit batch"]:
        """Each prompt's effects as shares of the whole effect on it; NaN where undefined."""
        gap = self.tuned - self.base
        return self.values / torch.where(self.defined & (gap != 0), gap, torch.nan)

    def summary(self, *, level: float = 0.95, n_resamples: int = RESAMPLES) -> pd.DataFrame:
        """One row per part, largest mean effect first.

        Args:
            level: confidence level of the intervals.
            n_resamples: of the bootstrap.

        Returns:
            Columns `unit`, `layer`, `projection`, `n`, `effect` (mean, in the metric's unit),
            `low`, `high`, `share` (mean effect over mean whole effect, of the prompts that have a
            share), `share_low`, `share_high`, `p` (sign-flip test of no effect), `p_adjusted`
            (false discovery rate over the parts) and `above_noise`. With fewer than two prompts (or
            topics) there are no intervals: NaN.
        """
        effect = self.values.double().numpy()
        low, high = self._ends(level, n_resamples)
        share, share_low, share_high = self._shares(level, n_resamples)
        p = sign_flip_ps(effect, self.seed, topics=self.topics)
        table = pd.DataFrame(
            {
                "unit": self.units, "layer": self.layers, "projection": self.projections,
                "n": self.n_prompts, "effect": effect.mean(1), "low": low, "high": high,
                "share": share, "share_low": share_low, "share_high": share_high, "p": p,
                "p_adjusted": fdr_bh(p), "above_noise": np.abs(effect.mean(1)) > self.noise_floor,
            }
        )  # fmt: skip
        return table.sort_values("effect", ascending=False, ignore_index=True, kind="stable")

    def _ends(self, level: float, n_resamples: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each part's mean effect, over prompts."""
        return mean_ends(
            self.values, self.topics, level=level, n_resamples=n_resamples, seed=self.seed
        )

    def _shares(
        self, level: float, n_resamples: int
    ) -> tuple[np.ndarray | float, np.ndarray | float, np.ndarray | float]:
        """Ratio of means of each part with the ends of its interval."""
        use = self.defined.numpy()
        gap = (self.tuned - self.base).double().numpy()[use]
        if not use.any() or abs(gap.mean()) <= max(self.min_gap, self.noise_floor):
            return np.nan, np.nan, np.nan
        effect = self.values.double().numpy()[:, use]
        topics = self.topics
        groups = None if topics is None else tuple(t for t, u in zip(topics, use, strict=True) if u)
        ends = ratio_ends(effect, gap, groups, level=level, n_resamples=n_resamples, seed=self.seed)
        return effect.mean(1) / gap.mean(), *ends

    def to_dataframe(self) -> pd.DataFrame:
        """One row per part and prompt, with effect and share."""
        index = np.indices(self.values.shape).reshape(2, -1)
        return pd.DataFrame(
            {
                "unit": np.array(self.units)[index[0]],
                "layer": pd.array([self.layers[i] for i in index[0]], dtype="Int64"),
                "projection": [self.projections[i] for i in index[0]],
                "prompt": index[1],
                "effect": self.values.flatten().numpy(),
                "share": self.share().flatten().numpy(),
            }
        )


@dataclass(frozen=True)
class EffectsByMetric(ByMetric[PartEffects]):
    """The same switches read by several metrics; `of` gives each as `PartEffects`.

    Attributes:
        values, base, tuned: of each metric, along a leading axis.
        names: the metrics by the names they were asked for with, as `log_odds`.
        metric, unit, notes, noise_floor: one per metric.

    All else is as in `PartEffects`.
    """

    kind: ClassVar[str] = "adapter effects by metric"
    one: ClassVar[type[Result]] = PartEffects
    stacked: ClassVar[tuple[str, ...]] = ("values", "base", "tuned")

    values: Float[Tensor, "metric unit batch"]
    base: Float[Tensor, "metric batch"]
    tuned: Float[Tensor, "metric batch"]
    units: tuple[str, ...]
    layers: tuple[int | None, ...]
    projections: tuple[str | None, ...]
    measure: str
    by: str
    metric: tuple[str, ...]
    unit: tuple[str, ...]
    noise_floor: tuple[float, ...]
    min_gap: float
    topics: tuple[str, ...] | None
    seed: int
    notes: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]


def necessity_each(
    pair: ModelPair | AdapterSpace,
    prompts: Prompts,
    metrics: Mapping[str, Metric],
    *,
    by: str = "module",
    modules: Sequence[str] | None = None,
    ask: Question | None = None,
) -> dict[str, PartEffects]:
    """`necessity` under each of some metrics, all read from one pass.

    Args:
        metrics: by name; factors of one outcome, where one is read at two positions.

    All other arguments and errors are those of `necessity`.
    """
    space, ask = AdapterSpace.of(pair), asked(ask, Several(tuple(metrics.values())))
    runs = GatedRuns(space, prompts, ask)
    units = space.units(by, modules)
    off, on, noise = runs.ends_each()
    values = on - runs.values(1 - space.membership(units), "necessity")
    return {
        name: PartEffects(
            values[:, i].float(),
            **facts(runs, units, "necessity", by, (off[i], on[i], float(noise[i])), ask)
            | {"metric": label(metric), "unit": unit_of(metric, ask.unit)},
        )
        for i, (name, metric) in enumerate(metrics.items())
    }


def necessity(
    pair: ModelPair | AdapterSpace,
    prompts: Prompts | Written,
    *,
    by: str = "module",
    modules: Sequence[str] | None = None,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> PartEffects:
    """What is lost when one part of the adapter is taken away, all others on.

    Args:
        pair: a loaded pair, or its `AdapterSpace` (which spares the checks and the vocabulary).
        prompts: a batch of tokens (as `Slots.prompts` makes them), or questions;
            or `Written(questions)`, to measure what is written.
        by: `"module"`, `"layer"` or `"projection"`.
        modules: take these only, all others stay on.
        metric: short for `ask=Question(metric=...)`.
        ask: metric, metric positions, topics, seed of intervals and p-values, see `Question`.
            Prompts that the whole adapter moves by at most the smallest gap have no shares. A chunk
            takes 128 MiB if left out.

    Raises:
        AdapterError: if the adapter cannot be switched.
        InputError: if an argument does not fit.
    """
    return _part_by_part(
        AdapterSpace.of(pair), prompts, "necessity", by, modules, asked(ask, metric)
    )


def sufficiency(
    pair: ModelPair | AdapterSpace,
    prompts: Prompts | Written,
    *,
    by: str = "module",
    modules: Sequence[str] | None = None,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> PartEffects:
    """What one part of the adapter brings by itself, all others off; see `necessity`.

    Raises:
        AdapterError: if the adapter cannot be switched.
        InputError: if an argument does not fit.
    """
    return _part_by_part(
        AdapterSpace.of(pair), prompts, "sufficiency", by, modules, asked(ask, metric)
    )


def _part_by_part(
    space: AdapterSpace,
    prompts: Prompts | Written,
    measure: Literal["necessity", "sufficiency"],
    by: str,
    modules: Sequence[str] | None,
    ask: Question,
) -> PartEffects:
    runs = runs_of(space, prompts, ask)
    units = space.units(by, modules)
    off, on, noise = runs.ends()
    members = space.membership(units)  # [unit component]: 1 where the part holds the component
    if measure == "necessity":
        values = on - runs.values(1 - members, measure)
    else:
        values = runs.values(members, measure) - off
    return PartEffects(values.float(), **facts(runs, units, measure, by, (off, on, noise), ask))


def facts(
    runs: Runs,
    units: Sequence[Unit],
    measure: str,
    by: str,
    ends: tuple[Tensor, Tensor, float],
    ask: Question,
) -> dict[str, Any]:
    """The fields that all effects of parts share."""
    off, on, noise = ends
    # Every written answer counts, with an emoji or without.
    min_gap = -1.0 if isinstance(runs, WrittenRuns) else ask.min_gap
    return {
        "base": off.float(),
        "tuned": on.float(),
        "units": tuple(unit.label for unit in units),
        "layers": tuple(unit.layer for unit in units),
        "projections": tuple(unit.projection for unit in units),
        "measure": measure,
        "by": by,
        "metric": runs.metric_label,
        "unit": runs.unit,
        "noise_floor": noise,
        "min_gap": min_gap,
        "topics": runs.topics,
        "seed": ask.seed,
        "notes": (*runs.notes, *gap_notes(on - off, min_gap)),
    }


def gap_notes(gap: Float[Tensor, " batch"], min_gap: float) -> tuple[str, ...]:
    """Which prompts the adapter does not move, in words."""
    still = (gap.abs() <= min_gap).nonzero().flatten().tolist()
    if not still:
        return ()
    shown = ", ".join(map(str, still[:10])) + (", ..." if len(still) > 10 else "")
    return (
        f"{len(still)} of {len(gap)} prompts have no share: base and tuned agree within "
        f"{min_gap:g} (prompts {shown})",
    )
