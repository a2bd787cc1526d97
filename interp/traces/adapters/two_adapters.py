"""Two trait adapters on one base at once.

Both adapters' deltas are added to the base of the first pair. Beside each alone this says whether
their effects add up: `interaction` is metric(both) - metric(a) - metric(b) + metric(base), 0 where
they do. The two pairs must have the same base, weight for weight.

Cost: four forward passes per prompt and four generations.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import AdapterError, InputError
from interp.base.results import Result
from interp.base.stats import RESAMPLES
from interp.behaviour.generate import Sampling
from interp.models import ModelPair
from interp.readout.question import Metric, Question, asked
from interp.traces.adapters.gated_runs import GatedRuns, Prompts
from interp.traces.adapters.generation import SAMPLING, Counts, Questions, counted
from interp.traces.adapters.space import AdapterSpace
from interp.traces.adapters.tables import esr_table, mean_table

CONDITIONS = ("base", "a", "b", "both")


@dataclass(frozen=True)
class Added(Result):
    """Base, each adapter alone, and both.

    Attributes:
        values: the metric, `[condition batch]`, conditions as in `CONDITIONS`.
        scales: what each adapter's ΔW was multiplied with.
        adapters: their folders' names.
        esr: counts of answers and sentences with an emoji by topic (see `count`) by condition;
            empty if no questions were given.
        metric, unit, noise_floor, topics, seed, notes: as in `PartEffects`.
    """

    kind: ClassVar[str] = "added adapters"

    values: Float[Tensor, "condition batch"]
    scales: tuple[float, float]
    adapters: tuple[str, str]
    esr: tuple[tuple[tuple[int, ...], ...], ...]
    metric: str
    unit: str
    noise_floor: float
    topics: tuple[str, ...] | None
    seed: int
    notes: tuple[str, ...]

    def interaction(self) -> Float[Tensor, " batch"]:
        """metric(both) - metric(a) - metric(b) + metric(base), per prompt."""
        base, a, b, both = self.values
        return both - a - b + base

    def rates(self, *, level: float = 0.95) -> pd.DataFrame:
        """Emoji-to-sentence ratios by condition with intervals over topics: see `esr_table`.

        Raises:
            InputError: if no questions were given.
        """
        if not self.esr:
            raise InputError("nothing was generated; give questions to added")
        counts: dict[str, Counts] = dict(zip(CONDITIONS, self.esr, strict=True))
        return esr_table(counts, "condition", level)

    def to_dataframe(self, *, level: float = 0.95, n_resamples: int = RESAMPLES) -> pd.DataFrame:
        """Mean metric by condition, and mean interaction, with its interval over topics.

        Returns:
            Columns `condition` (the last is `interaction`), `mean`, `low`, `high` (NaN with fewer
            than two prompts or topics), `n`.
        """
        return mean_table(
            {"condition": (*CONDITIONS, "interaction")},
            torch.cat([self.values, self.interaction()[None]]), self.topics,
            level=level, n_resamples=n_resamples, seed=self.seed,
        )  # fmt: skip


def added(
    pair_a: ModelPair | AdapterSpace,
    pair_b: ModelPair | AdapterSpace,
    prompts: Prompts,
    *,
    scales: tuple[float, float] = (1.0, 1.0),
    questions: Questions = (),
    sampling: Sampling = SAMPLING,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> Added:
    """Measure two adapters alone and together.

    Args:
        pair_a, pair_b: two pairs of one base.
        scales: multiplies each adapter's ΔW, alone and together.
        questions: (question, topic) pairs that are answered in every condition; none: nothing is
            generated.
        sampling: how they are answered.
        prompts, metric, ask: as for
            `interp.adapters.necessity`.

    Raises:
        AdapterError: if the pairs' bases differ, or an adapter cannot be switched.
        InputError: if an argument does not fit.
    """
    one, other = AdapterSpace.of(pair_a), AdapterSpace.of(pair_b)
    check_same_base(one, other)
    # Deltas at the same module add up: each has a hook of its own.
    deltas = (*one.deltas, *(delta.to(one.device) for delta in other.deltas))
    both = AdapterSpace(one.pair, deltas, one.error, one.effect)
    ask = asked(ask, metric)
    runs = GatedRuns(both, prompts, ask)
    first, second = one.n_components, other.n_components
    gates = torch.zeros(4, first + second)
    gates[[1, 3], :first], gates[[2, 3], first:] = scales
    values = runs.values(gates, "added adapters")
    esr = counted(both, gates, questions, sampling, ask.progress)
    return Added(
        values=values.float(), scales=(float(scales[0]), float(scales[1])),
        adapters=(one.pair.tuned_name, other.pair.tuned_name), esr=esr,
        metric=runs.metric_label, unit=runs.unit, noise_floor=max(one.error, other.error),
        topics=runs.topics, seed=ask.seed, notes=runs.notes,
    )  # fmt: skip


def check_same_base(one: AdapterSpace, other: AdapterSpace) -> None:
    """Refuse adapters of different bases.

    Raises:
        AdapterError: if the pairs' bases differ in any weight.
    """
    names = [space.pair.tuned_name for space in (one, other)]
    a, b = (_weights(space.pair.base.original_model) for space in (one, other))
    for name in a.keys() | b.keys():
        mine, theirs = a.get(name), b.get(name)
        if mine is None or theirs is None or not torch.equal(mine, theirs.to(mine.device)):
            raise AdapterError(
                f"the adapters {names[0]} and {names[1]} are of different bases ({name} differs); "
                "load both pairs with the same base and quantization"
            )


def _weights(network: Any) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in network.named_parameters()}
