"""Scores against the definition written out edge by edge, finite differences and hooks."""

import re
from dataclasses import replace

import pytest
import torch
from patching_models import FAMILIES, bridge, pick, prompts
from slow_circuits import SPACE, TWO, Slow, SlowGIM, SlowRelP, bridged, tiny_llama
from thinned import thinned

from interp.circuits import discover, from_json, select, to_json
from interp.errors import InputError, ModelError
from interp.patching import Run
from interp.patching.first_order import Backward
from interp.patching.sweep_plan import make_plan
from interp.readout import Question
from interp.readout.capture import run_and_keep
from interp.readout.metric import reads
from interp.readout.rules import RULES

IDS, OTHER = prompts([6])[0], prompts([6], seed=1)[0]
IDS[:, -1] = OTHER[:, -1] = SPACE
POST_NORMED = ("gemma2", "gemma3_text", "olmo2")
COVERED = [family for family in FAMILIES if family not in POST_NORMED]


def metric_of(logits, metric=pick):
    return metric(logits[None])[0]


def named(scores):
    return {scores.name(i): float(v) for i, v in enumerate(scores.values[0])}


def slow_scores(slow, points, clean, corrupted, metric=pick):
    """Mean over points of (clean_u - corrupted_u) . gradient at v's input.

    A point is the input embeddings, and what each destination's input is set to, if anything.
    """
    total: dict[str, float] = {}
    for start, pin in points:
        inputs = {}

        def keep(name, x, inputs=inputs, pin=pin):
            inputs[name] = x if pin is None else x + (pin(name) - x).detach()
            return inputs[name]

        _, logits = slow.run(start.clone().requires_grad_(True), read=keep)
        grads = torch.autograd.grad(metric_of(logits, metric), list(inputs.values()))
        for (name, _), grad in zip(inputs.items(), grads, strict=True):
            for source in clean:
                edge = f"{source}->{name}"
                moved = ((clean[source] - corrupted[source]) * grad).sum()
                total[edge] = total.get(edge, 0.0) + float(moved) / len(points)
    return total


def check(found, wanted):
    assert max(abs(v) for v in found.values()) > 0.1
    for name, value in found.items():
        assert value == pytest.approx(wanted[name], abs=2e-4), name


TWO_READ = TWO.metric("given_go_on")


@pytest.mark.parametrize(("steps", "metric"), [(1, pick), (3, pick), (9, pick), (3, TWO_READ)])
def test_prompt_contrast_is_the_definition_edge_by_edge(steps, metric):
    model = tiny_llama(0)
    slow = Slow(model, reads(metric))
    clean, corrupted = slow.embed(IDS[0]), slow.embed(OTHER[0])
    acts, base = slow.run(clean)[0], slow.run(corrupted)[0]
    points = [(corrupted + k / steps * (clean - corrupted), None) for k in range(1, steps + 1)]
    bridge_ = bridged(model)
    scores = discover(Run(bridge_, IDS), Run(bridge_, OTHER), metric=metric, ig_steps=steps)
    assert scores.contrast == "prompt"
    assert float(scores.clean) == pytest.approx(
        float(metric_of(slow.run(clean)[1], metric)), abs=1e-5
    )
    check(named(scores), slow_scores(slow, points, acts, base, metric))


@pytest.mark.parametrize(("steps", "metric"), [(1, pick), (3, pick), (3, TWO.metric())])
def test_model_contrast_is_the_definition_edge_by_edge(steps, metric):
    """Every destination reads the point between both models' streams, under tuned weights."""
    tuned, base = tiny_llama(0), tiny_llama(1)
    slow, other = Slow(tuned, reads(metric)), Slow(base)
    inputs, base_inputs = {}, {}
    acts = slow.run(slow.embed(IDS[0]), read=lambda n, x: inputs.setdefault(n, x))[0]
    base_acts = other.run(other.embed(IDS[0]), read=lambda n, x: base_inputs.setdefault(n, x))[0]
    points = [
        (
            torch.lerp(base_acts["input"], acts["input"], torch.tensor(k / steps).double()),
            lambda name, k=k: base_inputs[name] + k / steps * (inputs[name] - base_inputs[name]),
        )
        for k in range(1, steps + 1)
    ]
    run = Run(bridged(tuned), IDS), Run(bridged(base), IDS)
    scores = discover(*run, metric=metric, ig_steps=steps)
    assert scores.contrast == "model"
    check(named(scores), slow_scores(slow, points, acts, base_acts, metric))


