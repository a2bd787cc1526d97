"""The smallest set of modules that keeps most of the adapter's effect.

Greedy on exact values: at each step the part is added whose addition brings the mean metric highest
(lowest, for an adapter that lowers it), with all parts chosen so far on and all others off, until
`share` of the whole mean effect is kept; then parts are taken out again, the least missed first, as
long as the share stays. Greedy is not a proof: on few parts the tests hold it against all subsets,
on many a smaller set may exist.

The set is chosen and its share measured on the same prompts, which flatters it; the emoji-to-
sentence ratio of what it writes is therefore measured on other questions, beside base and tuned.

Cost: for k chosen of n parts about k n forward passes per prompt, and three generations.
"""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import RESAMPLES, ratio_ends
from interp.behaviour.generate import Sampling
from interp.models import ModelPair
from interp.readout.question import Metric, Question, asked
from interp.traces.adapters.effects import gap_notes
from interp.traces.adapters.gated_runs import Prompts
from interp.traces.adapters.generation import SAMPLING, Counts, Questions, count, write
from interp.traces.adapters.space import AdapterSpace
from interp.traces.adapters.tables import esr_table
from interp.traces.adapters.written import Runs, Written, WrittenRuns, runs_of


@dataclass(frozen=True)
class SmallestSet(Result):
    """A greedy path through the adapter's parts, and the set that came of it.

    Attributes:
        order: the parts in the order in which they were added.
        chosen: what is left of them after the clean-up: the smallest set found.
        path: metric after each addition, `[step batch]`; kept: with `chosen` on, `[batch]`.
        base, tuned: the metric with all parts off and on, `[batch]`.
        share: the share that was asked for.
        by, metric, unit, noise_floor, topics, seed, notes: as in `PartEffects`.
        esr: counts of answers and sentences with an emoji by topic (see `count`) for `base`,
            `set` and `tuned`; empty if no questions were given.
    """

    kind: ClassVar[str] = "smallest adapter set"

    order: tuple[str, ...]
    chosen: tuple[str, ...]
    path: Float[Tensor, "step batch"]
    kept: Float[Tensor, " batch"]
    base: Float[Tensor, " batch"]
    tuned: Float[Tensor, " batch"]
    share: float
    by: str
    n_units: int
    metric: str
    unit: str
    noise_floor: float
    topics: tuple[str, ...] | None
    seed: int
    esr: dict[str, tuple[tuple[int, ...], ...]]
    notes: tuple[str, ...]

    def summary(self, *, level: float = 0.95, n_resamples: int = RESAMPLES) -> pd.DataFrame:
        """Share kept after each addition, and by the final set.

        Returns:
            Columns `step` (number of parts on), `added`, `effect` (mean, over the base), `share`
            with its interval `low`, `high` (over prompts or topics; NaN with fewer than two), and
            `final` (true for the row of the set after the clean-up).
        """
        gap = (self.tuned - self.base).double()
        rows = []
        steps = [(k + 1, name, self.path[k], False) for k, name in enumerate(self.order)]
        steps.append((len(self.chosen), "", self.kept, True))
        for step, name, values, final in steps:
            effect = (values - self.base).double()
            ratio = float(effect.mean() / gap.mean())
            low, high = ratio_ends(
                effect[None], gap, self.topics, level=level, n_resamples=n_resamples,
                seed=self.seed,
            )  # fmt: skip
            rows.append((step, name, float(effect.mean()), ratio, low[0], high[0], final))
        columns = ["step", "added", "effect", "share", "low", "high", "final"]
        return pd.DataFrame(rows, columns=columns)

    def rates(self, *, level: float = 0.95) -> pd.DataFrame:
        """Emoji-to-sentence ratios on the held-out questions: see `esr_table`.

        Raises:
            InputError: if no questions were given.
        """
        if not self.esr:
            raise InputError("nothing was generated; give questions to smallest_set")
        return esr_table(self.esr, "model", level)

    def to_dataframe(self) -> pd.DataFrame:
        """The summary at its defaults."""
        return self.summary()


