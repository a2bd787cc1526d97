"""What a dose curve holds."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import mean_ends, share_interval
from interp.traces.attribution.intervals import table_of_means

GROUPS = ("top", "control")
QUANTITIES = ("esr", "log_odds")


@dataclass(frozen=True)
class DoseCurve(Result):
    """Emojis written, and emoji log-odds, after ablating more and more neurons.

    Where a layer has too few other neurons to match the top `k`, there are no controls: NaN.

    Attributes:
        wrote: whether the answer held an emoji (1 or 0), `[using set k question]`; the first set
            is the top neurons, the others draws of controls.
        log_odds: emoji log-odds (or the metric given) at the prompts, `[using set k prompt]`.
        wrote_before, log_odds_before: the same without ablation, `[question]` and `[prompt]`.
        control_size: mean size of the controls over mean size of the top neurons, `[draw k]`: 1 is
            a perfect match of what they were matched on.
        ks: how many neurons were ablated.
        usings: `mean`, `zero`.
        neurons: the ranked neurons, (layer, neuron).
        topics, prompt_topics: of questions and prompts; a prompt's number where unknown.
        metric, unit, seed: how it was made.
        noise_floor: how far batch size and rounding can move a log-odds, in `unit`.
    """

    kind: ClassVar[str] = "dose curve"

    wrote: Float[Tensor, "using set k question"]
    log_odds: Float[Tensor, "using set k prompt"]
    wrote_before: Float[Tensor, " question"]
    log_odds_before: Float[Tensor, " prompt"]
    control_size: Float[Tensor, "draw k"]
    ks: tuple[int, ...]
    usings: tuple[str, ...]
    neurons: tuple[tuple[int, int], ...]
    topics: tuple[str, ...]
    prompt_topics: tuple[str, ...]
    metric: str
    unit: str
    seed: int
    noise_floor: float | None = None

    @property
    def draws(self) -> int:
        """Sets of controls."""
        return self.wrote.shape[1] - 1

    def curve(self, quantity: str = "esr", *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """One row per way of ablating, group and `k` (0: nothing ablated).

        Returns:
            `using`, `group` (`top`, `control`), `k`, `mean`, `low`, `high`, `n`, `level`. For `esr`
            the share of answers with an emoji and its interval over questions; the controls'
            share is the mean over draws, and its interval counts the questions once, because draws
            share them. For `log_odds` the mean and its interval over topics. `k` without
            controls has no such row.

        Raises:
            InputError: for another quantity, or fewer than two prompts or topics.
        """
        values, before = self._of(quantity)
        rows = []
        for u, using in enumerate(self.usings):
            for group in GROUPS:
                rows.append((using, group, 0, *self._spread(quantity, before, level, seed)))
                for i, k in enumerate(self.ks):
                    one = values[u, 0, i] if group == "top" else values[u, 1:, i].mean(0)
                    if not bool(torch.isnan(one).any()):
                        rows.append((using, group, k, *self._spread(quantity, one, level, seed)))
        table = pd.DataFrame(rows, columns=["using", "group", "k", "mean", "low", "high"])
        return table.assign(n=len(before), level=level)

    def difference(
        self, quantity: str = "esr", *, level: float = 0.95, seed: int = 0
    ) -> pd.DataFrame:
        """Top minus control (mean over draws), paired by question or prompt.

        Intervals and p-values are over topics, for the controls that were drawn; how much the draw
        matters is what `least` and `most` say.

        Returns:
            `using`, `k`, `mean`, `low`, `high` (bootstrap over topics), `p` (sign flips),
            `p_adjusted` (false discovery rate over the table), `n`, `least` and `most` (lowest and
            highest difference from one draw). `k` without controls is left out.

        Raises:
            InputError: as `curve`, or if no `k` has controls.
        """
        values, _ = self._of(quantity)
        places = [
            (u, i)
            for u in range(len(self.usings))
            for i in range(len(self.ks))
            if not bool(torch.isnan(values[u, 1:, i]).any())
        ]
        if not places:
            raise InputError("no k has matched controls; give smaller ks")
        rows = torch.stack([values[u, 0, i] - values[u, 1:, i].mean(0) for u, i in places])
        found = table_of_means(rows, clusters=self._topics(quantity), level=level, seed=seed)
        named = pd.DataFrame(
            [(self.usings[u], self.ks[i]) for u, i in places], columns=["using", "k"]
        )
        each = [(values[u, :1, i] - values[u, 1:, i]).double().mean(1) for u, i in places]
        found["least"] = [float(one.min()) for one in each]
        found["most"] = [float(one.max()) for one in each]
        return pd.concat([named, found], axis=1)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per quantity, way of ablating, set, `k` and question (or prompt)."""
        frames = []
        for quantity in QUANTITIES:
            values, _ = self._of(quantity)
            index = np.indices(values.shape).reshape(4, -1)
            table = pd.DataFrame(
                {
                    "quantity": quantity,
                    "using": np.array(self.usings)[index[0]],
                    "set": np.array(["top", *(f"control {i + 1}" for i in range(self.draws))])[
                        index[1]
                    ],
                    "k": np.array(self.ks)[index[2]],
                    "item": index[3],
                    "topic": np.array(self._topics(quantity))[index[3]],
                    "value": values.flatten().numpy(),
                }
            )
            frames.append(table.dropna(subset="value"))
        return pd.concat(frames, ignore_index=True)

    def _of(self, quantity: str) -> tuple[Tensor, Tensor]:
        if quantity not in QUANTITIES:
            raise InputError(f"unknown quantity {quantity!r}; use one of {', '.join(QUANTITIES)}")
        esr = quantity == "esr"
        values, before = (
            (self.wrote, self.wrote_before) if esr else (self.log_odds, self.log_odds_before)
        )
        if len(before) == 0:
            raise InputError(f"this curve was made without {quantity}; see interp.neurons.dose")
        return values, before

    def _topics(self, quantity: str) -> tuple[str, ...]:
        return self.topics if quantity == "esr" else self.prompt_topics

    def _spread(
        self, quantity: str, values: Tensor, level: float, seed: int
    ) -> tuple[float, float, float]:
        mean = float(values.double().mean())
        if quantity == "esr":
            interval = share_interval(values.tolist(), self.topics, level=level)
            return mean, interval.low, interval.high
        low, high = mean_ends(values[None], self.prompt_topics, level=level, seed=seed)
        return mean, float(low[0]), float(high[0])