@pytest.mark.parametrize(("rule", "kind"), [("relp", SlowRelP), ("gim", SlowGIM)])
@pytest.mark.parametrize("steps", [1, 3])
def test_rules_are_their_definitions_edge_by_edge(rule, kind, steps):
    model = tiny_llama(0)
    slow = kind(model)
    clean, corrupted = slow.embed(IDS[0]), slow.embed(OTHER[0])
    acts, base = slow.run(clean)[0], slow.run(corrupted)[0]
    points = [(corrupted + k / steps * (clean - corrupted), None) for k in range(1, steps + 1)]
    one = bridged(model)
    options = {"metric": pick, "ig_steps": steps, "rule": rule}
    scores = discover(Run(one, IDS), Run(one, OTHER), **options)
    assert scores.rule == rule
    asks = [v for name, v in named(scores).items() if name.endswith(("<q>", "<k>"))]
    assert (max(map(abs, asks)) == 0) == (rule == "relp")
    if rule == "relp":  # as the authors' demonstrations have it
        open_ = replace(RULES[rule], attention="plain")
        scores = discover(Run(one, IDS), Run(one, OTHER), **options | {"rule": open_})
        slow.softmax = lambda x: x.softmax(-1)
        check(named(scores), slow_scores(slow, points, acts, base))
    check(named(scores), slow_scores(slow, points, acts, base))


def test_gradient_drop_is_a_loop_over_layers():
    """Each layer's own outputs held fixed in turn, sizes averaged over those not the edge's."""
    model = tiny_llama(2, num_hidden_layers=3)
    slow = Slow(model)
    clean, corrupted = slow.embed(IDS[0]), slow.embed(OTHER[0])
    acts, base = slow.run(clean)[0], slow.run(corrupted)[0]
    sizes = []
    for dropped in range(3):
        inputs = {}

        def hold(source, _, value, dropped=dropped):
            own = re.match(r"[am](\d+)", source)
            return value.detach() if own and int(own[1]) == dropped else value

        def keep(name, x, inputs=inputs):
            inputs[name] = x if x.requires_grad else x.requires_grad_()
            return inputs[name]

        _, logits = slow.run(clean.clone().requires_grad_(True), carry=hold, read=keep)
        grads = torch.autograd.grad(metric_of(logits), list(inputs.values()), allow_unused=True)
        sizes.append({
            f"{source}->{name}": 0.0 if grad is None else
            abs(float(((acts[source] - base[source]) * grad).sum()))
            for name, grad in zip(inputs, grads, strict=True) for source in acts
        })  # fmt: skip
    one = bridged(model)
    options = {"metric": pick, "ig_steps": 1, "rule": "gradient-drop"}
    scores = named(discover(Run(one, IDS), Run(one, OTHER), **options))
    wanted = {}
    for edge in scores:
        into = edge.split("->")[1]
        own = None if into == "logits" else int(into.split(".")[0][1:])
        kept = [size[edge] for layer, size in enumerate(sizes) if layer != own]
        wanted[edge] = sum(kept) / len(kept)
    check(scores, wanted)


