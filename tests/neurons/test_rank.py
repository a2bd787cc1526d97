"""Rankings against single patches, algebra and a mechanism planted in the weights."""

import pytest
import torch
from patching_models import bridge, pick, prompts
from planted_models import planted
from thinned import thinned

from interp.errors import InputError
from interp.models.pair import hook
from interp.neurons import TopTest, rank
from interp.neurons.matched import matched
from interp.patching import Cells, Node, Run, naive, patch_nodes


@pytest.fixture(scope="module")
def contrast():
    """A model pair in which the tuned one differs in all its MLPs."""
    base, tuned = bridge("llama", 1), bridge("llama", 1)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for block in tuned.blocks:
            for part in (block.mlp.gate, getattr(block.mlp, "in")):
                weight = part.original_component.weight
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    tokens, mask = prompts([6, 5, 7])
    return Run(tuned, tokens, mask), Run(base, tokens, mask)


def test_last_layer_scores_with_the_rest_sum_to_the_difference(contrast):
    """Same w_out in both models here, so a score is the neuron's whole difference but for scale."""
    found = rank(*contrast, metric=pick, test=TopTest(k=4, draws=2))
    clean, corrupted = contrast
    with torch.no_grad():
        acts = [
            run.model.run_with_cache(run.tokens, attention_mask=run.mask.long())[1][
                "blocks.2.mlp.hook_post"
            ][torch.arange(3), run.last]
            for run in (corrupted, clean)
        ]
    torch.testing.assert_close(found.delta, (acts[1] - acts[0]).T, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.score, found.delta * found.alignment)
    means = found.score.mean(1)
    assert torch.equal(found.order, means.argsort(descending=True, stable=True))
    assert found.top(1) == [(2, int(means.argmax()))]


def test_effects_are_exact(contrast):
    clean, corrupted = contrast
    found = rank(*contrast, metric=pick, layers=[0, 2], test=TopTest(k=3, draws=2, using="zero"))
    places = [found.neuron(int(i)) for i in found.tested]
    for row, (layer, neuron) in enumerate(places):
        slow = naive.sweep(
            clean, corrupted, "mlp_post", metric=pick, cells=Cells(layers=[layer], neurons=[neuron])
        )
        torch.testing.assert_close(found.single[0, row], slow.effect()[0, 0], atol=1e-4, rtol=0)
    groups = [
        [Node("mlp_post", *place[:1], neuron=place[1]) for place in map(found.neuron, some)]
        for some in (found.order[:3].tolist(), *found.controls.tolist())
    ]
    slow = patch_nodes(clean, corrupted, groups, metric=pick, engine="naive")
    wanted = slow.values - slow.corrupted
    torch.testing.assert_close(found.joint[0], wanted, atol=1e-4, rtol=0)
    # zeroed output weights are what a zero ablation is
    model = bridge("llama", 1)
    with torch.no_grad():
        for ours, theirs in zip(
            model.original_model.parameters(), clean.model.original_model.parameters(), strict=True
        ):
            ours.copy_(theirs)
        for layer, neuron in found.top():
            model.blocks[layer].mlp.out.original_component.weight[:, neuron] = 0
        logits = model(clean.tokens, attention_mask=clean.mask.long())[torch.arange(3), clean.last]
    torch.testing.assert_close(found.joint[1, 0], pick(logits) - found.clean, atol=1e-4, rtol=0)


@pytest.mark.parametrize("noise", thinned([0.0, 0.02], keep=2))
def test_planted_neurons_come_first_and_kill_the_metric(noise):
    made = planted(noise)
    model = hook(made.model, made.tokenizer)
    clean = Run(model, made.clean.tokens, made.clean.attention_mask)
    corrupted = Run(model, made.corrupted.tokens, made.corrupted.attention_mask)
    layers = range(4)
    direct = rank(clean, corrupted, layers=layers, metric=made.metric, test=TopTest(k=1, draws=3))
    assert direct.top() == [(2, 7)]  # the one that writes the emoji direction
    total = rank(
        clean, corrupted, layers=layers, by="total", metric=made.metric, test=TopTest(k=2, draws=3)
    )
    assert set(total.top()) == made.neurons  # and the one that makes the feature, far to the left
    gap = float((total.clean - total.corrupted).mean())
    table = total.causal().set_index(["intervention", "what"])
    patched, ablated = table.loc[("patched", "joint")], table.loc[("ablated", "joint")]
    assert patched["top"] > 0.9 * gap
    assert abs(patched["control"]) < 0.1 * gap
    assert ablated["top"] < -0.4 * gap  # a mean ablation leaves the mean
    assert abs(ablated["control"]) < 0.1 * gap
    assert patched["low"] > 0.8 * gap
    assert (total.joint[0, 0] > 0.95 * (total.clean - total.corrupted)).all()
    assert (table["p_adjusted"] < 0.05).all()


