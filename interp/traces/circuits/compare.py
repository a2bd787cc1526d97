"""Do several traits share one circuit? Overlaps, with what overlap chance would give.

Edges of different kinds score differently in every model (the last MLP's edge to the logits is
large in any circuit), so chance keeps the kinds: within each pair of source kind (input, head, MLP)
and destination kind (q, k, v, MLP, logits), the edges of the second circuit are dealt out anew. The
number shared by chance is then a sum of hypergeometric variables, drawn exactly. Nodes are dealt
out within heads and within MLPs. Rank correlation is Spearman's over all edges' mean scores, tested
by permuting one side's ranks within the same kinds. All p-values are one-sided (more alike than
chance) and adjusted together (Benjamini and Hochberg 1995).

Cost: `n_permutations` permutations of the edges for each pair.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from interp.base.errors import InputError
from interp.base.results import Result
from interp.base.stats import fdr_bh
from interp.traces.circuits.circuit import Circuit
from interp.traces.circuits.graph import Graph

_MEASURES = ("edges", "nodes", "scores")


@dataclass(frozen=True)
class Comparison(Result):
    """Circuits side by side.

    Attributes:
        members: edges of each circuit, `[circuit edge]`.
        names: of the circuits.
        jaccard_edges, jaccard_nodes: shared over united, 1 on the diagonal, `[circuit circuit]`;
            the nodes are heads and MLPs.
        rank_correlation: Spearman's, of all edges' scores.
        p: one-sided p-values of the three, `[measure circuit circuit]`, 1 on the diagonal.
        n_permutations, seed: of the p-values.
    """

    kind: ClassVar[str] = "circuit comparison"

    members: Bool[Tensor, "circuit edge"]
    names: tuple[str, ...]
    jaccard_edges: Float[Tensor, "circuit circuit"]
    jaccard_nodes: Float[Tensor, "circuit circuit"]
    rank_correlation: Float[Tensor, "circuit circuit"]
    p: Float[Tensor, "measure circuit circuit"]
    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool
    n_permutations: int
    seed: int

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.n_layers, self.n_heads, self.n_kv_heads, self.parallel)

    def shared(self) -> tuple[str, ...]:
        """Edges that belong to all circuits."""
        return self._named(self.members.all(0))

    def only(self, name: str) -> tuple[str, ...]:
        """Edges that belong to this circuit alone.

        Raises:
            InputError: if there is no such circuit.
        """
        if name not in self.names:
            raise InputError(f"no circuit {name!r}; there are {', '.join(self.names)}")
        return self._named(self.members[self.names.index(name)] & (self.members.sum(0) == 1))

    def to_dataframe(self) -> pd.DataFrame:
        """`first`, `second`, `measure`, `value`, `p` and `p_adjusted`, per pair and measure."""
        values = (self.jaccard_edges, self.jaccard_nodes, self.rank_correlation)
        rows = [
            (self.names[i], self.names[j], name, float(table[i, j]), float(self.p[m, i, j]))
            for i, j in combinations(range(len(self.names)), 2)
            for m, (name, table) in enumerate(zip(_MEASURES, values, strict=True))
        ]
        table = pd.DataFrame(rows, columns=["first", "second", "measure", "value", "p"])
        return table.assign(p_adjusted=fdr_bh(table["p"].to_numpy()))

    def _named(self, which: Bool[Tensor, " edge"]) -> tuple[str, ...]:
        return tuple(self.graph.edge_name(i) for i in which.nonzero().flatten().tolist())


def compare(
    circuits: Mapping[str, Circuit], *, n_permutations: int = 999, seed: int = 0
) -> Comparison:
    """Compare circuits of one graph, pair by pair.

    Args:
        circuits: by name (trait).
        n_permutations: draws of the null distribution; the smallest p-value is 1 / (that + 1).
        seed: the same seed gives the same p-values.

    Raises:
        InputError: if there are fewer than two, one is empty, or they are not alike.
    """
    names, many = tuple(circuits), list(circuits.values())
    _check(names, many)
    graph, count, rng = many[0].graph, len(many), np.random.default_rng(seed)
    members = torch.stack([circuit.members for circuit in many])
    nodes = torch.stack([graph.nodes(one)[1:] for one in members])
    kinds, node_kinds = edge_kinds(graph), _node_kinds(graph)
    ranks = [rankdata(circuit.edge_scores.double().numpy()) for circuit in many]
    values, p = np.stack([np.eye(count)] * 3), np.ones((3, count, count))
    for i, j in combinations(range(count), 2):
        found = [
            _overlap(members[i].numpy(), members[j].numpy(), kinds, n_permutations, rng),
            _overlap(nodes[i].numpy(), nodes[j].numpy(), node_kinds, n_permutations, rng),
            _correlation(ranks[i], ranks[j], kinds, n_permutations, rng),
        ]
        for m, (value, chance) in enumerate(found):
            values[m, i, j] = values[m, j, i] = value
            p[m, i, j] = p[m, j, i] = chance
    edges, heads, rho = (torch.from_numpy(value).float() for value in values)
    return Comparison(
        members=members, names=names, jaccard_edges=edges, jaccard_nodes=heads,
        rank_correlation=rho, p=torch.from_numpy(p).float(), n_layers=graph.n_layers,
        n_heads=graph.n_heads, n_kv_heads=graph.n_kv_heads, parallel=graph.parallel,
        n_permutations=n_permutations, seed=seed,
    )  # fmt: skip


def edge_kinds(graph: Graph) -> NDArray[np.int64]:
    """A number for each edge's pair of source kind and destination kind."""
    source = np.concatenate(([0], _node_kinds(graph)))
    letters = {"q": 0, "k": 1, "v": 2}
    reads = [
        letters[name[-2]] if name.endswith(">") else 3 if name[0] == "m" else 4
        for name in graph.destinations
    ]
    return source[graph.edge_source.numpy()] * 5 + np.array(reads)[graph.edge_destination.numpy()]


