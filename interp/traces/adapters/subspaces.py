"""Do two adapters change the same directions of a module?

Per module that both change: the cosine between their ΔW (as vectors of all entries), and the
principal angles between their row spaces (what they read) and their column spaces (what they
write). The overlap of two spaces is the mean squared cosine of their principal angles, 1 for equal
spaces; two random spaces of dimensions r and r' in d have max(r, r') / d on average. For ΔW turned
at random in its input and its output the cosine has mean 0 and standard deviation
1 / sqrt(d_in d_out). Both expectations are exact; `z` divides by that of the cosine, and for the
overlaps by the spread of `n_random` pairs of random spaces.

All from the factors: products of rank by rank, never ΔW itself (dense differences excepted).
Components below 1e-4 of the largest singular value (rounding of stored factors) do not count. A
module that one adapter leaves at zero has no direction; it is left out, counted and said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.models import ModelPair
from interp.traces.adapters.deltas import Delta
from interp.traces.adapters.directions import svd
from interp.traces.adapters.space import AdapterSpace

_NUMERICAL = 1e-4
Parts = tuple[Tensor, Tensor, Tensor]
Deltas = ModelPair | AdapterSpace | Sequence[Delta]


@dataclass(frozen=True)
class Subspaces(Result):
    """One entry per pair of adapters and common module.

    Attributes:
        pairs: the two adapters' names; modules: the module, of each entry.
        cosine: between the two ΔW; cosine_sd: its standard deviation for random turns.
        rows, columns: overlap of row and column spaces.
        rows_expected, columns_expected: of random spaces; rows_sd, columns_sd: their spread.
        row_cosines, column_cosines: cosines of the principal angles, largest first, for each entry.
        notes: modules left out.
    """

    kind: ClassVar[str] = "adapter subspaces"

    pairs: tuple[tuple[str, str], ...]
    modules: tuple[str, ...]
    cosine: Float[Tensor, " entry"]
    cosine_sd: Float[Tensor, " entry"]
    rows: Float[Tensor, " entry"]
    rows_expected: Float[Tensor, " entry"]
    rows_sd: Float[Tensor, " entry"]
    columns: Float[Tensor, " entry"]
    columns_expected: Float[Tensor, " entry"]
    columns_sd: Float[Tensor, " entry"]
    row_cosines: tuple[tuple[float, ...], ...]
    column_cosines: tuple[tuple[float, ...], ...]
    n_random: int
    seed: int
    notes: tuple[str, ...]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per entry, with z-scores against random turns and random spaces."""
        table = pd.DataFrame(self.pairs, columns=["one", "other"])
        table["module"] = self.modules
        table["cosine"] = self.cosine.numpy()
        table["cosine_z"] = (self.cosine / self.cosine_sd).numpy()
        for name in ("rows", "columns"):
            seen, expected = getattr(self, name), getattr(self, f"{name}_expected")
            table[name] = seen.numpy()
            table[f"{name}_expected"] = expected.numpy()
            spread = getattr(self, f"{name}_sd")
            z = torch.where(spread > 0, (seen - expected) / spread, torch.nan)
            table[f"{name}_z"] = z.numpy()
        return table