@pytest.mark.parametrize(("family", "rule"), thinned(COVERED, ["relp", "gim"]))
def test_rules_are_the_same_on_the_bridge_and_in_the_decoder(family, rule):
    """Hooks on Hugging Face's modules against the decoder's own arithmetic."""
    one = bridge(family, 1)
    tokens, mask = prompts([7, 5])
    changed, _ = prompts([7, 5], seed=1)
    clean, corrupted = Run(one, tokens, mask), Run(one, changed, mask)
    options = {"metric": pick, "ig_steps": 1, "rule": rule}
    nodes = discover(clean, corrupted, level="node", **options)
    edges = discover(clean, corrupted, **options)
    sums = torch.zeros_like(nodes.values)
    sums.index_add_(1, edges.graph.edge_source, edges.values)
    torch.testing.assert_close(sums, nodes.values, atol=3e-4, rtol=1e-3)
    plan = make_plan(
        clean, corrupted, "z", direction="denoising", contrast="prompt", ask=Question(metric=pick)
    )
    back = Backward(plan, {"z", "mlp_out"}, RULES[rule])
    base = run_and_keep(corrupted, ("z", "mlp_out"), plan.at).acts
    graph = nodes.graph
    for layer in range(graph.n_layers):
        heads, mlp = graph.head(layer, 0), graph.mlp(layer)
        for site, where in (("z", slice(heads, mlp)), ("mlp_out", slice(mlp, mlp + 1))):
            moved = (back.acts[site][layer] - base[site][layer]) * back.grads[site][layer]
            found = (moved.sum(-1).view(*mask.shape, -1) * mask[..., None]).sum(1)
            torch.testing.assert_close(nodes.values[:, where], found, atol=3e-4, rtol=1e-3)
    assert nodes.values.abs().max() > 0.01


def test_scores_by_a_rule_say_what_they_are_not(tmp_path):
    one = bridge("llama", 1)
    clean, corrupted = (Run(one, prompts([6, 6], seed=seed)[0]) for seed in (0, 1))
    with pytest.raises(InputError, match="scores by the rule 'relp' add up to nothing; leave"):
        discover(clean, corrupted, metric=pick, rule="relp", within=0.1)
    with pytest.raises(InputError, match="unknown rule 'atp'"):
        discover(clean, corrupted, metric=pick, rule="atp")
    sizes = discover(clean, corrupted, metric=pick, rule="gradient-drop", ig_steps=1)
    assert bool((sizes.values >= 0).all())
    circuit = select(sizes, 10)
    assert circuit.complete is None
    for back in (type(circuit).load(circuit.save(tmp_path / "circuit.safetensors")),
                 from_json(to_json(circuit, tmp_path / "circuit.json"))):  # fmt: skip
        assert back.rule == "gradient-drop"
    with pytest.raises(InputError, match="'gradient-drop' add up to nothing"):
        sizes.completeness()
    with pytest.raises(InputError, match="are sizes: no sign to flip"):
        sizes.chance_floor()
    table = sizes.to_dataframe(most=5)
    assert table["p"].isna().all()
    assert table["p_adjusted"].isna().all()
    assert not table["above_floor"].any()


def test_one_step_is_the_derivative_of_every_edge():
    """Central differences along each edge's own change, in double precision."""
    model = tiny_llama(3)
    slow = Slow(model)
    clean, corrupted = slow.embed(IDS[0]), slow.embed(OTHER[0])
    acts, base = slow.run(clean)[0], slow.run(corrupted)[0]
    bridge_ = bridged(model)
    scores = named(discover(Run(bridge_, IDS), Run(bridge_, OTHER), metric=pick, ig_steps=1))
    assert len(scores) == 8 * 1 + 5 + 8 * 6 + 10 + 11
    for edge, found in scores.items():

        def moved(step, edge=edge):
            def carry(source, destination, value):
                if f"{source}->{destination}" != edge:
                    return value
                return value + step * (acts[source] - base[source])

            return float(metric_of(slow.run(clean, carry)[1]))

        slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
        assert found == pytest.approx(slope, abs=2e-4), edge