def _node_kinds(graph: Graph) -> NDArray[np.int64]:
    """1 for heads, 2 for MLPs; the input left out."""
    return np.array([1 if name[0] == "a" else 2 for name in graph.sources[1:]])


def _check(names: tuple[str, ...], circuits: list[Circuit]) -> None:
    if len(circuits) < 2:
        raise InputError(f"a comparison needs at least two circuits, got {len(circuits)}")
    first = circuits[0]
    for name, circuit in zip(names, circuits, strict=True):
        if circuit.graph != first.graph or circuit.level != first.level:
            raise InputError(
                f"circuit {name} ({circuit.graph}, {circuit.level} scores) is not of the kind of "
                f"{names[0]} ({first.graph}, {first.level} scores); compare circuits of one shape"
            )
        if circuit.n_edges == 0:
            raise InputError(f"circuit {name} has no edge; select a larger one")


def _overlap(
    one: NDArray[np.bool_],
    other: NDArray[np.bool_],
    kinds: NDArray[np.int64],
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Jaccard index of two sets, and the share of dealings out with no smaller overlap."""
    shared, united = int((one & other).sum()), int((one | other).sum())
    by_chance = np.zeros(draws, dtype=np.int64)
    for kind in np.unique(kinds):
        here = kinds == kind
        mine, theirs = int(one[here].sum()), int(other[here].sum())
        by_chance += rng.hypergeometric(mine, int(here.sum()) - mine, theirs, size=draws)
    p = (1 + int((by_chance >= shared).sum())) / (1 + draws)
    return (shared / united if united else 0.0), p


def _correlation(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    kinds: NDArray[np.int64],
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Spearman's correlation from ranks, and the share of permutations with no smaller one."""
    a, b = one - one.mean(), other - other.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    if scale == 0:
        raise InputError("all scores of a circuit are equal, so they have no ranks to compare")
    order = np.argsort(kinds, kind="stable")
    a, b, kinds = a[order], b[order], kinds[order]
    found, hits = float(a @ b), 0
    for _ in range(draws):
        # Random keys, sorted within kinds: each kind keeps its places.
        shuffled = np.lexsort((rng.random(len(b)), kinds))
        hits += int(float(a @ b[shuffled]) >= found - 1e-9 * scale)
    return found / scale, (1 + hits) / (1 + draws)