def subspaces(adapters: Mapping[str, Deltas], *, n_random: int = 200, seed: int = 0) -> Subspaces:
    """Compare the directions of several adapters, module by module.

    Args:
        adapters: pairs, spaces or lists of deltas, by trait (or any name).
        n_random: pairs of random spaces behind each expectation's spread.
        seed: of the random spaces.

    Raises:
        InputError: for fewer than two adapters, adapters that have no module in common, or modules
            of different shape.
    """
    if len(adapters) < 2:
        raise InputError("subspaces are compared between at least two adapters")
    if n_random < 2:
        raise InputError(f"n_random must be at least 2, got {n_random}")
    known: dict[str, dict[str, Parts]] = {}
    notes: list[str] = []
    for name, one in adapters.items():
        known[str(name)], silent = _decomposed(one)
        if silent:
            notes.append(f"{name}: {len(silent)} modules are zero and left out ({silent[0]}, ...)")
    spread: dict[tuple[int, int, int], float] = {}
    generator = torch.Generator().manual_seed(seed)
    entries = []
    for left, right in combinations(known, 2):
        common = [module for module in known[left] if module in known[right]]
        if not common:
            raise InputError(f"the adapters {left} and {right} have no changed module in common")
        for module in common:
            a, b = known[left][module], known[right][module]
            if (len(a[0]), a[2].shape[1]) != (len(b[0]), b[2].shape[1]):
                raise InputError(f"{module} of {left} and {right} differ in shape; same base?")
            entries.append(((left, right), module, _compared(a, b, spread, generator, n_random)))
    columns = list(zip(*(numbers for _, _, (numbers, _, _) in entries), strict=True))
    stacked = [torch.tensor(column, dtype=torch.float32) for column in columns]
    cosine, cosine_sd, rows, rows_e, rows_sd, cols, cols_e, cols_sd = stacked
    return Subspaces(
        pairs=tuple(pair for pair, _, _ in entries), modules=tuple(m for _, m, _ in entries),
        cosine=cosine, cosine_sd=cosine_sd, rows=rows, rows_expected=rows_e, rows_sd=rows_sd,
        columns=cols, columns_expected=cols_e, columns_sd=cols_sd,
        row_cosines=tuple(angles for _, _, (_, angles, _) in entries),
        column_cosines=tuple(angles for _, _, (_, _, angles) in entries),
        n_random=n_random, seed=seed, notes=tuple(notes),
    )  # fmt: skip


def _decomposed(adapter: Deltas) -> tuple[dict[str, Parts], list[str]]:
    """Decomposition of each module that is not zero, and the names of those that are."""
    if isinstance(adapter, ModelPair):
        adapter = AdapterSpace.of(adapter)
    deltas = adapter.deltas if isinstance(adapter, AdapterSpace) else adapter
    found: dict[str, Parts] = {}
    silent = []
    for delta in deltas:
        u, s, v = (part.cpu() for part in svd(delta))
        keep = int((s > _NUMERICAL * s[0]).sum()) if float(s[0]) > 0 else 0
        if keep:
            found[delta.name] = (u[:, :keep], s[:keep], v[:keep])
        else:
            silent.append(delta.name)
    return found, silent


def _compared(
    a: Parts,
    b: Parts,
    spread: dict[tuple[int, int, int], float],
    generator: torch.Generator,
    n: int,
) -> tuple[list[float], tuple[float, ...], tuple[float, ...]]:
    """The numbers of one entry, and the cosines of the angles between rows and columns."""
    (u, s, v), (u2, s2, v2) = a, b
    left, right = u.T @ u2, v @ v2.T
    inner = float((s[:, None] * right * s2 * left).sum())
    numbers = [inner / float(s.norm() * s2.norm()), (len(u) * v.shape[1]) ** -0.5]
    angles = []
    for product, size in ((right, v.shape[1]), (left, len(u))):
        ranks = (len(s), len(s2))
        cosines = torch.linalg.svdvals(product).clamp(max=1.0)
        key = (size, min(ranks), max(ranks))
        if key not in spread:
            spread[key] = _spread_of_random(*key, generator, n)
        mean = float(cosines.square().sum() / min(ranks))
        numbers += [mean, max(ranks) / size, spread[key]]
        angles.append(tuple(round(float(value), 6) for value in cosines))
    return numbers, angles[0], angles[1]


def _spread_of_random(
    size: int, small: int, large: int, generator: torch.Generator, n: int
) -> float:
    """Standard deviation of the overlap between random spaces.

    One of the two may be held along the axes: only their relative position counts.
    """
    drawn = torch.randn(n, size, small, generator=generator, dtype=torch.float64)
    space = torch.linalg.qr(drawn)[0]
    return float((space[:, :large].square().sum((1, 2)) / small).std())
