"""Scores of edges or nodes, prompt by prompt, with what says how far to trust them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import RESAMPLES, fdr_bh, mean_ends, sign_flip_ps
from interp.readout.rules import GRADIENT
from interp.traces.circuits.graph import Graph

_CHUNK = 4_000_000


@dataclass(frozen=True)
class CircuitScores(Result):
    """What `discover` found.

    A score is in the metric's unit: the estimated loss of metric when that edge (node) alone is
    corrupted; positive holds the metric up. Prompts with |clean - corrupted| <= `min_gap` are left
    out of every mean and named in `notes`.

    Attributes:
        values: score of every edge (or node), in the order of `graph`, `[batch edge]`.
        clean, corrupted: the metric with every edge clean and with every edge corrupted, `[batch]`.
        level: `edge` or `node`.
        rooted: whether both sides share their weights (see `Graph.prune`).
        model: fingerprint of the clean model.
        noise_floor: how far batch size and rounding can move a score (for what chance does, see
            `chance_floor`).
        topics: one per prompt, the units of intervals, floors and p-values; None: each prompt.
        rule: what gradients passed by (`interp.readout.rules`).
        signed: whether scores have a sign; those of `gradient-drop` are sizes.
    """

    kind: ClassVar[str] = "circuit scores"

    values: Float[Tensor, "batch item"]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]
    level: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool
    contrast: str
    rooted: bool
    ig_steps: int
    metric: str
    unit: str
    min_gap: float
    model: str
    notes: tuple[str, ...] = ()
    noise_floor: float | None = None
    topics: tuple[str, ...] | None = None
    rule: str = GRADIENT.name
    signed: bool = True

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.n_layers, self.n_heads, self.n_kv_heads, self.parallel)

    @property
    def defined(self) -> Bool[Tensor, " batch"]:
        """Prompts that count."""
        return (self.clean - self.corrupted).abs() > self.min_gap

    @property
    def n_prompts(self) -> int:
        """Prompts that count."""
        return int(self.defined.sum())

    def mean(self) -> Float[Tensor, " item"]:
        """Mean score over the prompts that count."""
        return self.values[self.defined].mean(0)

    def completeness(self) -> float:
        """Share of the mean gap that scores which must add up to it do add up to; 1 is all.

        Gradients are integrated along one path. Where both sides share their weights it leads
        through the input embeddings, and what all edges out of the input score adds up to the gap
        as steps grow; else through what every layer reads, and it is all edges into the logits.

        Raises:
            InputError: for scores of nodes of two models, or by another rule than the gradient,
                which have no such sum.
        """
        graph = self.graph
        if self.rule != GRADIENT.name:
            raise InputError(f"scores by the rule {self.rule!r} add up to nothing")
        if self.level == "node":
            if not self.rooted:
                raise InputError("scores of nodes of two models add up to nothing; score edges")
            cut = torch.arange(len(graph.sources)) == 0
        elif self.rooted:
            cut = graph.edge_source == 0
        else:
            cut = graph.edge_destination == len(graph.destinations) - 1
        use = self.defined
        whole = (self.clean - self.corrupted)[use].double().mean()
        return float(self.values[use][:, cut].double().sum(1).mean() / whole)

    def name(self, item: int) -> str:
        """Name of an edge or node."""
        return self.graph.edge_name(item) if self.level == "edge" else self.graph.sources[item]

    def chance_floor(
        self,
        *,
        clusters: Sequence[Hashable] | None = None,
        level: float = 0.95,
        n_resamples: int = 500,
        seed: int = 0,
    ) -> float:
        """The |mean score| that the largest of all items without an effect stays below by chance.

        Each resample flips the sign of every prompt's scores (of every cluster's) at random and
        takes the largest |mean| over items; the floor is the `level` quantile of those. Items above
        it have an effect; the rest are held to a floor made without them, until none is above
        (Westfall and Young's step-down, 1993). So an item above the last floor differs from zero
        with a family-wise error of at most `1 - level`, whatever the number of items. Few prompts
        make it coarse: n of them have only 2^n flips.

        Raises:
            InputError: if the clusters do not fit the prompts, or scores have no sign to flip.
        """
        if not self.signed:
            raise InputError(f"scores by the rule {self.rule!r} are sizes: no sign to flip")
        sums, n = self._sums(clusters)
        flips = np.random.default_rng(seed).choice([-1.0, 1.0], (n_resamples, len(sums)))
        size = np.abs(sums.sum(0)) / n
        rest = np.ones(sums.shape[1], dtype=bool)
        while True:
            largest = np.zeros(n_resamples)
            for part in _columns(sums[:, rest], n_resamples):
                largest = np.maximum(largest, np.abs(flips @ part).max(1, initial=0) / n)
            floor = float(np.quantile(largest, level))
            below = rest & (size <= floor)
            if below.sum() == rest.sum():
                return floor
            rest = below

    def stability(
        self,
        n: int,
        *,
        clusters: Sequence[Hashable] | None = None,
        n_resamples: int = 200,
        seed: int = 0,
    ) -> Float[Tensor, " item"]:
        """How often an item is among the `n` largest |mean scores| of a bootstrap resample.

        Prompts (or whole clusters) are drawn with replacement. The mean of the values of the `n`
        best items is the expected overlap of two such sets, from 0 to 1.

        Raises:
            InputError: if `n` is no number of items, or the clusters do not fit the prompts.
        """
        if not 1 <= n <= self.values.shape[1]:
            raise InputError(f"n must lie in 1..{self.values.shape[1]}, got {n}")
        sums, _ = self._sums(clusters)
        rng = np.random.default_rng(seed)
        hits = np.zeros(sums.shape[1])
        for _ in range(n_resamples):
            weights = np.bincount(rng.integers(len(sums), size=len(sums)), minlength=len(sums))
            size = np.abs(weights @ sums)
            hits[np.argpartition(-size, n - 1)[:n]] += 1
        return torch.from_numpy(hits / n_resamples).float()

    def to_dataframe(
        self,
        *,
        most: int = 100,
        clusters: Sequence[Hashable] | None = None,
        n_resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> pd.DataFrame:
        """The `most` largest items by |mean score|, one row each.

        Returns:
            `name`, `n` (prompts), `score` (mean, in `unit`), `low` and `high` (95 % interval;
            NaN with fewer than two prompts or clusters), `p` (sign-flip test of zero),
            `p_adjusted` (false discovery rate over all items, those not shown counted as p = 1, so
            the values are upper bounds), `stability` (share of bootstrap resamples with the item
            among the `most` largest) and `above_floor` (see `chance_floor`). Sizes have no test of
            zero: their p are NaN, and none is above a floor.
        """
        mean = self.mean()
        most = min(most, len(mean))
        order = mean.abs().argsort(descending=True)[:most].tolist()
        labels = self._labels(clusters)
        stable = self.stability(most, clusters=clusters, n_resamples=200, seed=seed)
        values = self.values[self.defined][:, order].T
        low, high = mean_ends(values, labels, n_resamples=n_resamples, seed=seed)
        floor, p, adjusted = np.nan, np.full(most, np.nan), np.full(most, np.nan)
        if self.signed:
            floor = self.chance_floor(clusters=clusters, seed=seed)
            p = sign_flip_ps(values, seed, topics=labels)
            family = np.ones(len(mean))
            family[:most] = p
            adjusted = fdr_bh(family)[:most]
        score = mean[order].double().numpy()
        return pd.DataFrame(
            {
                "name": [self.name(item) for item in order],
                "n": values.shape[1],
                "score": score,
                "low": low,
                "high": high,
                "p": p,
                "p_adjusted": adjusted,
                "stability": stable[order].double().numpy(),
                "above_floor": np.abs(score) > floor,
            }
        )

    def _labels(self, clusters: Sequence[Hashable] | None) -> list[Hashable]:
        """The cluster of each prompt that counts: as given, else its topic."""
        clusters = self.topics if clusters is None else clusters
        if clusters is None:
            return list(range(self.n_prompts))
        if len(clusters) != len(self.clean):
            raise InputError(f"{len(self.clean)} prompts but {len(clusters)} cluster labels")
        return [c for c, use in zip(clusters, self.defined.tolist(), strict=True) if use]

    def _sums(self, clusters: Sequence[Hashable] | None) -> tuple[NDArray[np.float64], int]:
        """Scores summed by cluster, `[cluster item]`, and the number of prompts."""
        clusters = self.topics if clusters is None else clusters
        values = self.values[self.defined].double().numpy()
        places: dict[Hashable, int] = {}
        labels = self._labels(clusters)
        unit = np.array([places.setdefault(label, len(places)) for label in labels])
        if clusters is None:
            return values, len(values)
        sums = np.zeros((len(places), values.shape[1]))
        np.add.at(sums, unit, values)
        return sums, len(values)


def _columns(table: NDArray[np.float64], rows: int) -> list[NDArray[np.float64]]:
    """The table in parts of some columns, so that `rows` times a part stays small."""
    count = max(1, -(-rows * table.shape[1] // _CHUNK))
    return np.array_split(table, count, axis=1)
