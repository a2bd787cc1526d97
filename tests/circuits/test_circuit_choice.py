"""Names, selection, comparison and files of circuits."""

import json
from dataclasses import replace
from itertools import product
from xml.etree import ElementTree

import networkx
import numpy as np
import pytest
import torch
from patching_models import bridge, pick, prompts

from interp.circuits import (
    Circuit,
    CircuitScores,
    Graph,
    compare,
    discover,
    from_json,
    select,
    to_graphml,
    to_json,
)
from interp.circuits.compare import _overlap, edge_kinds
from interp.circuits.export import node_edges
from interp.circuits.weights import fingerprint
from interp.errors import InputError, ModelError
from interp.patching import Run

GRAPH = Graph(2, 4, 2, parallel=False)


def made(seed=0, n=5, graph=GRAPH, values=None, rooted=True, level="edge"):
    generator = torch.Generator().manual_seed(seed)
    count = graph.n_edges if level == "edge" else len(graph.sources)
    values = torch.randn(n, count, generator=generator) if values is None else values
    return CircuitScores(
        values=values, clean=torch.ones(len(values)), corrupted=torch.zeros(len(values)),
        level=level, n_layers=graph.n_layers, n_heads=graph.n_heads,
        n_kv_heads=graph.n_kv_heads, parallel=graph.parallel, contrast="prompt", rooted=rooted,
        ig_steps=5, metric="log-odds", unit="nats", min_gap=0.001, model="0" * 64,
    )  # fmt: skip


def test_edges_of_the_graph_written_out_by_hand():
    graph = Graph(2, 2, 1, parallel=False)
    reads = ["a0.h0<q>", "a0.h1<q>", "a0.kv0<k>", "a0.kv0<v>"]
    wanted = [f"input->{read}" for read in reads]
    wanted += [f"{u}->m0" for u in ("input", "a0.h0", "a0.h1")]
    first = ["input", "a0.h0", "a0.h1", "m0"]
    wanted += [f"{u}->{v.replace('a0', 'a1')}" for v in reads for u in first]
    wanted += [f"{u}->m1" for u in (*first, "a1.h0", "a1.h1")]
    wanted += [f"{u}->logits" for u in (*first, "a1.h0", "a1.h1", "m1")]
    assert [graph.edge_name(i) for i in range(graph.n_edges)] == wanted
    assert graph.edges(wanted).tolist() == list(range(len(wanted)))
    parallel = Graph(2, 2, 1, parallel=True)
    names = [parallel.edge_name(i) for i in range(parallel.n_edges)]
    assert [name for name in names if name.endswith("->m1")] == [f"{u}->m1" for u in first]
    for wrong in ("m1->m0", "a0.h0->a0.h1<q>", "a1.h0", "input->a0.h0<k>"):
        with pytest.raises(InputError, match="no edge"):
            graph.edges([wrong])


@pytest.mark.parametrize("rooted", [True, False])
def test_pruning_keeps_just_the_edges_on_a_path(rooted):
    """Against walking every path from the logits back."""
    owner = {}
    names = (*GRAPH.sources, "logits")
    for read, row in zip(GRAPH.destinations, GRAPH.owned, strict=True):
        owner[read] = {names[i] for i in row.nonzero().flatten().tolist()}
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        members = torch.rand(GRAPH.n_edges, generator=generator) < 0.06
        edges = [GRAPH.edge_name(i).split("->") for i in members.nonzero().flatten().tolist()]
        kept = set()

        def back(node, path, edges=edges, kept=kept):
            into = [(u, v) for u, v in edges if node in owner[v]]
            for u, v in into:
                if u == "input" or not rooted:
                    kept.update([*path, (u, v)])
                back(u, [*path, (u, v)])

        back("logits", [])
        found = GRAPH.prune(members, rooted=rooted)
        assert {GRAPH.edge_name(i) for i in found.nonzero().flatten().tolist()} == {
            f"{u}->{v}" for u, v in kept
        }


@pytest.mark.parametrize("absolute", [True, False])
def test_greedy_takes_the_best_edge_into_what_it_has_reached(absolute):
    scores = made(3)
    worth = scores.mean().abs() if absolute else scores.mean()
    names, count = (*GRAPH.sources, "logits"), 25
    nodes, taken = {"logits"}, []
    for _ in range(count):
        open_edges = [
            i
            for i in range(GRAPH.n_edges)
            if i not in taken
            and any(
                names[n] in nodes
                for n in GRAPH.owned[GRAPH.edge_destination[i]].nonzero().flatten().tolist()
            )
        ]
        best = max(open_edges, key=lambda i: float(worth[i]))
        taken.append(best)
        nodes.add(GRAPH.sources[int(GRAPH.edge_source[best])])
    chosen = torch.zeros(GRAPH.n_edges, dtype=torch.bool)
    chosen[taken] = True
    circuit = select(scores, count, absolute=absolute)
    assert torch.equal(circuit.members, GRAPH.prune(chosen))
    assert circuit.wanted == count


