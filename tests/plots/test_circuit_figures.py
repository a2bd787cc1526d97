"""Circuit figures draw the right edges, as wide as their scores, and say what they leave out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from looking import check_legible, texts, words
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon

from interp.circuits import CircuitScores, Faithfulness, Graph, compare, select
from interp.circuits.export import node_edges
from interp.errors import InputError
from interp.show.plots import (
    circuit_graph,
    circuit_overlap,
    faithfulness_curve,
    render,
    trait_colour,
)
from interp.show.plots.circuit_graph import DOWN, UP


def scores(graph=Graph(3, 4, 2, False), seed=0, n=6):  # noqa: B008 (frozen)
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(graph.n_edges, generator=generator) ** 3
    return CircuitScores(
        values=values + 0.1 * torch.randn(n, graph.n_edges, generator=generator),
        clean=torch.ones(n), corrupted=torch.zeros(n), level="edge", n_layers=graph.n_layers,
        n_heads=graph.n_heads, n_kv_heads=graph.n_kv_heads, parallel=False, contrast="prompt",
        rooted=True, ig_steps=5, metric="emoji log-odds", unit="nats", min_gap=0.001,
        model="0" * 64,
    )  # fmt: skip


def curve(n=8, gap=5.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shares = (0.001, 0.01, 0.1, 1.0)
    ratio = torch.tensor([0.0, 0.4, 0.9, 1.0])[:, None]
    clean, corrupted = torch.full((n,), gap - 2), torch.full((n,), -2.0)
    clean[0] = -2.0  # no gap: left out
    values = corrupted + (ratio + 0.05 * torch.randn(4, n, generator=generator)) * gap
    return Faithfulness(
        values=values, complement=values.flip(0), clean=clean, corrupted=corrupted,
        names=tuple(map(str, shares)), n_edges=(1, 10, 100, 1000), n_nodes=(1, 5, 20, 30),
        shares=shares, total=1000, contrast="model", metric="emoji log-odds", unit="nats",
        min_gap=0.1,
    )  # fmt: skip


def drawn(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]


def test_edges_are_as_wide_as_their_scores_and_coloured_by_sign() -> None:
    circuit = select(scores(), 30)
    figure = circuit_graph(circuit, "openness", most=1000)
    edges = sorted((edge for edge in node_edges(circuit)), key=lambda edge: -abs(edge[3]))
    lines = sorted(drawn(figure), key=lambda line: -line.get_linewidth())
    assert len(lines) == len(edges)
    largest = abs(edges[0][3])
    widths = [max(0.35, 4 * abs(score) / largest) for *_, score in edges]
    np.testing.assert_allclose([line.get_linewidth() for line in lines], widths, rtol=1e-5)
    for line, (*_, score) in zip(lines[:10], edges[:10], strict=True):
        assert to_hex(line.get_edgecolor()).upper() == (UP if score > 0 else DOWN)
    assert set(circuit.nodes) <= words(figure)
    boxes = [p for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)]
    assert len(boxes) == len(circuit.nodes)
    assert "drawn" not in figure.caption.lower()


def test_an_edge_starts_above_its_source_and_ends_under_its_entry() -> None:
    circuit = select(scores(), 30)
    figure = circuit_graph(circuit, "openness", most=1000)
    middle = {
        t.get_text(): t.get_position() for t in texts(figure) if t.get_text() in circuit.nodes
    }
    shift = {"q": -0.19, "k": 0.0, "v": 0.19, "": 0.0}
    ends = {
        (round(middle[u][0], 3), round(middle[v][0] + shift[entry], 3))
        for u, v, entry, _ in node_edges(circuit)
    }
    found = {
        (round(float(line.get_path().vertices[0][0]), 3),
         round(float(line.get_path().vertices[-1][0]), 3))
        for line in drawn(figure)
    }  # fmt: skip
    assert found == ends
    for line in drawn(figure):
        assert line.get_path().vertices[0][1] < line.get_path().vertices[-1][1]


def test_every_edge_has_an_arrowhead_that_touches_its_target() -> None:
    circuit = select(scores(), 30)
    figure = circuit_graph(circuit, "openness", most=1000)
    heads = [patch for patch in figure.axes[0].patches if isinstance(patch, Polygon)]
    tips = sorted(tuple(head.get_xy()[2].round(3)) for head in heads)
    boxes = {p.get_y() for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)}
    assert len(heads) == len(node_edges(circuit))
    assert all(min(abs(y - bottom) for bottom in boxes) < 2e-3 for _, y in tips)
    (top,) = (t.get_position()[1] for t in texts(figure) if t.get_text() == "logits")
    assert any(y == pytest.approx(top - 0.13, abs=2e-3) for _, y in tips)


def test_blocks_without_a_node_are_said() -> None:
    graph = Graph(5, 2, 2, False)
    values = torch.zeros(6, graph.n_edges)
    names = [graph.edge_name(edge) for edge in range(graph.n_edges)]
    wanted = [names.index("input->m0"), names.index("m0->m3"), names.index("m3->logits")]
    values[:, wanted] = 1.0
    figure = circuit_graph(select(replace(scores(graph), values=values), 3), "openness")
    assert "Blocks 1 to 2, 4 of 0 to 4: no node that is drawn." in figure.caption
    whole = circuit_graph(select(scores(), 60), "openness", most=1000)
    assert "no node" not in whole.caption
    assert "(EAP-IG, 5 steps, mean over 6 prompts)" in whole.caption
    other = circuit_graph(select(replace(scores(), rule="relp"), 60), "openness")
    assert "(scores by relp, 5 steps, mean over 6 prompts)" in other.caption


def test_only_the_edges_that_can_be_read_are_drawn_and_they_lead_to_the_logits() -> None:
    circuit = select(scores(), 90)
    figure = circuit_graph(circuit, "openness", most=15, colour="trait")
    core = circuit.core(15)
    assert core.n_edges == 15
    assert set(core.edges) <= set(circuit.edges)
    assert len(drawn(figure)) == len(node_edges(core))
    assert "Drawn: the 15 largest edges" in figure.caption
    assert f"{circuit.n_edges - 15} more are not drawn" in figure.caption
    reached, edges = {"logits"}, node_edges(core)
    for _ in core.nodes:
        reached |= {source for source, target, _, _ in edges if target in reached}
    assert {source for source, *_ in edges} <= reached
    colours = {to_hex(line.get_edgecolor()).upper() for line in drawn(figure)}
    assert colours == {trait_colour("openness").upper()}
    styles = {line.get_linestyle() for line in drawn(figure)}
    assert styles <= {"-", "--", "solid", "dashed"}
    assert len(styles) == 2


@pytest.mark.parametrize("graph", [Graph(1, 1, 1, False), Graph(4, 4, 2, False),
                                   Graph(24, 16, 4, False)])  # fmt: skip
def test_graphs_are_legible_at_any_size(graph) -> None:
    figure = circuit_graph(select(scores(graph), min(400, graph.n_edges)), "neuroticism")
    check_legible(figure)
    names = [
        t for t in texts(figure) if t.get_text().startswith(("a", "m")) and len(t.get_text()) < 9
    ]
    boxes = [name.get_window_extent() for name in names]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        assert render(figure, kind).startswith(start)


def test_curves_hold_faithfulness_its_band_and_areas() -> None:
    result = curve()
    figure = faithfulness_curve(result, "extraversion")
    axes = figure.axes[0]
    line = next(line for line in axes.lines if line.get_label() == "extraversion")
    use = result.defined
    ratio = (result.values[:, use].mean(1) + 2) / 5
    np.testing.assert_allclose(line.get_ydata(), ratio, atol=1e-5)
    rest = next(line for line in axes.lines if line.get_label() == "without the circuit")
    np.testing.assert_allclose(rest.get_ydata(), ratio.flip(0), atol=1e-5)
    areas = result.areas().set_index("name")["area"]
    assert f"CPR {areas['CPR']:.2f}" in figure.caption
    assert f"CMD {areas['CMD']:.2f}" in figure.caption
    assert "7 prompts (1 left out)" in figure.caption
    check_legible(figure)
    both = faithfulness_curve({"openness": curve(seed=1), "extraversion": result})
    assert {"openness", "extraversion"} <= words(both)
    check_legible(both)


def test_a_circuit_without_edges_is_no_point_of_a_curve() -> None:
    whole = curve()
    names = ("values", "complement", "names", "n_edges", "n_nodes", "shares")
    rest = {name: getattr(whole, name)[1:] for name in names}
    figure = faithfulness_curve(replace(whole, **rest, empty=(0.001,)), "extraversion")
    for line in figure.axes[0].lines:
        if line.get_label() in ("extraversion", "without the circuit"):
            assert list(line.get_xdata()) == [0.01, 0.1, 1.0]
    assert "At 0.1 % a circuit has no edge: not drawn." in figure.caption


def test_random_circuits_are_drawn_beside_the_curve() -> None:
    whole = curve()
    chance = (whole.values * 0.5 - 1)[:, None].repeat(1, 3, 1)  # half of what the circuit keeps
    figure = faithfulness_curve(replace(whole, chance=chance), "extraversion")
    table = replace(whole, chance=chance).to_dataframe()
    np.testing.assert_allclose(table["random"], table["faithfulness"] / 2, atol=1e-5)
    (dotted,) = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(dotted.get_ydata(), table["random"])
    assert "Dotted: random circuits of the same sizes" in figure.caption


def test_overlap_holds_the_numbers_of_the_comparison() -> None:
    names = ("openness", "extraversion", "agreeableness")
    made = {n: select(scores(seed=i), 30) for i, n in enumerate(names)}
    found = compare(made, n_permutations=99)
    figure = circuit_overlap(found)
    for axes, table in zip(
        figure.axes,
        (found.jaccard_edges, found.jaccard_nodes, found.rank_correlation),
        strict=False,
    ):
        shown = np.ma.filled(axes.images[0].get_array(), np.nan)[::-1]
        off = ~np.eye(3, dtype=bool)
        np.testing.assert_allclose(shown[off], table.numpy()[off])
        assert np.isnan(np.diag(shown)).all()
        assert len(axes.texts) == 6
        for text in axes.texts:
            column, up = text.get_position()
            value = float(text.get_text().rstrip("*").replace("−", "-"))
            assert value == pytest.approx(float(table[2 - up, column]), abs=0.0051)
    check_legible(figure)
    ranges = [(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in figure.axes[:3]]
    assert ranges == [(0, 1), (0, 1), (-1, 1)]
    assert "99 draws" in figure.caption
    sizes = ", ".join(f"{name} {one.n_edges}" for name, one in made.items())
    assert f"({sizes} edges)" in figure.caption


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="no edge to draw"):
        circuit_graph(select(scores(), 0), "openness")
    with pytest.raises(InputError, match="unknown colour"):
        circuit_graph(select(scores(), 9), "openness", colour="rainbow")
    with pytest.raises(InputError, match="call curve"):
        faithfulness_curve({})