@pytest.mark.parametrize("family", thinned(COVERED))
def test_node_scores_are_gradients_at_the_models_own_hooks(family):
    one, other = bridge(family, 1), bridge(family, 2)
    tokens, mask = prompts([7, 5])
    changed, _ = prompts([7, 5], seed=1)
    clean = Run(one, tokens, mask)
    for corrupted in (Run(one, changed, mask), Run(other, tokens, mask)):
        options = {"metric": pick, "ig_steps": 1}
        nodes = discover(clean, corrupted, level="node", **options)
        edges = discover(clean, corrupted, **options)
        sums = torch.zeros_like(nodes.values)
        sums.index_add_(1, edges.graph.edge_source, edges.values)
        torch.testing.assert_close(sums, nodes.values, atol=3e-4, rtol=1e-4)
        if corrupted.model is not one:
            continue  # the other model writes heads by other matrices than z's gradient sees
        plan = make_plan(
            clean, corrupted, "z", direction="denoising", contrast="prompt",
            ask=Question(metric=pick),
        )  # fmt: skip
        back = Backward(plan, {"z", "mlp_out"})
        base = run_and_keep(corrupted, ("z", "mlp_out"), plan.at).acts
        graph = nodes.graph
        for layer in range(graph.n_layers):
            moved = (back.acts["z"][layer] - base["z"][layer]) * back.grads["z"][layer]
            heads = slice(graph.head(layer, 0), graph.mlp(layer))
            torch.testing.assert_close(
                nodes.values[:, heads], (moved.sum(-1) * mask[..., None]).sum(1), atol=1e-4, rtol=0
            )
            moved = (back.acts["mlp_out"][layer] - base["mlp_out"][layer]).mul(
                back.grads["mlp_out"][layer]
            )
            torch.testing.assert_close(
                nodes.values[:, graph.mlp(layer)], (moved.sum(-1) * mask).sum(1), atol=1e-4, rtol=0
            )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("contrast", ["prompt", "model"])
