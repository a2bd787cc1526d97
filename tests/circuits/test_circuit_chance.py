"""What scores add up to, what random circuits carry, and sizes without an edge."""

import numpy as np
import pytest
import torch
from patching_models import bridge, pick, prompts
from planted_models import planted
from thinned import turn

from interp.circuits import beside_chance, curve, discover, faithfulness, select
from interp.circuits.compare import edge_kinds
from interp.errors import InputError
from interp.models.pair import hook
from interp.patching import Run
from interp.readout import Question


@pytest.fixture(scope="module")
def runs():
    made = planted(0.0, 0)
    model = hook(made.model, made.tokenizer)
    return made, *(Run(model, b.tokens, b.attention_mask) for b in (made.clean, made.corrupted))


@turn(0, of=3)
def test_scores_of_a_saturating_model_miss_the_gap_and_say_so_until_steps_are_doubled(runs):
    made, clean, corrupted = runs
    short = discover(clean, corrupted, metric=made.metric)
    gap = (short.clean - short.corrupted).mean()
    out = short.values[:, short.graph.edge_source == 0].sum(1).mean()
    assert short.completeness() == pytest.approx(float(out / gap), abs=1e-5) != 1
    assert short.completeness() < 0.8
    assert f"scores of 5 steps add up to {short.completeness():.2f} of the gap" in short.notes[-1]
    told = discover(clean, corrupted, metric=made.metric, within=0.1)
    assert told.ig_steps == 20
    assert abs(1 - told.completeness()) < 0.1
    assert not told.notes
    fixed = discover(clean, corrupted, metric=made.metric, ig_steps=20)
    torch.testing.assert_close(told.values, fixed.values)
    never = discover(clean, corrupted, metric=made.metric, within=0.01)
    assert never.ig_steps == 40
    assert "scores of 40 steps" in never.notes[-1]
    nodes = discover(clean, corrupted, metric=made.metric, level="node")
    assert nodes.completeness() == pytest.approx(short.completeness(), abs=1e-4)


def test_two_models_scores_into_the_logits_add_up_to_the_gap():
    tokens, mask = prompts([7, 6])
    clean, corrupted = (Run(bridge("llama", seed), tokens, mask) for seed in (1, 2))
    scores = discover(clean, corrupted, metric=pick, ig_steps=64)
    assert scores.completeness() == pytest.approx(1, abs=0.05)
    nodes = discover(clean, corrupted, metric=pick, level="node", ig_steps=1)
    with pytest.raises(InputError, match="add up to nothing"):
        nodes.completeness()


def test_the_planted_circuit_keeps_what_random_ones_of_its_size_do_not(runs):
    made, clean, corrupted = runs
    ask = Question(metric=made.metric, seed=3)
    scores = discover(clean, corrupted, ask=ask)
    circuit = select(scores, 4)
    found = faithfulness(circuit, clean, corrupted, ask=ask)
    beside = beside_chance(found, scores, clean, corrupted, draws=6, ask=ask)
    row = beside.to_dataframe().iloc[0]
    assert row["faithfulness"] > 0.9
    assert row["random"] <= row["random_most"] < 0.5
    assert torch.equal(beside.values, found.values)
    again = beside_chance(found, scores, clean, corrupted, draws=6, ask=ask)
    assert torch.equal(again.chance, beside.chance)
    assert beside.chance.shape == (1, 6, len(found.clean))
    with pytest.raises(InputError, match="needs a draw"):
        beside_chance(found, scores, clean, corrupted, draws=0, ask=ask)


def test_random_circuits_have_the_size_and_deal_scores_within_kinds(runs):
    from interp.circuits.chance import _dealt, _grown

    made, clean, corrupted = runs
    scores = discover(clean, corrupted, metric=made.metric)
    dealt = _dealt(scores, np.random.default_rng(0))
    kinds = edge_kinds(scores.graph)
    for kind in np.unique(kinds):
        here = torch.from_numpy(kinds == kind)
        torch.testing.assert_close(dealt.mean()[here].sort()[0], scores.mean()[here].sort()[0])
    assert not torch.equal(dealt.mean(), scores.mean())
    for size, circuit in zip((4, 30), _grown(dealt, (4, 30)), strict=True):
        assert size <= circuit.n_edges <= size + 4, "an edge may complete several paths"
        assert torch.equal(circuit.members, scores.graph.prune(circuit.members))


def test_sizes_without_an_edge_are_not_in_the_curve_but_in_its_areas(runs):
    made, clean, corrupted = runs
    ask = Question(metric=made.metric)
    scores = discover(clean, corrupted, ask=ask)
    found = curve(scores, clean, corrupted, shares=(0.001, 0.1, 1.0), ask=ask)
    assert found.empty == (0.001,)
    assert found.shares == (0.1, 1.0)
    assert min(found.n_edges) > 0
    tenth, all_of_it = found.faithfulness().tolist()
    area = 0.099 * tenth / 2 + 0.9 * (tenth + all_of_it) / 2
    table = found.areas().set_index("name")
    assert table.loc["CPR", "area"] == pytest.approx(area, abs=1e-4)
    with pytest.raises(InputError, match="ask for more"):
        curve(scores, clean, corrupted, shares=(0.0001, 0.001), ask=ask)
