"""What ranking and its causal test found."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import fdr_bh
from interp.traces.attribution.intervals import table_of_means

INTERVENTIONS = ("patched", "ablated")


@dataclass(frozen=True)
class NeuronRanking(Result):
    """Neurons in the order of the difference that they make directly, with their exact effects.

    Neurons are numbered through the ranked layers, `layers[i // d_mlp]`, `i % d_mlp`.

    Attributes:
        score: what neurons are ranked by, `[neuron batch]`, in `unit`; see `by`.
        delta: activation at the metric column, clean minus corrupted, `[neuron batch]`.
        alignment: output weights along the emoji direction, mean of the two runs,
            `[neuron batch]`. Where the metric reads two columns (a slot and the `▁` after it) both
            are means over them, and direct scores the sum of both columns' products.
        size: what controls are matched on, `[neuron]`.
        order: neurons by mean score, highest first.
        controls: for each of the top `k`, its control in every draw, `[draw top]`.
        tested: neurons tested by themselves: the top `k`, then their controls.
        single: effect of each tested neuron by itself, `[intervention tested batch]`: `patched` is
            the metric of the corrupted run with the clean run's neuron, minus the corrupted
            metric (denoising); `ablated` that of the clean run without the neuron, minus the clean
            metric.
        joint: the same for whole sets, `[intervention set batch]`: the top `k` together, then each
            draw of controls.
        clean, corrupted: metric of the two runs, `[batch]`.
        by: `direct` (`delta * alignment`) or `total` (change of activation times the metric's
            gradient, over all positions).
        layers, d_mlp, k, using, match, direction, contrast, metric, unit, seed: how it was made.
        unexplained: see `interp.attribution.Attribution`.
        noise_floor: how far batch size and rounding can move an effect, in `unit`.
        topics: one per prompt, the units of intervals and p-values; None: each prompt is one.
    """

    kind: ClassVar[str] = "neuron ranking"

    score: Float[Tensor, "neuron batch"]
    delta: Float[Tensor, "neuron batch"]
    alignment: Float[Tensor, "neuron batch"]
    size: Float[Tensor, " neuron"]
    order: Int[Tensor, " neuron"]
    controls: Int[Tensor, "draw top"]
    tested: Int[Tensor, " tested"]
    single: Float[Tensor, "intervention tested batch"]
    joint: Float[Tensor, "intervention set batch"]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]
    layers: tuple[int, ...]
    d_mlp: int
    k: int
    by: str
    using: str
    match: str
    direction: str
    unexplained: float | None
    contrast: str
    metric: str
    unit: str
    seed: int
    noise_floor: float | None = None
    topics: tuple[str, ...] | None = None

    def neuron(self, index: int) -> tuple[int, int]:
        """Layer and neuron of a number."""
        return self.layers[int(index) // self.d_mlp], int(index) % self.d_mlp

    def top(self, k: int | None = None) -> list[tuple[int, int]]:
        """The `k` highest-ranked neurons as (layer, neuron), as many as were tested if left out."""
        count = self.k if k is None else k
        if not 0 <= count <= len(self.order):
            raise InputError(f"k must lie in 0..{len(self.order)}, got {count}")
        return [self.neuron(int(index)) for index in self.order[:count]]

    def summary(
        self, k: int | None = None, *, clusters: Sequence[Hashable] | None = None,
        level: float = 0.95, seed: int = 0,
    ) -> pd.DataFrame:  # fmt: skip
        """One row per neuron in order, the first `k` of them (all if left out).

        Returns:
            `rank` (from 1), `layer`, `neuron`, `name`, means of `delta`, `alignment` and `score`,
            the score's `low` and `high`, `p` (sign flips), `p_adjusted` (false discovery rate over
            all ranked neurons), `n`.

        Raises:
            InputError: with fewer than two prompts or clusters, or labels that do not match.
        """
        found = table_of_means(self.score, clusters=clusters or self.topics, level=level, seed=seed)
        found = found.rename(columns={"mean": "score"})
        places = [self.neuron(index) for index in range(len(self.order))]
        table = pd.DataFrame(places, columns=["layer", "neuron"])
        table["name"] = [f"m{layer}.n{neuron}" for layer, neuron in places]
        table["delta"] = self.delta.mean(1).numpy()
        table["alignment"] = self.alignment.mean(1).numpy()
        table = pd.concat([table, found], axis=1).iloc[self.order.numpy()]
        table.insert(0, "rank", range(1, len(table) + 1))
        return table.head(k if k is not None else len(table)).reset_index(drop=True)

    def causal(
        self, *, clusters: Sequence[Hashable] | None = None, level: float = 0.95, seed: int = 0
    ) -> pd.DataFrame:
        """The top `k` against their controls, patched and ablated, jointly and one by one.

        Intervals and p-values are over prompts, for the controls that were drawn; how much the draw
        matters is what `control_least` and `control_most` say.

        Returns:
            One row per intervention and `what` (`joint`: all at once; `single`: mean over neurons
            taken one by one): mean effect of `top` and of `control` (mean over draws) with their
            intervals, `control_least` and `control_most` (lowest and highest mean of a draw),
            `difference` (top minus control, paired by prompt) with `low`, `high`, `p` (sign flips),
            `p_adjusted` (over the rows); `k`, `draws`, `n`, `unit`.

        Raises:
            InputError: with fewer than two prompts or clusters, or labels that do not match.
        """
        place = {int(index): i for i, index in enumerate(self.tested)}
        drawn = torch.tensor([[place[int(i)] for i in draw] for draw in self.controls])
        rows = []
        for at, intervention in enumerate(INTERVENTIONS):
            joint, alone = self.joint[at], self.single[at]
            for what, top, controls in (
                ("joint", joint[0], joint[1:]),
                ("single", alone[: self.k].mean(0), alone[drawn].mean(1)),
            ):
                values = torch.stack((top, controls.mean(0), top - controls.mean(0)))
                found = table_of_means(
                    values, clusters=clusters or self.topics, level=level, seed=seed
                )
                row: dict[str, object] = {"intervention": intervention, "what": what}
                for name, line in zip(
                    ("top", "control", "difference"), found.itertuples(), strict=True
                ):
                    row |= {name: line.mean, f"{name}_low": line.low, f"{name}_high": line.high}
                ends = controls.double().mean(1)
                row |= {"control_least": float(ends.min()), "control_most": float(ends.max())}
                rows.append(row | {"p": found["p"].iloc[-1]})
        table = pd.DataFrame(rows).rename(
            columns={"difference_low": "low", "difference_high": "high"}
        )
        table["p_adjusted"] = fdr_bh(table["p"].to_numpy())
        return table.assign(k=self.k, draws=len(self.controls), n=len(self.clean), unit=self.unit)

    def singles(
        self, *, clusters: Sequence[Hashable] | None = None, level: float = 0.95, seed: int = 0
    ) -> pd.DataFrame:
        """Every tested neuron by itself: its score, and its exact effects with intervals."""
        places = [self.neuron(int(index)) for index in self.tested]
        table = pd.DataFrame(places, columns=["layer", "neuron"])
        table["name"] = [f"m{layer}.n{neuron}" for layer, neuron in places]
        table["group"] = ["top"] * self.k + ["control"] * (len(places) - self.k)
        table["score"] = self.score[self.tested].mean(1).numpy()
        for at, name in enumerate(INTERVENTIONS):
            found = table_of_means(
                self.single[at], clusters=clusters or self.topics, level=level, seed=seed
            )
            table[name] = found["mean"]
            table[f"{name}_low"], table[f"{name}_high"] = found["low"], found["high"]
            table[f"{name}_p_adjusted"] = found["p_adjusted"]
        return table

    def agreement(self) -> float:
        """Rank correlation of mean score and mean exact effect of patching, over tested neurons."""
        scores, effects = self.score[self.tested].mean(1), self.single[0].mean(1)
        return float(spearmanr(scores.numpy(), effects.numpy()).statistic)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per neuron and prompt."""
        index = np.indices(self.delta.shape).reshape(2, -1)
        layers = np.array(self.layers)[index[0] // self.d_mlp]
        return pd.DataFrame(
            {
                "layer": layers,
                "neuron": index[0] % self.d_mlp,
                "prompt": index[1],
                "delta": self.delta.flatten().numpy(),
                "alignment": self.alignment.flatten().numpy(),
                "score": self.score.flatten().numpy(),
            }
        )
