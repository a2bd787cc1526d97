"""Do the adapters of several traits matter in the same places?

For every two traits, from effects of the same parts (necessity, sufficiency or Shapley): the
Jaccard index of their `top_k` parts, and Spearman's rank correlation over all parts, both on
absolute mean effects. Their p-values come from permuting one trait's parts (one-sided: more overlap
than by chance), adjusted over the pairs of traits. Parts of one layer, or of one kind, tend to go
together in any trait, so a small p says that two traits share a pattern, not that they share a
mechanism.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import fdr_bh
from interp.traces.adapters.effects import PartEffects


@dataclass(frozen=True)
class Overlap(Result):
    """Overlap of every two traits; matrices are symmetric with ones on the diagonal.

    Attributes:
        names: the traits; top: the `top_k` parts of each.
        jaccard, spearman: `[trait trait]`.
        jaccard_p, spearman_p: permutation p-values, adjusted over the pairs; 1 on the diagonal.
    """

    kind: ClassVar[str] = "adapter overlap"

    names: tuple[str, ...]
    top: tuple[tuple[str, ...], ...]
    jaccard: Float[Tensor, "trait trait"]
    spearman: Float[Tensor, "trait trait"]
    jaccard_p: Float[Tensor, "trait trait"]
    spearman_p: Float[Tensor, "trait trait"]
    top_k: int
    n_units: int
    measure: str
    n_permutations: int
    seed: int

    def to_dataframe(self) -> pd.DataFrame:
        """One row per pair of traits: both indices with their adjusted p-values."""
        names = ("jaccard", "jaccard_p", "spearman", "spearman_p")
        rows = [
            (self.names[i], self.names[j], *(float(getattr(self, name)[i, j]) for name in names))
            for i, j in combinations(range(len(self.names)), 2)
        ]
        return pd.DataFrame(rows, columns=["one", "other", *names])


def overlap(
    results: Mapping[str, PartEffects],
    *,
    top_k: int = 5,
    n_permutations: int = 9999,
    seed: int = 0,
) -> Overlap:
    """Compare where several adapters' effects are.

    Args:
        results: effects by trait (or any name), of the same parts and of one kind.
        top_k: how many parts count as important.
        n_permutations: of the p-values, whose smallest is 1 / (1 + n_permutations).
        seed: of the permutations.

    Raises:
        InputError: for fewer than two results, results that differ in their parts, or a `top_k`
            that leaves nothing to compare.
    """
    if len(results) < 2:
        raise InputError("an overlap needs the effects of at least two adapters")
    names = tuple(map(str, results))
    first, *others = results.values()
    for name, one in zip(names[1:], others, strict=True):
        if one.units != first.units or one.measure != first.measure:
            raise InputError(
                f"{names[0]} and {name} differ in their parts or their measure ({first.measure} of "
                f"{len(first.units)} parts, {one.measure} of {len(one.units)}); compare adapters "
                "of the same modules by the same measure"
            )
    size = len(first.units)
    if not 0 < top_k < size:
        raise InputError(f"top_k must lie in 1..{size - 1} for {size} parts, got {top_k}")
    effects = np.stack([one.mean().abs().double().numpy() for one in results.values()])
    top = np.argsort(-effects, axis=1, kind="stable")[:, :top_k]
    member = np.zeros((len(names), size))
    np.put_along_axis(member, top, 1.0, axis=1)
    ranks = np.stack([rankdata(row) for row in effects])
    tables = {name: np.eye(len(names)) for name in ("jaccard", "spearman")}
    p_values: dict[str, list[float]] = {"jaccard": [], "spearman": []}
    rng = np.random.default_rng(seed)
    pairs = list(combinations(range(len(names)), 2))
    for i, j in pairs:
        moved = rng.permuted(np.tile(np.arange(size), (n_permutations, 1)), axis=1)
        for name, held, score in (
            ("jaccard", member, _jaccard), ("spearman", ranks, _correlation)
        ):  # fmt: skip
            seen, chance = score(held[i], held[j]), score(held[i], held[j][moved])
            hits = int((chance >= seen - 1e-12).sum())
            tables[name][i, j] = tables[name][j, i] = float(seen)
            p_values[name].append((1 + hits) / (1 + n_permutations))
    adjusted = {}
    for name, values in p_values.items():
        table = np.ones((len(names), len(names)))
        for (i, j), p in zip(pairs, fdr_bh(values), strict=True):
            table[i, j] = table[j, i] = p
        adjusted[name] = table
    return Overlap(
        names=names, top=tuple(tuple(first.units[i] for i in row) for row in top),
        jaccard=_float(tables["jaccard"]), spearman=_float(tables["spearman"]),
        jaccard_p=_float(adjusted["jaccard"]), spearman_p=_float(adjusted["spearman"]),
        top_k=top_k, n_units=size, measure=first.measure, n_permutations=n_permutations, seed=seed,
    )  # fmt: skip


def _jaccard(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = (one * other).sum(-1)
    return np.asarray(both / (one.sum(-1) + other.sum(-1) - both))


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation of ranks; 0 where all effects of a trait are equal."""
    one, other = one - one.mean(), other - other.mean(-1, keepdims=True)
    size = np.sqrt((one**2).sum() * (other**2).sum(-1))
    return np.asarray((one * other).sum(-1) / np.where(size > 0, size, 1.0))


def _float(table: np.ndarray) -> Float[Tensor, "trait trait"]:
    return torch.from_numpy(table).float()
