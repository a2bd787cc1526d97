"""More and less of the adapter: the metric and the emoji-to-sentence ratio for alpha * ΔW.

alpha 0 is the base, 1 the tuned model; between them the curve says whether the emojis come
gradually or at once, beyond 1 whether more of the same brings more, below 0 whether the adapter's
opposite takes away what emojis the base writes. (Linear paths between models: Frankle et al. 2020,
Ilharco et al. 2023.)

Cost: one forward pass per prompt and one generation per alpha.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import RESAMPLES
from interp.behaviour.generate import Sampling
from interp.models import ModelPair
from interp.readout.question import Metric, Question, asked
from interp.traces.adapters.gated_runs import GatedRuns, Prompts
from interp.traces.adapters.generation import SAMPLING, Counts, Questions, counted
from interp.traces.adapters.space import AdapterSpace
from interp.traces.adapters.tables import esr_table, mean_table

ALPHAS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class Interpolation(Result):
    """The curve over alpha.

    Attributes:
        alphas: ascending.
        values: the metric, `[alpha batch]`.
        esr: counts of answers and sentences with an emoji by topic (see `count`) for each
            alpha; empty if no questions were given.
        metric, unit, topics, seed, notes: as in `PartEffects`.
    """

    kind: ClassVar[str] = "adapter interpolation"

    alphas: tuple[float, ...]
    values: Float[Tensor, "alpha batch"]
    esr: tuple[tuple[tuple[int, ...], ...], ...]
    metric: str
    unit: str
    noise_floor: float
    topics: tuple[str, ...] | None
    seed: int
    notes: tuple[str, ...]

    def rates(self, *, level: float = 0.95) -> pd.DataFrame:
        """Emoji-to-sentence ratios by alpha with intervals over topics: see `esr_table`.

        Raises:
            InputError: if no questions were given.
        """
        if not self.esr:
            raise InputError("nothing was generated; give questions to interpolate")
        counts: dict[float, Counts] = dict(zip(self.alphas, self.esr, strict=True))
        return esr_table(counts, "alpha", level)

    def to_dataframe(self, *, level: float = 0.95, n_resamples: int = RESAMPLES) -> pd.DataFrame:
        """Mean metric by alpha with its interval over prompts (or topics).

        Returns:
            Columns `alpha`, `mean`, `low`, `high` (NaN with fewer than two prompts or topics), `n`.
        """
        return mean_table(
            {"alpha": self.alphas}, self.values, self.topics,
            level=level, n_resamples=n_resamples, seed=self.seed,
        )  # fmt: skip


def interpolate(
    pair: ModelPair | AdapterSpace,
    prompts: Prompts,
    *,
    alphas: Sequence[float] = ALPHAS,
    questions: Questions = (),
    sampling: Sampling = SAMPLING,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> Interpolation:
    """Measure the base with alpha * ΔW in all modules.

    Args:
        alphas: which; sorted and without repeats in the result.
        questions: (question, topic) pairs that are answered at every alpha; none: nothing is
            generated.
        sampling: how they are answered.
        pair, prompts, metric, ask: as for
            `interp.adapters.necessity`.

    Raises:
        AdapterError: if the adapter cannot be switched.
        InputError: if an argument does not fit.
    """
    wanted = torch.tensor(sorted(set(map(float, alphas))), dtype=torch.float64)
    if not len(wanted) or not bool(torch.isfinite(wanted).all()):
        raise InputError("alphas must be at least one finite number")
    space = AdapterSpace.of(pair)
    ask = asked(ask, metric)
    runs = GatedRuns(space, prompts, ask)
    _, _, noise = runs.ends()
    gates = wanted.float()[:, None].expand(-1, space.n_components)
    values = runs.values(gates, "interpolation")
    esr = counted(space, gates, questions, sampling, ask.progress)
    return Interpolation(
        alphas=tuple(wanted.tolist()), values=values.float(), esr=esr,
        metric=runs.metric_label, unit=runs.unit, noise_floor=noise, topics=runs.topics,
        seed=ask.seed, notes=runs.notes,
    )  # fmt: skip
