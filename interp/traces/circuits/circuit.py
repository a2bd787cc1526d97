"""A circuit: a set of edges of one model's graph, chosen by their scores.

Two ways to choose n edges: the n best scores (`top`), or a search that grows from the logits and
takes the best edge into what it has reached so far (`greedy`, Hanna et al. 2024). Either way edges
are then dropped that lie on no path from the input to the logits, so that fewer may remain. Where
the two models differ in their weights (model contrast), the path need not begin at the input.
"""

import heapq
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, nan
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError, ModelError
from interp.base.results import Result
from interp.readout.rules import GRADIENT
from interp.traces.circuits.graph import Graph
from interp.traces.circuits.scores import CircuitScores
from interp.traces.circuits.weights import fingerprint


@dataclass(frozen=True)
class Circuit(Result):
    """Some edges of a model's graph.

    Attributes:
        members: which edges belong to it, in the order of `graph`, `[edge]`.
        scores: mean score of every edge, chosen or not (of every node, if `level` is `node`).
        name: a label, for instance the trait.
        level, contrast, rooted, metric, unit, ig_steps, n_prompts, rule: where the scores come
            from.
        search, wanted: how the edges were chosen, and how many (nodes, at level `node`) were asked
            for before those without a path were dropped.
        model: fingerprint of the clean model.
        complete: the share of the gap that its scores add up to (`CircuitScores.completeness`).
    """

    kind: ClassVar[str] = "circuit"

    members: Bool[Tensor, " edge"]
    scores: Float[Tensor, " item"]
    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool
    name: str
    level: str
    contrast: str
    rooted: bool
    metric: str
    unit: str
    ig_steps: int
    n_prompts: int
    search: str
    wanted: int
    model: str
    complete: float | None = None
    rule: str = GRADIENT.name

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.n_layers, self.n_heads, self.n_kv_heads, self.parallel)

    @property
    def n_edges(self) -> int:
        return int(self.members.sum())

    @cached_property
    def edges(self) -> tuple[str, ...]:
        """Names of the edges, in the order of the graph."""
        return tuple(self.graph.edge_name(i) for i in self.members.nonzero().flatten().tolist())

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that an edge leaves from, and `logits`."""
        there = self.graph.nodes(self.members).nonzero().flatten().tolist()
        return (*(self.graph.sources[i] for i in there), "logits") if there else ()

    @property
    def edge_scores(self) -> Float[Tensor, " edge"]:
        """Score of every edge; at level `node` that of the node it leaves from."""
        return self.scores if self.level == "edge" else self.scores[self.graph.edge_source]

    @property
    def complement(self) -> Bool[Tensor, " edge"]:
        """All other edges."""
        return ~self.members

    def core(self, most: int) -> "Circuit":
        """At most `most` of its edges: the largest, each leading to the logits by larger ones.

        Raises:
            InputError: if `most` is less than 1.
        """
        if most < 1:
            raise InputError(f"a core has at least one edge, got {most}")
        worth = torch.where(self.members, self.edge_scores.abs(), -torch.inf)
        kept = torch.zeros_like(self.members)
        kept[_grown(self.graph, worth)[:most]] = True
        return replace(self, members=kept & self.members)

    def check(self, bridge: Any) -> None:
        """Refuse another model than the one that the circuit was found in.

        Raises:
            ModelError: if the model's weights are others.
        """
        if Graph.of(bridge) != self.graph:
            raise ModelError(
                f"circuit {self.name or '(unnamed)'} is one of another model's: it has {self.graph}"
                f", this model {Graph.of(bridge)}"
            )
        found = fingerprint(bridge)
        if found != self.model:
            raise ModelError(
                f"circuit {self.name or '(unnamed)'} was found in a model with other weights (hash "
                f"{self.model[:12]}…, this one {found[:12]}…; another precision counts as other); "
                "load that model, or say any_model=True"
            )

    @classmethod
    def load(cls, path: Path | str, model: Any = None) -> "Circuit":
        """Read a circuit back, and check it against a model if one is given.

        Raises:
            InputError: if the file is missing, damaged, or holds something else.
            ModelError: if it is a circuit of another model.
        """
        circuit = super().load(path)
        shape = (circuit.n_layers, circuit.n_heads, circuit.n_kv_heads)
        if min(shape) < 1 or circuit.n_layers * circuit.n_heads >= len(circuit.members):
            raise InputError(
                f"{path}: {len(circuit.members)} edges do not fit {shape} layers, heads"
            )
        if circuit.level not in ("edge", "node"):
            raise InputError(f"{path}: level {circuit.level!r:.40} is neither edge nor node")
        if circuit.members.shape != (circuit.graph.n_edges,):
            raise InputError(
                f"{path}: {len(circuit.members)} edges do not fit its graph {circuit.graph}"
            )
        n_items = len(circuit.members if circuit.level == "edge" else circuit.graph.sources)
        if len(circuit.scores) != n_items:
            raise InputError(f"{path}: {len(circuit.scores)} scores for {n_items} {circuit.level}s")
        if model is not None:
            circuit.check(model)
        return circuit

    def to_dataframe(self) -> pd.DataFrame:
        """One row per edge, largest |score| first: `edge`, `source`, `destination`, `score`."""
        scores = self.edge_scores
        rows = []
        for number in self.members.nonzero().flatten().tolist():
            source, _, destination = self.graph.edge_name(number).partition("->")
            rows.append((f"{source}->{destination}", source, destination, float(scores[number])))
        table = pd.DataFrame(rows, columns=["edge", "source", "destination", "score"])
        return table.sort_values("score", key=lambda s: -s.abs(), kind="stable", ignore_index=True)


def select(
    scores: CircuitScores,
    size: int | float,
    *,
    search: str = "greedy",
    absolute: bool = True,
    name: str = "",
) -> Circuit:
    """Choose a circuit.

    Args:
        scores: of edges, or of nodes: then the circuit has the best `size` nodes, the input and all
            edges between them, and `search` is always `top`.
        size: how many edges (nodes) to take: a whole number, or a share of all of them (a float in
            (0, 1]).
        search: `greedy` or `top`.
        absolute: whether strongly negative scores count as large.
        name: a label.

    Raises:
        InputError: for a size that the graph does not have, or an unknown search.
    """
    order = ranking(scores, search=search, absolute=absolute)
    return cut(scores, order, size, search=search, name=name)


def ranking(
    scores: CircuitScores, *, search: str = "greedy", absolute: bool = True
) -> Int[Tensor, " item"]:
    """Edges (nodes but the input) in the order in which they enter a growing circuit.

    Raises:
        InputError: for an unknown search.
    """
    if search not in ("greedy", "top"):
        raise InputError(f"unknown search {search!r}; use 'greedy' or 'top'")
    worth = scores.mean().abs() if absolute else scores.mean()
    if scores.level == "node":
        return worth[1:].argsort(descending=True, stable=True) + 1
    if search == "top":
        return worth.argsort(descending=True, stable=True)
    return _grown(scores.graph, worth)


def cut(
    scores: CircuitScores,
    order: Int[Tensor, " item"],
    size: int | float,
    *,
    search: str = "greedy",
    name: str = "",
) -> Circuit:
    """The circuit of the first `size` items of a ranking; see `select`."""
    graph = scores.graph
    count = round(size * len(order)) if isinstance(size, float) else size
    if not 0 <= count <= len(order) or (isinstance(size, float) and not 0 < size <= 1):
        raise InputError(
            f"size {size} is none of this graph's: give a whole number up to {len(order)} or a "
            "share in (0, 1]"
        )
    if scores.level == "edge":
        members = torch.zeros(graph.n_edges, dtype=torch.bool)
        members[order[:count]] = True
    else:
        there = torch.zeros(len(graph.sources) + 1, dtype=torch.bool)
        there[0] = there[-1] = True
        there[order[:count]] = True
        reads = (graph.owned & there).any(1)
        members = there[graph.edge_source] & reads[graph.edge_destination]
    sums = scores.level == "edge" and scores.rule == GRADIENT.name
    complete = scores.completeness() if sums else nan
    return Circuit(
        members=graph.prune(members, rooted=scores.rooted), scores=scores.mean(),
        n_layers=graph.n_layers, n_heads=graph.n_heads, n_kv_heads=graph.n_kv_heads,
        parallel=graph.parallel, name=name, level=scores.level, contrast=scores.contrast,
        rooted=scores.rooted, metric=scores.metric, unit=scores.unit, ig_steps=scores.ig_steps,
        n_prompts=scores.n_prompts, search="top" if scores.level == "node" else search,
        wanted=count, model=scores.model,
        complete=complete if isfinite(complete) else None, rule=scores.rule,
    )  # fmt: skip


def _grown(graph: Graph, worth: Float[Tensor, " edge"]) -> Int[Tensor, " edge"]:
    """Edges in the order of the greedy search from the logits.

    One queue holds, for each destination reached so far, its best edge that is not yet taken.
    """
    owned = [row.nonzero().flatten().tolist() for row in graph.owned.T]
    waiting: list[tuple[float, int, int]] = []
    lists: dict[int, tuple[list[int], list[float]]] = {}

    def open_reads(node: int) -> None:
        for v in owned[node]:
            if v in lists:
                continue  # heads of one group share keys and values
            here = worth[graph.starts[v] : graph.starts[v + 1]]
            best = here.sort(descending=True, stable=True)
            lists[v] = best.indices.tolist(), best.values.tolist()
            heapq.heappush(waiting, (-lists[v][1][0], v, 0))

    reached, order = {len(graph.sources)}, []
    open_reads(len(graph.sources))
    while waiting:
        _, v, place = heapq.heappop(waiting)
        indices, values = lists[v]
        source = indices[place]
        order.append(graph.starts[v] + source)
        if place + 1 < len(indices):
            heapq.heappush(waiting, (-values[place + 1], v, place + 1))
        if source not in reached:
            reached.add(source)
            if source > 0:
                open_reads(source)
    return torch.tensor(order, dtype=torch.long)