def test_top_takes_the_largest_scores_and_shares_count_edges():
    scores = made(4, rooted=False)
    circuit = select(scores, 0.5, search="top")
    best = scores.mean().abs().topk(round(0.5 * GRAPH.n_edges)).indices
    chosen = torch.zeros(GRAPH.n_edges, dtype=torch.bool)
    chosen[best] = True
    assert torch.equal(circuit.members, GRAPH.prune(chosen, rooted=False))
    table = circuit.to_dataframe()
    assert len(table) == circuit.n_edges
    assert table["score"].abs().is_monotonic_decreasing
    for wrong in (-1, GRAPH.n_edges + 1, 0.0, 1.5):
        with pytest.raises(InputError, match="size"):
            select(scores, wrong)
    with pytest.raises(InputError, match="unknown search"):
        select(scores, 5, search="exhaustive")


def test_node_circuits_hold_all_edges_between_their_nodes():
    values = torch.zeros(2, len(GRAPH.sources))
    for name, value in (("a0.h1", 3.0), ("a1.h3", -2.0), ("m1", 1.0), ("m0", 0.1)):
        values[:, GRAPH.sources.index(name)] = value
    circuit = select(made(values=values, level="node"), 3)
    reads = {
        "a0.h1": ["a0.h1<q>", "a0.kv0<k>", "a0.kv0<v>"],
        "a1.h3": ["a1.h3<q>", "a1.kv1<k>", "a1.kv1<v>"],
        "m1": ["m1"],
        "logits": ["logits"],
    }
    order = ["input", "a0.h1", "a1.h3", "m1", "logits"]
    wanted = {f"{u}->{v}" for i, u in enumerate(order) for w in order[i + 1 :] for v in reads[w]}
    assert set(circuit.edges) == wanted
    assert set(circuit.nodes) == set(order)
    assert circuit.edge_scores[GRAPH.edges(["a1.h3->m1"])].item() == -2


def test_noise_floor_is_passed_by_chance_once_in_twenty():
    passed = 0
    for seed in range(200):
        scores = made(seed, n=12)
        passed += float(scores.mean().abs().max()) > scores.chance_floor(seed=1)
    assert 2 <= passed <= 22  # 10 expected


def test_a_real_effect_stands_above_the_floor_and_stays_at_the_top():
    values = torch.randn(12, GRAPH.n_edges, generator=torch.Generator().manual_seed(0))
    values[:, [7, 30]] += 4
    scores = made(values=values)
    stable = scores.stability(2)
    assert stable[[7, 30]].tolist() == [1, 1]
    assert stable.sum() == pytest.approx(2)
    table = scores.to_dataframe(most=10).set_index("name")
    real = {GRAPH.edge_name(7), GRAPH.edge_name(30)}
    assert set(table.index[table["above_floor"]]) == real
    assert set(table.index[table["p_adjusted"] < 0.05]) == real
    assert (table.loc[list(real), "low"] > 2).all()
    topics = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "f", "f"]
    assert scores.stability(2, clusters=topics)[[7, 30]].tolist() == [1, 1]
    with pytest.raises(InputError, match="12 prompts but 1"):
        scores.chance_floor(clusters=["a"])
    with pytest.raises(InputError, match="n must lie"):
        scores.stability(0)


def test_circuits_with_one_core_are_told_from_circuits_by_chance():
    random = torch.Generator().manual_seed(0)
    core = torch.randn(GRAPH.n_edges, generator=random)
    noise = 0.2 * torch.randn(2, 3, GRAPH.n_edges, generator=random)
    alike = [made(values=core + noise[i]) for i in range(2)]
    circuits = {"one": select(alike[0], 30), "two": select(alike[1], 30),
                "else": select(made(9), 30)}  # fmt: skip
    found = compare(circuits, n_permutations=199)
    table = found.to_dataframe().set_index(["first", "second", "measure"])
    assert table.loc[("one", "two", "edges"), "p_adjusted"] < 0.05
    assert table.loc[("one", "two", "scores"), "value"] > 0.8
    assert table.loc[("one", "else", "scores"), "p"] > 0.01
    sets = {name: set(circuit.edges) for name, circuit in circuits.items()}
    overlap = len(sets["one"] & sets["two"]) / len(sets["one"] | sets["two"])
    assert table.loc[("one", "two", "edges"), "value"] == pytest.approx(overlap)
    assert set(found.shared()) == sets["one"] & sets["two"] & sets["else"]
    assert set(found.only("else")) == sets["else"] - sets["one"] - sets["two"]
    with pytest.raises(InputError, match="no circuit 'three'"):
        found.only("three")
    with pytest.raises(InputError, match="at least two"):
        compare({"one": circuits["one"]})
    with pytest.raises(InputError, match="compare circuits of one shape"):
        compare({"one": circuits["one"], "b": select(made(graph=Graph(2, 4, 4, False)), 9)})
    with pytest.raises(InputError, match="no edge"):
        compare({"one": circuits["one"], "none": select(made(), 0)})


