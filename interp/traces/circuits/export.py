"""Circuits as JSON and GraphML, for other tools.

JSON (format `interp circuit 1`, read back by `from_json`):

    {"format": "interp circuit 1",
     "graph": {"n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "parallel": false},
     "name": "extraversion", "model": "<fingerprint>", "contrast": "model", "metric": ..., "unit":
     ..., "level": "edge", "search": "greedy", "wanted": 40, "ig_steps": 5, "n_prompts": 16,
     "rooted": false, "rule": "gradient",
     "nodes": [{"name": "a1.h2", "kind": "head", "layer": 1}, ...],
     "edges": [{"source": "m0", "destination": "a1.kv0<v>", "score": 0.41, "member": true}, ...]}

`nodes` are those of the circuit, `logits` included; `edges` all of the graph with their scores (at
level `node`, with the score of the node that they leave from), `member` says which belong to the
circuit.

GraphML holds the circuit alone: nodes with `kind` and `layer`, edges from node to node with `input`
(`q`, `k`, `v` or empty) and `score`. An edge to the key or value input of a key/value head becomes
one edge to each head of the group that is in the circuit. It is written by NetworkX; Gephi and yEd
read it. Control characters in the name are written out.
"""

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from interp.base.errors import InputError, visible
from interp.base.files import read_json, write_bytes, write_json
from interp.readout.rules import GRADIENT
from interp.traces.circuits.circuit import Circuit
from interp.traces.circuits.graph import Graph

FORMAT = "interp circuit 1"
_FACTS = ("name", "model", "contrast", "metric", "unit", "level", "search", "wanted", "ig_steps",
          "n_prompts", "rooted", "rule")  # fmt: skip
_SHAPE = ("n_layers", "n_heads", "n_kv_heads", "parallel")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Shape(_Strict):
    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool


class _Node(_Strict):
    name: str
    kind: str
    layer: int | None


class _Edge(_Strict):
    source: str
    destination: str
    score: float
    member: bool


class _File(_Strict):
    format: str
    graph: _Shape
    name: str
    model: str
    contrast: str
    metric: str
    unit: str
    level: Literal["edge", "node"]
    search: str
    wanted: int
    ig_steps: int
    n_prompts: int
    rooted: bool
    rule: str = GRADIENT.name
    nodes: list[_Node]
    edges: list[_Edge]


def to_json(circuit: Circuit, path: Path | str) -> Path:
    """Write a circuit with the scores of the whole graph."""
    graph, scores = circuit.graph, circuit.edge_scores.tolist()
    edges = []
    for number, (score, member) in enumerate(zip(scores, circuit.members.tolist(), strict=True)):
        source, _, destination = graph.edge_name(number).partition("->")
        facts = {"source": source, "destination": destination, "score": score, "member": member}
        edges.append(facts)
    facts = {name: getattr(circuit, name) for name in _FACTS}
    shape = {name: getattr(circuit, name) for name in _SHAPE}
    nodes = [{"name": name, **_described(name)} for name in circuit.nodes]
    whole = {"format": FORMAT, "graph": shape, **facts, "nodes": nodes, "edges": edges}
    return write_json(path, whole)


def from_json(path: Path | str) -> Circuit:
    """Read a circuit that `to_json` wrote.

    Raises:
        InputError: if the file is missing, is no such JSON, or its edges are not those of its
            graph.
    """
    try:
        found = _File.model_validate(read_json(path))
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: not a circuit ({where}: {first['msg']})") from None
    if found.format != FORMAT:
        raise InputError(f"{path}: format {found.format!r} is not {FORMAT!r}")
    shape = {name: getattr(found.graph, name) for name in _SHAPE}
    if min(found.graph.n_layers, found.graph.n_heads, found.graph.n_kv_heads) < 1:
        raise InputError(f"{path}: a graph has at least one layer and head, got {shape}")
    if found.graph.n_layers * found.graph.n_heads >= len(found.edges):
        raise InputError(f"{path}: has {len(found.edges)} edges, too few for a graph of {shape}")
    if found.graph.n_heads % found.graph.n_kv_heads:
        raise InputError(f"{path}: key/value heads must divide the heads evenly, got {shape}")
    graph = Graph(**shape)
    try:
        numbers = graph.edges([f"{edge.source}->{edge.destination}" for edge in found.edges])
    except InputError as problem:
        raise InputError(f"{path}: {problem}") from None
    if len(numbers.unique()) != graph.n_edges or len(numbers) != graph.n_edges:
        raise InputError(f"{path}: has {len(numbers)} edges, its graph {graph.n_edges}")
    members, scores = torch.zeros(graph.n_edges, dtype=torch.bool), torch.zeros(graph.n_edges)
    members[numbers] = torch.tensor([edge.member for edge in found.edges])
    scores[numbers] = torch.tensor([edge.score for edge in found.edges])
    if found.level == "node":  # every node has an edge to the logits
        scores = scores[-len(graph.sources) :]
    facts = {name: getattr(found, name) for name in _FACTS}
    circuit = Circuit(members=members, scores=scores, **shape, **facts)
    if circuit.nodes != tuple(node.name for node in found.nodes):
        raise InputError(f"{path}: the nodes are not those of the edges that are members")
    return circuit


def to_graphml(circuit: Circuit, path: Path | str) -> Path:
    """Write the circuit's nodes and edges."""
    import networkx

    graph = networkx.MultiDiGraph(id=visible(circuit.name) or "circuit")
    for name in circuit.nodes:
        facts = {key: value for key, value in _described(name).items() if value is not None}
        graph.add_node(name, **facts)
    for source, target, read, score in node_edges(circuit):
        graph.add_edge(source, target, input=read, score=score)
    file = BytesIO()
    networkx.write_graphml_xml(graph, file, prettyprint=True, named_key_ids=True)
    return write_bytes(path, file.getvalue())


def node_edges(circuit: Circuit) -> list[tuple[str, str, str, float]]:
    """A circuit's edges from node to node: source, target, input (`q`, `k`, `v`, ``) and score.

    Key and value inputs count for each head of their group that is in the circuit.
    """
    graph, scores = circuit.graph, circuit.edge_scores
    names, there = (*graph.sources, "logits"), set(circuit.nodes)
    found = []
    for number in circuit.members.nonzero().flatten().tolist():
        read = int(graph.edge_destination[number])
        name = graph.destinations[read]
        letter = name[-2] if name.endswith(">") else ""
        for node in graph.owned[read].nonzero().flatten().tolist():
            if names[node] in there:
                source = graph.sources[int(graph.edge_source[number])]
                found.append((source, names[node], letter, float(scores[number])))
    return found


def _described(name: str) -> dict[str, Any]:
    """Kind and layer of a node."""
    if name in ("input", "logits"):
        return {"kind": name, "layer": None}
    return {"kind": "head" if name[0] == "a" else "mlp", "layer": int(name[1:].partition(".")[0])}