def test_padding_and_chunks_change_nothing(side, contrast):
    one, other = bridge("qwen2", 1), bridge("qwen2", 2)
    tokens, mask = prompts([7, 4, 6], side=side)
    changed, _ = prompts([7, 4, 6], side=side, seed=1)
    clean = Run(one, tokens, mask)
    second = Run(one, changed, mask) if contrast == "prompt" else Run(other, tokens, mask)
    whole = discover(clean, second, metric=pick)
    small = discover(clean, second, metric=pick, ask=Question(chunk=700_000))
    torch.testing.assert_close(whole.values, small.values, atol=1e-4, rtol=1e-4)
    for row in range(3):
        alone = discover(
            Run(one, tokens[row][mask[row]][None]),
            Run(second.model, second.tokens[row][mask[row]][None]),
            metric=pick,
        )
        torch.testing.assert_close(whole.values[row], alone.values[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(whole.corrupted[row], alone.corrupted[0], atol=1e-5, rtol=0)


def test_metric_left_of_the_end_and_metrics_that_know_their_prompts():
    one = bridge("llama", 1)
    tokens, changed = prompts([7, 7, 7])[0], prompts([7, 7, 7], seed=1)[0]
    answers = torch.tensor([5, 9, 33])

    def answer(logits):
        return logits[torch.arange(3), answers]

    ask = Question(metric=answer, places=torch.tensor([3, 6, 5]))
    whole = discover(Run(one, tokens), Run(one, changed), ask=ask)
    chunked = discover(Run(one, tokens), Run(one, changed), ask=replace(ask, chunk=700_000))
    torch.testing.assert_close(whole.values, chunked.values, atol=1e-4, rtol=1e-4)
    cut = discover(Run(one, tokens[:1, :4]), Run(one, changed[:1, :4]), metric=lambda x: x[:, 5])
    torch.testing.assert_close(whole.values[0], cut.values[0], atol=1e-4, rtol=1e-4)


def test_the_first_half_of_equal_prompts_does_nothing():
    one = bridge("llama", 1)
    tokens, changed = prompts([8])[0], prompts([8], seed=1)[0]
    changed[:, :5] = tokens[:, :5]
    scores = discover(Run(one, tokens), Run(one, changed), metric=pick, ig_steps=2)
    kept = discover(Run(one, tokens), Run(one, changed), metric=pick, ig_steps=2, level="node")
    sums = torch.zeros(1, len(scores.graph.sources))
    sums.index_add_(1, scores.graph.edge_source, scores.values)
    torch.testing.assert_close(sums, kept.values, atol=1e-4, rtol=1e-4)


def test_half_precision_agrees_with_single():
    values = []
    for dtype in (torch.float32, torch.bfloat16):
        one, other = bridge("llama", 1, dtype), bridge("llama", 2, dtype)
        tokens, _ = prompts([6, 6])
        values.append(discover(Run(one, tokens), Run(other, tokens), metric=pick).mean())
    assert torch.corrcoef(torch.stack(values))[0, 1] > 0.99


def test_the_model_is_left_as_it_was():
    one = bridge("llama", 1)
    tokens, changed = prompts([6])[0], prompts([6], seed=1)[0]
    before = {name: value.clone() for name, value in one.original_model.state_dict().items()}
    calls = []
    discover(
        Run(one, tokens),
        Run(one, changed),
        metric=pick,
        ask=Question(progress=lambda *c: calls.append(c)),
    )
    assert calls == [("circuit scores", 0, 1), ("circuit scores", 1, 1)]
    assert all(torch.equal(v, before[n]) for n, v in one.original_model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in one.original_model.parameters())
    assert not any(point.fwd_hooks for point in one.hook_dict.values())


def test_what_cannot_be_scored_is_refused():
    one = bridge("llama", 1)
    tokens, changed = prompts([6])[0], prompts([6], seed=1)[0]
    clean, corrupted = Run(one, tokens), Run(one, changed)
    with pytest.raises(InputError, match="at least 1"):
        discover(clean, corrupted, metric=pick, ig_steps=0)
    with pytest.raises(InputError, match="unknown level"):
        discover(clean, corrupted, metric=pick, level="neuron")
    with pytest.raises(InputError, match="equal token length"):
        discover(clean, Run(one, changed[:, :5]), metric=pick)
    with pytest.raises(InputError, match="takes"):
        discover(clean, corrupted, metric=pick, ask=Question(chunk=1000))
    with pytest.raises(InputError, match="nothing to explain"):
        discover(clean, Run(bridge("llama", 1), tokens), metric=pick)
    with pytest.raises(ModelError, match="gemma2 norms the sum of a layer's heads"):
        discover(Run(bridge("gemma2"), tokens), Run(bridge("gemma2", 1), tokens), metric=pick)
    with pytest.raises(ModelError, match="graph"):
        discover(clean, Run(bridge("llama", 1, num_key_value_heads=1), tokens), metric=pick)
    one.add_hook("blocks.1.hook_mlp_out", lambda value, **_: value * 0.5)
    with pytest.raises(ModelError, match="does not reproduce this llama model"):
        discover(clean, corrupted, metric=pick)
    one.reset_hooks()


def test_prompts_without_a_gap_are_left_out_named_and_counted():
    one = bridge("llama", 1)
    tokens, changed = prompts([6, 6, 6])[0], prompts([6, 6, 6], seed=1)[0]
    gap = discover(Run(one, tokens), Run(one, changed), metric=pick)
    gap = (gap.clean - gap.corrupted).abs()
    bar = float(gap.sort().values[0]) + 1e-4
    scores = discover(Run(one, tokens), Run(one, changed), metric=pick, ask=Question(min_gap=bar))
    out = int(gap.argmin())
    assert scores.n_prompts == 2
    assert scores.notes[0].startswith("1 of 3 prompts left out")
    assert scores.notes[0].endswith(f": {out}")
    kept = [row for row in range(3) if row != out]
    torch.testing.assert_close(scores.mean(), scores.values[kept].mean(0))
