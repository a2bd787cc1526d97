"""The computation graph that circuits live in: nodes, edges, their names and their order.

Nodes write to the residual stream: `input` (the embeddings), the heads `a{layer}.h{head}` and the
MLPs `m{layer}`; `logits` only reads. What a node reads are its destinations: a head has three
(`a1.h2<q>`, `a1.kv0<k>`, `a1.kv0<v>`), an MLP and the logits one. Under grouped-query attention the
heads of a group share the key and value destinations of their key/value head; without it there is
one for each head, still called `kv`. An edge joins a source to a destination that stands after it
in the residual stream: heads of one layer do not see each other, an MLP sees its own layer's heads
except in parallel blocks. The output bias of an attention layer belongs to no node.

Order: sources by layer (heads, then MLP), destinations by layer (q, k, v, MLP), logits last; edges
by destination, then source. All sources that a destination sees are the first ones, so that the
edges into it are one run of consecutive numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.base.errors import InputError, ModelError


@dataclass(frozen=True)
class Graph:
    """The graph of one model shape."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool

    @classmethod
    def of(cls, bridge: Any) -> "Graph":
        """The graph of a bridged model.

        Raises:
            ModelError: if a norm stands between a node and the residual stream and mixes heads.
        """
        cfg = bridge.cfg
        if getattr(bridge.blocks[0], "ln1_post", None) is not None:
            kind = getattr(bridge.original_model.config, "model_type", "this model")
            raise ModelError(
                f"{kind} norms the sum of a layer's heads before it reaches the residual stream, "
                "so a single head has no edge of its own; trace its heads with "
                "interp.patching.sweep(..., 'z')"
            )
        heads = int(cfg.n_heads)
        return cls(
            n_layers=int(cfg.n_layers),
            n_heads=heads,
            n_kv_heads=int(getattr(cfg, "n_key_value_heads", None) or heads),
            parallel=bool(getattr(cfg, "parallel_attn_mlp", False)),
        )

    @property
    def group(self) -> int:
        """Heads that share one key/value head."""
        return self.n_heads // self.n_kv_heads

    @property
    def per_layer(self) -> int:
        """Destinations of one layer."""
        return self.n_heads + 2 * self.n_kv_heads + 1

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the nodes that write, in order."""
        names = ["input"]
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}" for head in range(self.n_heads)] + [f"m{layer}"]
        return tuple(names)

    @cached_property
    def destinations(self) -> tuple[str, ...]:
        """Names of what is read, in order."""
        names: list[str] = []
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}<q>" for head in range(self.n_heads)]
            for kind in "kv":
                names += [f"a{layer}.kv{head}<{kind}>" for head in range(self.n_kv_heads)]
            names.append(f"m{layer}")
        return (*names, "logits")

    def head(self, layer: int, head: int) -> int:
        """A head's number as a source."""
        return 1 + layer * (self.n_heads + 1) + head

    def mlp(self, layer: int) -> int:
        """An MLP's number as a source."""
        return self.head(layer, self.n_heads)

    def reads(self, layer: int) -> int:
        """Number of a layer's first destination; `n_layers` gives that of the logits."""
        return layer * self.per_layer

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """How many sources each destination sees; they are the first ones."""
        counts: list[int] = []
        for layer in range(self.n_layers):
            counts += [self.head(layer, 0)] * (self.per_layer - 1)
            counts.append(self.head(layer, 0) if self.parallel else self.mlp(layer))
        return (*counts, len(self.sources))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Number of the first edge into each destination, and the number of edges at the end."""
        total = [0]
        for count in self.seen:
            total.append(total[-1] + count)
        return tuple(total)

    @property
    def n_edges(self) -> int:
        return self.starts[-1]

    @cached_property
    def edge_destination(self) -> Int[Tensor, " edge"]:
        """Each edge's destination."""
        return torch.arange(len(self.seen)).repeat_interleave(torch.tensor(self.seen))

    @cached_property
    def edge_source(self) -> Int[Tensor, " edge"]:
        """Each edge's source."""
        first = torch.tensor(self.starts[:-1])[self.edge_destination]
        return torch.arange(self.n_edges) - first

    @cached_property
    def owned(self) -> Bool[Tensor, "destination node"]:
        """Which nodes read a destination; the nodes are the sources and, last, the logits."""
        table = torch.zeros(len(self.destinations), len(self.sources) + 1, dtype=torch.bool)
        for layer in range(self.n_layers):
            at = self.reads(layer)
            for head in range(self.n_heads):
                kv = at + self.n_heads + head // self.group
                for place in (at + head, kv, kv + self.n_kv_heads):
                    table[place, self.head(layer, head)] = True
            table[at + self.per_layer - 1, self.mlp(layer)] = True
        table[-1, -1] = True
        return table

    def edge_name(self, edge: int) -> str:
        """For instance `a1.h2->m2`."""
        source, destination = int(self.edge_source[edge]), int(self.edge_destination[edge])
        return f"{self.sources[source]}->{self.destinations[destination]}"

    def edges(self, names: Sequence[str]) -> Int[Tensor, " edge"]:
        """Numbers of named edges.

        Raises:
            InputError: for a name that is no edge of this graph.
        """
        sources = {name: i for i, name in enumerate(self.sources)}
        reads = {name: i for i, name in enumerate(self.destinations)}
        numbers = []
        for name in names:
            source, arrow, destination = name.partition("->")
            u, v = sources.get(source), reads.get(destination)
            if not arrow or u is None or v is None or u >= self.seen[v]:
                raise InputError(f"{name!r} is no edge of this model's graph {self}")
            numbers.append(self.starts[v] + u)
        return torch.tensor(numbers, dtype=torch.long)

    def matrix(self, members: Bool[Tensor, " edge"]) -> Bool[Tensor, "destination source"]:
        """Membership of edges as a table."""
        table = torch.zeros(len(self.destinations), len(self.sources), dtype=torch.bool)
        table[self.edge_destination, self.edge_source] = members
        return table

    def flat(self, table: Float[Tensor, "*lead source destination"]) -> Float[Tensor, "*lead edge"]:
        """A table of values as one value per edge."""
        return table[..., self.edge_source, self.edge_destination]

    def prune(
        self, members: Bool[Tensor, " edge"], *, rooted: bool = True
    ) -> Bool[Tensor, " edge"]:
        """Keep the edges that lie on a path to the logits.

        Args:
            members: the chosen edges.
            rooted: whether the path must come from the input. Where both sides share their weights,
                a node that nothing reaches does what it does in the corrupted run, so its edges
                change nothing. Where the weights differ it does not.
        """
        table, owned = self.matrix(members), self.owned
        heard = torch.zeros(len(self.sources) + 1, dtype=torch.bool)
        heard[-1] = True
        fed = torch.zeros(len(self.sources) + 1, dtype=torch.bool)
        fed[0] = True
        for u in range(len(self.sources) - 1, -1, -1):
            heard[u] = (owned[table[:, u]] & heard).any()
        for node in range(1, len(fed)):
            fed[node] = not rooted or bool((table[owned[:, node]] & fed[:-1]).any())
        useful = (owned & heard).any(1)
        return members & fed[self.edge_source] & useful[self.edge_destination]

    def nodes(self, members: Bool[Tensor, " edge"]) -> Bool[Tensor, " source"]:
        """The sources that chosen edges leave from."""
        return self.matrix(members).any(0)
