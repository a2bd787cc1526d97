"""Interventions on circuits against path patching by hand, and against patches by hooks."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from patching_models import FAMILIES, bridge, pick, prompts
from slow_circuits import SPACE, TWO, Slow, bridged, tiny_llama
from thinned import thinned

from interp.circuits import (
    SHARES,
    Faithfulness,
    cross,
    curve,
    discover,
    faithfulness,
    mixing,
    select,
    smallest,
)
from interp.circuits.checked_runs import CheckedRuns
from interp.circuits.evaluate import _run
from interp.errors import InputError, ModelError
from interp.patching import Run, naive
from interp.readout import Question
from interp.readout.metric import reads

IDS, OTHER = prompts([6])[0], prompts([6], seed=1)[0]
IDS[:, -1] = OTHER[:, -1] = SPACE
POST_NORMED = ("gemma2", "gemma3_text", "olmo2")
COVERED = [family for family in FAMILIES if family not in POST_NORMED]


def metric_of(logits, metric=pick):
    return float(metric(logits[None])[0])


def run_sets(clean, corrupted, members, chunk=None, metric=pick):
    """The metric of any sets of edges, pruned or not."""
    contrast = CheckedRuns.of(clean, corrupted, Question(metric=metric))
    return _run(contrast, members, Question(chunk=chunk))


@pytest.mark.parametrize("contrast", ["prompt", "model"])
@pytest.mark.parametrize(("layers", "metric"), [(1, pick), (2, pick), (2, TWO.metric("go_on"))])
def test_any_set_of_edges_is_path_patching_by_hand(contrast, layers, metric):
    one, two = (tiny_llama(seed, num_hidden_layers=layers) for seed in (0, 1))
    slow, other = (Slow(model, reads(metric)) for model in (one, two))
    ids = OTHER if contrast == "prompt" else IDS
    model = slow if contrast == "prompt" else other
    base = model.run(model.embed(ids[0]))[0]
    first = bridged(one)
    second = first if contrast == "prompt" else bridged(two)
    clean, corrupted = Run(first, IDS), Run(second, ids)
    graph = CheckedRuns.of(clean, corrupted, Question(metric=pick)).graph
    names = [graph.edge_name(i) for i in range(graph.n_edges)]
    random = torch.rand(12, graph.n_edges, generator=torch.Generator().manual_seed(0))
    members = random < torch.linspace(0, 1, 12)[:, None]
    # Single edges put in, single edges taken out, one for each kind of destination.
    for name in ("input->a0.h3<q>", "input->a0.kv1<k>", "input->a0.kv0<v>", "a0.h2->m0",
                 "m0->logits", "a0.h1->logits"):  # fmt: skip
        edge = torch.tensor([n == name for n in names])
        members = torch.cat((members, edge[None], ~edge[None]))
    found, up, down = run_sets(clean, corrupted, members, metric=metric)
    start = slow.embed(IDS[0])
    for values, chosen in zip(found[:, 0], members, strict=True):
        inside = {name for name, there in zip(names, chosen.tolist(), strict=True) if there}
        assert float(values) == pytest.approx(
            metric_of(slow.circuit(start, base, inside), metric), abs=2e-4
        )
    assert float(up) == pytest.approx(metric_of(slow.run(start)[1], metric), abs=1e-4)
    assert float(down) == pytest.approx(
        metric_of(slow.circuit(start, base, set()), metric), abs=1e-4
    )


@pytest.mark.parametrize(("family", "contrast"), thinned(COVERED, ["prompt", "model"], keep=4))
def test_ends_of_the_curve_are_the_two_runs(family, contrast):
    one, other = bridge(family, 1), bridge(family, 2)
    tokens, mask = prompts([7, 5])
    changed, _ = prompts([7, 5], seed=1)
    clean = Run(one, tokens, mask)
    corrupted = Run(one, changed, mask) if contrast == "prompt" else Run(other, tokens, mask)
    n = discover(clean, corrupted, metric=pick, ig_steps=1).graph.n_edges
    found, up, down = run_sets(clean, corrupted, torch.tensor([[True], [False]]).expand(2, n))
    with torch.no_grad():
        logits = one(tokens, attention_mask=mask.long())[:, -1]
        base = other if contrast == "model" else one
        ids = corrupted.tokens
        stream = base.run_with_cache(ids, attention_mask=mask.long())[1]
        last = stream[f"blocks.{one.cfg.n_layers - 1}.hook_resid_post"][:, -1]
        hf = one.original_model
        inner = getattr(hf, "model", None) or getattr(hf, "transformer", None) or hf.gpt_neox
        norm = getattr(inner, "norm", None) or getattr(inner, "ln_f", None)
        norm = norm or inner.final_layer_norm
        head = getattr(hf, "lm_head", None) or hf.embed_out
        shift = sum(
            a.attn.o.original_component.bias - b.attn.o.original_component.bias
            for a, b in zip(one.blocks, base.blocks, strict=True)
            if getattr(a.attn.o.original_component, "bias", None) is not None
        )
        readout = head(norm(last + shift))
    torch.testing.assert_close(found[0], pick(logits), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], pick(readout), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(up, pick(logits), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(down, pick(readout), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", thinned(COVERED))
def test_corrupting_all_edges_of_a_place_is_patching_it_by_hooks(family):
    """All edges out of a head: its z. All edges into a query, key or value: that projection."""
    one = bridge(family, 1)
    tokens, mask = prompts([7, 5])
    changed, _ = prompts([7, 5], seed=1)
    clean, corrupted = Run(one, tokens, mask), Run(one, changed, mask)
    graph = CheckedRuns.of(clean, corrupted, Question(metric=pick)).graph
    members, wanted = [], []
    for site, letter in (("z", ""), ("q", "q"), ("k", "k"), ("v", "v")):
        slow = naive.sweep(clean, corrupted, site, metric=pick, direction="noising")
        for layer in range(graph.n_layers):
            for head in slow.units:
                if site == "z":
                    members.append(graph.edge_source != graph.head(layer, head))
                else:
                    kind = "h" if site == "q" else "kv"
                    read = graph.destinations.index(f"a{layer}.{kind}{head}<{letter}>")
                    members.append(graph.edge_destination != read)
                wanted.append(slow.values[layer, slow.units.index(head)])
    found, _, _ = run_sets(clean, corrupted, torch.stack(members))
    wanted = torch.stack(wanted)
    assert (wanted - wanted[0]).abs().max() > 0.05
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "contrast"), thinned(["llama", "gpt_neox"], ["prompt", "model"], keep=2)
)
def test_batches_chunks_padding_and_compact_heads_change_nothing(family, contrast, monkeypatch):
    one, other = bridge(family, 1), bridge(family, 2)
    tokens, mask = prompts([7, 4, 6])
    changed, _ = prompts([7, 4, 6], seed=1)
    clean = Run(one, tokens, mask)
    corrupted = Run(one, changed, mask) if contrast == "prompt" else Run(other, tokens, mask)
    n = CheckedRuns.of(clean, corrupted, Question(metric=pick)).graph.n_edges
    members = torch.rand(6, n, generator=torch.Generator().manual_seed(0)) < 0.6
    whole = run_sets(clean, corrupted, members)[0]
    alone = torch.cat([run_sets(clean, corrupted, one[None])[0] for one in members])
    torch.testing.assert_close(whole, alone, atol=2e-5, rtol=1e-4)
    for row in range(3):
        ids = [run.tokens[row][mask[row]][None] for run in (clean, corrupted)]
        single = run_sets(Run(one, ids[0]), Run(corrupted.model, ids[1]), members)[0]
        torch.testing.assert_close(whole[:, row], single[:, 0], atol=2e-5, rtol=1e-4)
    seen = []
    made = mixing.Mixer.__init__

    def note(self, *args, compact):
        seen.append((compact, len(args[2]), len(args[1].rows)))
        made(self, *args, compact=compact)

    monkeypatch.setattr(mixing.Mixer, "__init__", note)
    with pytest.raises(InputError, match="takes") as refused:
        run_sets(clean, corrupted, members, chunk=10_000)
    least = int(re.search(r"takes (\d+)", str(refused.value))[1])
    small = run_sets(clean, corrupted, members, chunk=least)[0]
    torch.testing.assert_close(whole, small, atol=2e-5, rtol=1e-4)
    assert seen == [(True, 1, 1)] * 18


def test_half_precision_agrees_with_single():
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        one = bridge("llama", 1, dtype)
        tokens, changed = prompts([6, 6])[0], prompts([6, 6], seed=1)[0]
        n = CheckedRuns.of(Run(one, tokens), Run(one, changed), Question(metric=pick)).graph.n_edges
        members = torch.rand(4, n, generator=torch.Generator().manual_seed(0)) < 0.6
        found.append(run_sets(Run(one, tokens), Run(one, changed), members)[0])
    torch.testing.assert_close(*found, atol=0.15, rtol=0.05)


def scored(n=5, seed=1):
    one = bridge("llama", seed)
    lengths = [6] * n
    clean = Run(one, prompts(lengths)[0])
    corrupted = Run(one, prompts(lengths, seed=1)[0])
    first = discover(clean, corrupted, metric=pick)
    up = (first.clean - first.corrupted).sign()

    def metric(logits):  # oriented, so that every prompt's gap is positive
        return pick(logits) * up

    return discover(clean, corrupted, metric=metric), clean, corrupted, metric


def test_areas_are_those_added_up_by_hand():
    """Two prompts from 0 to 1 and from 0 to 3: ratios of means .5, 1.5, 1, after one empty size."""
    found = Faithfulness(
        values=torch.tensor([[0.0, 2.0], [1.5, 4.5], [1.0, 3.0]]), complement=torch.empty(0, 2),
        clean=torch.tensor([1.0, 3.0]), corrupted=torch.zeros(2), names=("a", "b", "c"),
        n_edges=(1, 5, 10), n_nodes=(1, 2, 3), shares=(0.1, 0.5, 1.0), empty=(0.05,), total=10,
        contrast="prompt", metric="m", unit="nats", min_gap=0.0,
    )  # fmt: skip
    area = found.areas().set_index("name")["area"]
    # Over .05 to .1 from 0 to .5, over .1 to .5 from .5 to 1.5, over .5 to 1 from 1.5 to 1.
    assert area["CPR"] == pytest.approx(0.05 * 0.25 + 0.4 * 1.0 + 0.5 * 1.25)
    assert area["CMD"] == pytest.approx(0.05 * 0.75 + 0.4 * 0.5 + 0.5 * 0.25)


def test_areas_are_those_of_the_benchmark():
    scores, clean, corrupted, metric = scored()
    found = curve(scores, clean, corrupted, search="top", ask=Question(metric=metric))
    assert (*found.empty, *found.shares) == SHARES
    n = scores.graph.n_edges
    ratios = []
    for share in SHARES:
        circuit = select(scores, int(share * n), search="top")
        one = faithfulness(circuit, clean, corrupted, metric=metric)
        ratio = (one.values.mean() - one.corrupted.mean()) / (
            one.clean.mean() - one.corrupted.mean()
        )
        ratios.append(float(ratio))
        assert float(one.faithfulness()[0]) == pytest.approx(float(ratio), abs=1e-5)
    whole = [*(0.0 for _ in found.empty), *found.faithfulness().tolist()]
    np.testing.assert_allclose(whole, ratios, atol=1e-4)
    under = above = 0.0
    for i in range(len(SHARES) - 1):
        width = SHARES[i + 1] - SHARES[i]
        under += width * (ratios[i] + ratios[i + 1]) / 2
        above += width * (abs(1 - ratios[i]) + abs(1 - ratios[i + 1])) / 2
    areas = found.areas().set_index("name")
    assert areas.loc["CPR", "area"] == pytest.approx(under, abs=1e-4)
    assert areas.loc["CMD", "area"] == pytest.approx(above, abs=1e-4)
    for name in ("CPR", "CMD"):
        assert areas.loc[name, "low"] <= areas.loc[name, "area"] <= areas.loc[name, "high"]
    single = faithfulness(select(scores, 9), clean, corrupted, metric=metric)
    with pytest.raises(InputError, match="call curve"):
        single.areas()


def test_complement_is_the_rest_of_the_graph():
    scores, clean, corrupted, metric = scored()
    circuit = select(scores, 40)
    found = faithfulness(circuit, clean, corrupted, metric=metric, complement=True)
    contrast = CheckedRuns.of(clean, corrupted, Question(metric=metric))
    rest, _, _ = _run(contrast, ~circuit.members[None], Question())
    torch.testing.assert_close(found.complement, rest, atol=1e-5, rtol=1e-5)
    table = found.to_dataframe()
    assert table.loc[0, "without"] == pytest.approx(float(found.completeness()[0]))
    assert table.loc[0, "n_edges"] == circuit.n_edges


def test_intervals_hold_over_topics_and_are_missing_for_one():
    scores, clean, corrupted, metric = scored()
    found = curve(scores, clean, corrupted, complement=False, ask=Question(metric=metric))
    by_prompt = found.to_dataframe()
    assert (by_prompt["low"] <= by_prompt["faithfulness"] + 1e-6).all()
    assert (by_prompt["faithfulness"] <= by_prompt["high"] + 1e-6).all()
    topics = ["a", "b", "b", "c", "c"]
    told = curve(scores, clean, corrupted, ask=Question(metric=metric, topics=topics))
    pd.testing.assert_frame_equal(told.areas(), found.areas(clusters=topics))
    again = discover(clean, corrupted, ask=Question(metric=metric, topics=topics))
    middle = scores.chance_floor(level=0.5)  # five prompts reach their largest mean at .95
    by_topic = scores.chance_floor(clusters=topics, level=0.5)
    assert again.chance_floor(level=0.5) == by_topic != middle
    one_topic = found.to_dataframe(clusters=["a"] * 5)
    assert one_topic["low"].isna().all()
    with pytest.raises(InputError, match="5 prompts but 2"):
        found.areas(clusters=["a", "b"])


def test_smallest_circuits_reach_their_targets_and_one_edge_less_does_not():
    scores, clean, corrupted, metric = scored()
    circuits, found = smallest(
        scores, clean, corrupted, targets=(0.5, 0.9), ask=Question(metric=metric)
    )
    for circuit, value, target in zip(circuits, found.faithfulness(), (0.5, 0.9), strict=True):
        assert value >= target - 1e-5
        less = select(scores, circuit.wanted - 1)
        below = faithfulness(less, clean, corrupted, metric=metric).faithfulness()
        assert float(below) < target
    with pytest.raises(InputError, match="targets"):
        smallest(scores, clean, corrupted, targets=(1.5,), ask=Question(metric=metric))


def test_prompts_without_a_gap_are_left_out():
    scores, clean, corrupted, metric = scored()
    gap = scores.clean - scores.corrupted
    bar = float(gap.sort().values[1]) + 1e-4
    found = faithfulness(
        select(scores, 40), clean, corrupted, metric=metric, ask=Question(min_gap=bar)
    )
    assert found.n_prompts == 3
    assert "2 of 5 prompts left out" in found.notes[0]
    use = gap > bar
    ratio = (found.values[:, use].mean() - found.corrupted[use].mean()) / gap[use].mean()
    assert float(found.faithfulness()) == pytest.approx(float(ratio), abs=1e-5)
    assert found.per_prompt()[0].isnan().tolist() == (~use).tolist()
    with pytest.raises(InputError, match="nothing to explain"):
        faithfulness(select(scores, 40), clean, corrupted, metric=metric, ask=Question(min_gap=1e3))


def test_gaps_that_cancel_are_refused():
    one = bridge("llama", 1)
    first, second = prompts([6])[0], prompts([6], seed=1)[0]
    clean, corrupted = Run(one, torch.cat((first, second))), Run(one, torch.cat((second, first)))
    scores = discover(clean, corrupted, metric=pick)
    with pytest.raises(InputError, match="cancels"):
        faithfulness(select(scores, 40), clean, corrupted, metric=pick)


def test_circuits_of_other_models_are_refused_unless_asked_for():
    scores, clean, corrupted, metric = scored()
    circuit = select(scores, 40, name="mine")
    other = bridge("llama", 2)
    runs = Run(other, clean.tokens), Run(other, corrupted.tokens)
    with pytest.raises(ModelError, match="mine was found in a model with other weights"):
        faithfulness(circuit, *runs, metric=pick)
    values = faithfulness(
        circuit, *runs, metric=pick, any_model=True, ask=Question(min_gap=1e-6)
    ).values
    contrast = CheckedRuns.of(*runs, Question(metric=pick))
    torch.testing.assert_close(values, _run(contrast, circuit.members[None], Question())[0])
    wide = bridge("llama-mqa", 2)
    with pytest.raises(ModelError, match="models of one shape"):
        faithfulness(
            circuit, Run(wide, clean.tokens), Run(wide, corrupted.tokens), metric=pick,
            any_model=True,
        )  # fmt: skip
    with pytest.raises(InputError, match="no circuit"):
        faithfulness([], clean, corrupted, metric=metric)


def test_cross_runs_each_circuit_on_each_traits_prompts():
    scores, clean, corrupted, metric = scored()
    big, small = select(scores, 100), select(scores, 20)
    found = cross(
        {"big": big, "small": small}, {"one": (clean, corrupted)}, ask=Question(metric=metric)
    )
    assert found["one"].names == ("big", "small")
    alone = faithfulness([big, small], clean, corrupted, metric=metric)
    torch.testing.assert_close(found["one"].values, alone.values)