def smallest_set(
    pair: ModelPair | AdapterSpace,
    prompts: Prompts | Written,
    *,
    share: float = 0.9,
    by: str = "module",
    questions: Questions = (),
    sampling: Sampling = SAMPLING,
    metric: Metric | None = None,
    ask: Question | None = None,
) -> SmallestSet:
    """Search the smallest set of parts that keeps `share` of the adapter's mean effect.

    Args:
        share: of the mean effect over prompts, in (0, 1].
        questions: held-out (question, topic) pairs that base, set and tuned answer; none: nothing
            is generated.
        sampling: how they answer.
        pair, prompts, by, metric, ask: as
            for `interp.adapters.necessity`.

    Raises:
        AdapterError: if the adapter cannot be switched.
        InputError: if an argument does not fit, or the adapter's mean effect is rounding.
    """
    if not 0 < share <= 1:
        raise InputError(f"share must lie in (0, 1], got {share}")
    space = AdapterSpace.of(pair)
    ask = asked(ask, metric)
    runs = runs_of(space, prompts, ask)
    units = space.units(by)
    table = space.membership(units)
    off, on, noise = runs.ends()
    whole = float((on - off).mean())
    if abs(whole) <= max(noise, 1e-3):
        raise InputError(
            f"the adapter moves {runs.metric_label} by {whole:.2g} {runs.unit} on average over "
            "these prompts, which is nothing to keep a share of; choose other prompts or a metric "
            "that it moves"
        )
    search = _Search(runs, table, off, whole)
    order, path = search.forward(share)
    chosen, kept = search.backward(order, path[-1], share)
    names = [unit.label for unit in units]
    esr: dict[str, Counts] = {}
    if questions:
        nothing = torch.zeros(table.shape[1])
        gates = torch.stack([nothing, table[chosen].sum(0).cpu(), nothing + 1])
        written = write(space, gates, questions, sampling, ask.progress, "held-out answers")
        esr = dict(zip(("base", "set", "tuned"), map(count, written), strict=True))
    return SmallestSet(
        order=tuple(names[i] for i in order), chosen=tuple(names[i] for i in chosen),
        path=torch.stack(path).float(), kept=kept.float(), base=off.float(), tuned=on.float(),
        share=share, by=by, n_units=len(units), metric=runs.metric_label, unit=runs.unit,
        noise_floor=noise, topics=runs.topics, seed=ask.seed, esr=esr,
        notes=(*runs.notes, *(() if isinstance(runs, WrittenRuns) else gap_notes(on - off, 1e-3))),
    )  # fmt: skip


class _Search:
    """Greedy search over sets of parts, on the mean metric."""

    def __init__(self, runs: Runs, table: Tensor, off: Tensor, whole: float) -> None:
        self.runs, self.table, self.off, self.whole = runs, table, off, whole

    def share(self, values: Float[Tensor, "... batch"]) -> Float[Tensor, "..."]:
        """Of the whole mean effect."""
        return (values - self.off).mean(-1) / self.whole

    def best(self, sets: list[list[int]], what: str) -> tuple[int, Tensor]:
        """Which of several sets keeps most, and its values."""
        gates = torch.stack([self.table[one].sum(0) for one in sets])
        values = self.runs.values(gates, what)
        place = int(self.share(values).argmax())
        return place, values[place]

    def forward(self, share: float) -> tuple[list[int], list[Tensor]]:
        """Add parts until the share is reached (at the latest with all on)."""
        order: list[int] = []
        path: list[Tensor] = []
        while len(order) < len(self.table):
            rest = [i for i in range(len(self.table)) if i not in order]
            place, values = self.best([[*order, i] for i in rest], f"set of {len(order) + 1}")
            order.append(rest[place])
            path.append(values)
            if float(self.share(values)) >= share:
                break
        return order, path

    def backward(self, order: list[int], values: Tensor, share: float) -> tuple[list[int], Tensor]:
        """Take parts out as long as the share stays."""
        chosen = list(order)
        while len(chosen) > 1:
            place, fewer = self.best(
                [[i for i in chosen if i != out] for out in chosen], f"set less {len(chosen)}"
            )
            if float(self.share(fewer)) < share:
                break
            chosen.pop(place)
            values = fewer
        return chosen, values
