"""How much of the metric a circuit carries, by real intervention.

Every edge outside the circuit carries the corrupted run's activation, every edge inside what its
source now computes. With F the mean metric over prompts,

    faithfulness = (F(circuit) - F(nothing)) / (F(everything) - F(nothing)) ,

1 for the whole graph, 0 for no edge, which is no circuit and is not run (Hanna et al. 2024; the MIB
benchmark, Mueller et al. 2025).
`F(nothing)` is the clean model reading out the corrupted stream: the corrupted run itself, unless
the two models differ in their final norm, unembedding or attention output biases. A circuit is
complete if without it nothing is left: faithfulness of its complement near 0.

The curve over sizes and its areas are MIB's: shares 0.001 to 1 of the edges, the better scores
first, trapezoids over the share of edges asked for. CPR is the area under the curve (more is
better: 0.999 for a circuit as good as the model at every size), CMD the area between the curve
and 1 (less is better).

Cost: a forward pass of each run, and about one more per circuit, whatever its number of edges;
memory in `mixing`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import RESAMPLES, mean_ends, ratio_ends

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Faithfulness(Result):
    """The metric of every prompt under every circuit.

    Attributes:
        values: metric under each circuit, `[circuit batch]`, in `unit`.
        complement: metric with the circuit ablated and all else left, or empty if not asked for.
        clean, corrupted: metric with every edge clean and with every edge corrupted.
        names, n_edges, n_nodes: of the circuits (nodes without `logits`).
        shares: of a curve, the share of edges that each circuit was asked to have; else empty.
        empty: of a curve, smaller shares that give a circuit no edge, and so nothing.
        chance: metric under random circuits of the same sizes, `[circuit draw batch]`, or empty
            (`beside_chance`).
        total: edges of the graph.
        noise_floor: how far batch size and rounding can move a value, in `unit`.
        topics: one per prompt, the units of intervals; None: each prompt is one.
    """

    kind: ClassVar[str] = "circuit faithfulness"

    values: Float[Tensor, "circuit batch"]
    complement: Float[Tensor, "other batch"]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]
    names: tuple[str, ...]
    n_edges: tuple[int, ...]
    n_nodes: tuple[int, ...]
    shares: tuple[float, ...]
    total: int
    contrast: str
    metric: str
    unit: str
    min_gap: float
    notes: tuple[str, ...] = ()
    noise_floor: float | None = None
    topics: tuple[str, ...] | None = None
    empty: tuple[float, ...] = ()
    chance: Float[Tensor, "some draw prompt"] = field(default_factory=lambda: torch.empty(0, 0, 0))

    @property
    def defined(self) -> Bool[Tensor, " batch"]:
        """Prompts that count: |clean - corrupted| > `min_gap`."""
        return (self.clean - self.corrupted).abs() > self.min_gap

    @property
    def n_prompts(self) -> int:
        """Prompts that count."""
        return int(self.defined.sum())

    def gap(self, *, seed: int = 0) -> tuple[float, float, float]:
        """What faithfulness is a share of: mean clean - corrupted, and its interval over topics."""
        _, gap, groups = self._parts(None)
        low, high = mean_ends(gap[None], groups, seed=seed)
        return float(gap.mean()), float(low[0]), float(high[0])

    def faithfulness(self) -> Float[Tensor, " circuit"]:
        """Ratio of mean metrics over the prompts that count."""
        return self._ratio(self.values)

    def completeness(self) -> Float[Tensor, " other"]:
        """Faithfulness of what is left when the circuit is ablated; 0 if the circuit was all."""
        return self._ratio(self.complement)

    def by_chance(self) -> Float[Tensor, "some draw"]:
        """Faithfulness of the random circuits of each size."""
        flat = self._ratio(self.chance.flatten(0, 1)) if self.chance.numel() else torch.empty(0)
        return flat.view(self.chance.shape[:2])

    def per_prompt(self) -> Float[Tensor, "circuit batch"]:
        """Each prompt's own ratio, NaN where it is undefined."""
        gap = torch.where(self.defined, self.clean - self.corrupted, torch.nan)
        return (self.values - self.corrupted) / gap

    def areas(
        self,
        *,
        clusters: Sequence[Hashable] | None = None,
        level: float = 0.95,
        n_resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> pd.DataFrame:
        """CPR and CMD of a curve, with intervals over prompts (or clusters of them).

        Returns:
            Rows `CPR` and `CMD`, columns `area`, `low`, `high` (NaN with fewer than two prompts or
            clusters).

        Raises:
            InputError: if this is no curve.
        """
        if len(self.shares) < 2:
            raise InputError("areas are those of a curve over circuit sizes; call curve()")

        ratios = self.faithfulness().double().numpy()
        above, gap, groups = self._parts(clusters)
        # Both areas are ratios of means, the second with each circuit on its side of 1.
        side = np.sign(1 - ratios)[:, None]
        none = np.zeros((len(self.empty), above.shape[1]))  # a circuit without an edge has nothing
        under, beyond = (np.concatenate([none + end, part]) for end, part in
                         ((0.0, above), (gap, side * (gap - above))))  # fmt: skip
        shares = (*self.empty, *self.shares)
        parts = np.stack([np.trapezoid(part, shares, axis=0) for part in (under, beyond)])
        whole = parts.mean(1) / gap.mean()
        low, high = ratio_ends(parts, gap, groups, level=level, n_resamples=n_resamples, seed=seed)
        rows = [("CPR", whole[0], low[0], high[0]), ("CMD", whole[1], low[1], high[1])]
        return pd.DataFrame(rows, columns=["name", "area", "low", "high"])

    def to_dataframe(
        self,
        *,
        clusters: Sequence[Hashable] | None = None,
        level: float = 0.95,
        n_resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> pd.DataFrame:
        """One row per circuit: its size, mean metric, faithfulness and (if asked for) completeness.

        Beside chance also `random` and `random_most`: the mean and the largest faithfulness of the
        random circuits of its size.

        Intervals are those of ratios of means over prompts, or over whole clusters of them; NaN
        with fewer than two.

        Raises:
            InputError: if the clusters do not fit the prompts.
        """
        above, gap, groups = self._parts(clusters)
        low, high = ratio_ends(above, gap, groups, level=level, n_resamples=n_resamples, seed=seed)
        table = pd.DataFrame(
            {
                "name": self.names,
                "n_edges": self.n_edges,
                "n_nodes": self.n_nodes,
                "share": [n / self.total for n in self.n_edges],
                "n": self.n_prompts,
                "metric": self.values[:, self.defined].double().mean(1).tolist(),
                "faithfulness": self.faithfulness().tolist(),
                "low": low,
                "high": high,
            }
        )
        if len(self.complement):
            table["without"] = self.completeness().tolist()
        if self.chance.numel():
            drawn = self.by_chance().double()
            table["random"], table["random_most"] = drawn.mean(1).tolist(), drawn.amax(1).tolist()
        return table

    def _ratio(self, values: Float[Tensor, "any batch"]) -> Float[Tensor, " any"]:
        use = self.defined
        down = self.corrupted[use].double().mean()
        gap = self.clean[use].double().mean() - down
        return ((values[:, use].double().mean(1) - down) / gap).float()

    def _parts(
        self, clusters: Sequence[Hashable] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], list[Hashable] | None]:
        """Effects `[circuit batch]`, gaps `[batch]` and clusters of the prompts that count."""
        clusters = self.topics if clusters is None else clusters
        use = self.defined.tolist()
        if clusters is not None and len(clusters) != len(use):
            raise InputError(f"{len(use)} prompts but {len(clusters)} cluster labels")
        groups = None if clusters is None else [c for c, u in zip(clusters, use, strict=True) if u]
        down = self.corrupted[self.defined].double()
        above = self.values[:, self.defined].double() - down
        return above.numpy(), (self.clean[self.defined].double() - down).numpy(), groups