def test_total_scores_are_slopes_at_both_ends(contrast):
    """Finite differences: how the metric moves as one neuron sets out for the other run's value."""
    clean, corrupted = contrast
    found = rank(*contrast, metric=pick, layers=[0, 2], by="total", test=TopTest(k=1, draws=1))
    name = "blocks.0.mlp.hook_post"
    with torch.no_grad():
        acts = {
            run: run.model.run_with_cache(run.tokens, attention_mask=run.mask.long())[1][name]
            for run in (clean, corrupted)
        }
        way, rows = acts[clean] - acts[corrupted], torch.arange(3)
        for neuron in (2, 30, 41):

            def moved(run, step, neuron=neuron):
                def hook(value, **_):
                    value = value.clone()
                    value[..., neuron] += step * way[..., neuron]
                    return value

                logits = run.model.run_with_hooks(
                    run.tokens, attention_mask=run.mask.long(), fwd_hooks=[(name, hook)]
                )
                return pick(logits[rows, run.last])

            slopes = [(moved(r, 0.02) - moved(r, -0.02)) / 0.04 for r in (clean, corrupted)]
            wanted = sum(slopes) / 2
            assert wanted.abs().max() > 1e-2
            torch.testing.assert_close(found.score[neuron], wanted, atol=2e-3, rtol=2e-2)


def test_scores_foretell_single_patches(contrast):
    """Not exactly: direct scores leave out what a patch does to the norm's scale."""
    found = rank(*contrast, metric=pick, layers=[2], test=TopTest(k=12, draws=2))
    assert found.agreement() > 0.6
    singles = found.singles()
    assert (singles["group"] == "top").sum() == 12
    assert singles["patched"].tolist() == pytest.approx(found.single[0].mean(1).tolist(), abs=1e-6)


def test_controls_are_of_the_same_layer_and_size():
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(60, generator=generator).exp()
    layer = torch.arange(60) // 30
    top = [3, 17, 44, 45]
    found = matched(size, layer, top, 20, near=5, seed=1)
    assert found.shape == (20, 4)
    for draw in found.tolist():
        assert len(set(draw)) == 4
        assert not set(draw) & set(top)
        assert [layer[i] for i in draw] == [layer[i] for i in top]
        for control, chosen in zip(draw, top, strict=True):
            others = [i for i in range(60) if layer[i] == layer[chosen] and i not in top]
            ratio = sorted(abs(float((size[i] / size[chosen]).log())) for i in others)
            mine = abs(float((size[control] / size[chosen]).log()))
            assert mine <= ratio[5 + 1] + 1e-6  # five nearest, one of which may be taken
    assert torch.equal(found, matched(size, layer, top, 20, near=5, seed=1))
    assert not torch.equal(found, matched(size, layer, top, 20, near=5, seed=2))
    assert matched(size, layer, list(range(16)), 1) is None  # 14 others in that layer


def test_tables(contrast):
    found = rank(*contrast, metric=pick, test=TopTest(k=3, draws=2))
    table = found.summary(5)
    assert table["name"].tolist() == [f"m{layer}.n{neuron}" for layer, neuron in found.top(5)]
    assert table["score"].is_monotonic_decreasing
    assert ((table["low"] <= table["score"]) & (table["score"] <= table["high"])).all()
    assert len(found.to_dataframe()) == found.delta.numel()


def test_bad_input(contrast):
    with pytest.raises(InputError, match="unknown match 'luck'"):
        rank(*contrast, metric=pick, test=TopTest(match="luck"))
    with pytest.raises(InputError, match="unknown score 'size'"):
        rank(*contrast, by="size", metric=pick)
    with pytest.raises(InputError, match="unknown ablation 'max'"):
        rank(*contrast, metric=pick, test=TopTest(using="max"))
    with pytest.raises(InputError, match="k must be at least 1"):
        rank(*contrast, metric=pick, test=TopTest(k=0))
    with pytest.raises(InputError, match="too few neurons"):
        rank(*contrast, metric=pick, test=TopTest(k=30))
    with pytest.raises(InputError, match="draws and near must be at least 1"):
        rank(*contrast, metric=pick, test=TopTest(draws=0))
    with pytest.raises(InputError, match="nothing to patch"):
        rank(contrast[0], contrast[0], metric=pick)
    with pytest.raises(InputError, match=r"k must lie in 0\.\.48"):
        rank(*contrast, metric=pick, test=TopTest(k=2, draws=1)).top(49)