def test_overlap_by_chance_is_dealing_out_within_kinds():
    """The hypergeometric draws against shuffling the second circuit's edges."""
    rng = np.random.default_rng(0)
    kinds = edge_kinds(GRAPH)
    one, other = rng.random(len(kinds)) < 0.3, rng.random(len(kinds)) < 0.25
    value, p = _overlap(one, other, kinds, 20_000, rng)
    hits = 0
    for _ in range(4000):
        dealt = other.copy()
        for kind in np.unique(kinds):
            dealt[kinds == kind] = rng.permutation(other[kinds == kind])
        hits += (one & dealt).sum() >= (one & other).sum()
    assert p == pytest.approx(hits / 4000, abs=0.03)
    assert value == (one & other).sum() / (one | other).sum()


def test_json_comes_back_and_says_what_is_wrong_with_it(tmp_path):
    for level in ("edge", "node"):
        circuit = select(made(level=level), 8, name="extraversion")
        again = from_json(to_json(circuit, tmp_path / "c.json"))
        assert again.edges == circuit.edges
        torch.testing.assert_close(again.scores, circuit.scores)
        assert (again.name, again.model, again.search) == ("extraversion", "0" * 64, circuit.search)
    whole = json.loads((tmp_path / "c.json").read_text())
    for change, message in (
        (lambda w: w.update(format="x"), "format"),
        (lambda w: w.pop("edges"), "edges"),
        (lambda w: w["edges"].pop(), "edges, its graph"),
        (lambda w: w["edges"][0].update(source="m1"), "no edge"),
        (lambda w: w["edges"].append(w["edges"][0]), "edges, its graph"),
        (lambda w: w["graph"].update(n_heads=0), "at least one"),
    ):
        broken = json.loads(json.dumps(whole))
        change(broken)
        (tmp_path / "b.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match=message):
            from_json(tmp_path / "b.json")
    with pytest.raises(InputError, match="no such file"):
        from_json(tmp_path / "none.json")


def test_graphml_holds_the_circuit_by_heads(tmp_path):
    members = torch.zeros(GRAPH.n_edges, dtype=torch.bool)
    members[GRAPH.edges(["input->m0", "m0->a1.kv0<v>", "a1.h0->logits", "a1.h1->logits"])] = True
    circuit = select(made(), 4)
    circuit = replace(circuit, members=members)
    root = ElementTree.parse(to_graphml(circuit, tmp_path / "c.graphml")).getroot()
    space = {"g": "http://graphml.graphdrawing.org/xmlns"}
    nodes = {
        n.get("id"): {d.get("key"): d.text for d in n} for n in root.findall(".//g:node", space)
    }
    assert set(nodes) == {"input", "m0", "a1.h0", "a1.h1", "logits"}
    assert nodes["a1.h1"] == {"kind": "head", "layer": "1"}
    edges = {(e.get("source"), e.get("target")): {d.get("key"): d.text for d in e}
             for e in root.findall(".//g:edge", space)}  # fmt: skip
    wanted = {("input", "m0"), *product(["m0"], ["a1.h0", "a1.h1"]),
              *product(["a1.h0", "a1.h1"], ["logits"])}  # fmt: skip
    assert set(edges) == wanted
    score = float(circuit.scores[GRAPH.edges(["m0->a1.kv0<v>"])])
    assert float(edges["m0", "a1.h0"]["score"]) == pytest.approx(score)
    assert edges["m0", "a1.h1"]["input"] == "v"


def test_graphml_is_read_by_its_writer_whatever_the_name_holds(tmp_path):
    circuit = replace(select(made(), 6), name="a\x1b[31m<b>&\x00\ud800\ufffe")
    back = networkx.read_graphml(to_graphml(circuit, tmp_path / "c.graphml"))
    assert set(back) == set(circuit.nodes)
    edges = {(a, b, facts["input"]): facts["score"] for a, b, facts in back.edges(data=True)}
    assert edges == {(a, b, read): score for a, b, read, score in node_edges(circuit)}


def test_a_circuit_knows_its_model(tmp_path):
    one = bridge("llama", 1)
    tokens, changed = prompts([6])[0], prompts([6], seed=1)[0]
    scores = discover(Run(one, tokens), Run(one, changed), metric=pick, ig_steps=1)
    path = select(scores, 20).save(tmp_path / "circuit.safetensors")
    assert Circuit.load(path, one).n_edges > 0
    assert Circuit.load(path, bridge("llama", 1)).model == scores.model  # the same, loaded again
    with pytest.raises(ModelError, match="other weights"):
        Circuit.load(path, bridge("llama", 2))
    with pytest.raises(ModelError, match="another model's"):
        Circuit.load(path, bridge("llama-mqa", 1))


def test_a_fingerprint_sees_one_changed_weight_and_nothing_else():
    one = bridge("llama", 1)
    before = fingerprint(one)
    weight = one.blocks[2].mlp.out.original_component.weight
    with torch.no_grad():
        old = weight[3, 7].clone()
        weight[3, 7] += 1e-5
        assert fingerprint(one) != before
        weight[3, 7] = old
        assert fingerprint(one) == before
        weight[[2, 5]] = weight[[5, 2]]  # the same numbers elsewhere
        assert fingerprint(one) != before
    assert fingerprint(bridge("llama", 1, torch.bfloat16)) != before
