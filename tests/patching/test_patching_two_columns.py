"""An outcome behind a lone `▁`, read at the slot and after it: the engine against whole passes."""

import pytest
import torch
from patching_models import VOCAB, bridge, pick, prompts
from thinned import TOKENIZERS, thinned, todays
from tiny import llama
from transformers import AutoTokenizer

from interp import neurons
from interp.attribution import attribute, compare
from interp.emoji import EmojiVocab
from interp.errors import InputError
from interp.models.pair import hook
from interp.patching import Cells, Node, Run, ablate, naive, patch_nodes, screen, sweep, sweep_each
from interp.readout import Outcome, Question

SPACE = 9
TWO = Outcome("smile", (300, 301), (1,), VOCAB, space=SPACE, after_ids=(301, 302))


def runs(contrast="model", family="llama", side="left"):
    """Prompts of several lengths that all end with the `▁`, behind models that make it likely."""
    sides = []
    for seed in (1, 2):
        model = bridge(family, seed if contrast == "model" else 1)
        tokens, mask = prompts([7, 5, 6], seed=1 if contrast == "model" else seed, side=side)
        last = Run(model, tokens, mask).last
        tokens[torch.arange(3), last] = SPACE
        with torch.no_grad():  # the share that goes through the ▁ must count
            model.unembed.original_component.bias[SPACE] = 6.0
        sides.append(Run(model, tokens, mask))
    if contrast == "prompt":
        sides[1] = Run(sides[0].model, sides[1].tokens, sides[1].attention_mask)
    return sides


def by_hand(run, factor="log_odds"):
    """Each prompt by itself, without padding, and sums over probabilities."""
    found = []
    for row, keep in zip(run.tokens, run.mask, strict=True):
        with torch.no_grad():
            p, q = run.model(row[keep][None])[0, -2:].double().softmax(-1)
        e = p[list(TWO.ids)].sum() + p[SPACE] * q[list(TWO.after_ids)].sum()
        s = p[list(TWO.stop_ids)].sum()
        w = 1 - e - s
        ratio = {"log_odds": e / (1 - e), "go_on": w / s, "given_go_on": e / w}
        found.append(ratio[factor].log())
    return torch.stack(found).float()


CELLS = [
    ("resid_pre", "pos"), ("resid_mid", "pos"), ("mlp_out", "pos"), ("z", "head"),
    ("z", "head_pos"), ("v", "head"), ("pattern", "head_pos"), ("mlp_post", "neuron_pos"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "contrast"), thinned(CELLS, ["model", "prompt"], keep=4))
def test_each_patch_is_that_of_a_whole_pass(cell, contrast):
    site, by = cell
    clean, corrupted = runs(contrast)
    asked = {"by": by, "metric": TWO.metric("given_go_on")}
    cells = Cells(neurons=[0, 7]) if site == "mlp_post" else Cells()
    for way in ("denoising", "noising"):
        fast = sweep(clean, corrupted, site, cells=cells, direction=way, **asked)
        slow = naive.sweep(clean, corrupted, site, cells=cells, direction=way, **asked)
        torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fast.clean, by_hand(clean, "given_go_on"), atol=1e-4, rtol=1e-4)
        assert slow.effect().abs().max() > 0.1
        assert "read at two positions" in fast.notes[-1]


def test_a_patch_at_the_slot_and_one_at_the_space_count_for_what_they_reach():
    clean, corrupted = runs()
    found = sweep(clean, corrupted, "resid_post", metric=TWO.metric(), cells=Cells([-1]))
    moved = found.effect()[0]
    assert moved[-1].abs().min() > 1e-3  # the ▁ itself: what comes after it
    assert moved[-2].abs().min() > 1e-3  # the slot: how likely the ▁ is, and all that is direct
    assert bool((moved[:-2] == 0).all())


@pytest.mark.parametrize(
    "case", thinned([("mistral", "right"), ("gemma2", "left"), ("gpt2", "right")])
)
def test_every_factor_shares_one_sweep_in_every_family(case):
    family, side = case
    clean, corrupted = runs(family=family, side=side)
    found = sweep_each(clean, corrupted, "resid_pre", TWO.metrics())
    for factor, fast in found.items():
        slow = naive.sweep(clean, corrupted, "resid_pre", metric=TWO.metric(factor))
        torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fast.clean, by_hand(clean, factor), atol=1e-4, rtol=1e-4)


def test_chunks_of_one_patch_give_the_same():
    clean, corrupted = runs()
    whole = sweep(clean, corrupted, "z", metric=TWO.metric())
    small = sweep(clean, corrupted, "z", ask=Question(metric=TWO.metric(), chunk=200_000))
    torch.testing.assert_close(small.values, whole.values, atol=1e-5, rtol=1e-5)


def test_joint_patches_and_ablations_are_those_of_whole_passes():
    clean, corrupted = runs()
    slot = clean.tokens.shape[1] - 2
    groups = [[Node("z", 0, head=1)], [Node("mlp_out", 1, pos=slot), Node("v", 2, head=0)],
              [Node("resid_post", 2, pos=slot + 1)]]  # fmt: skip
    fast, slow = (
        patch_nodes(clean, corrupted, groups, engine=engine, metric=TWO.metric())
        for engine in ("exact", "naive")
    )
    torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=1e-4)
    assert (slow.values - slow.corrupted).abs().min() > 0
    fast, slow = (
        ablate(clean, "mlp_out", engine=engine, metric=TWO.metric())
        for engine in ("exact", "naive")
    )
    torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=1e-4)


def test_screened_effects_are_verified_and_estimated_at_both_columns():
    clean, _ = runs()
    near = bridge("llama", 1)
    noise = torch.Generator().manual_seed(5)
    with torch.no_grad():
        near.unembed.original_component.bias[SPACE] = 6.0
        for weight in near.original_model.parameters():
            weight += 0.003 * weight.std() * torch.randn(weight.shape, generator=noise)
    corrupted = Run(near, clean.tokens, clean.mask)
    asked = Question(metric=TWO.metric(), min_gap=1e-4)
    found = screen(clean, corrupted, sites={"mlp_out": "pos"}, top_k=100, ask=asked)
    slow = naive.sweep(clean, corrupted, "mlp_out", ask=asked).effect()
    torch.testing.assert_close(found.exact, slow.flatten(0, 1), atol=1e-5, rtol=1e-3)
    both = torch.stack((found.estimate.flatten(), found.exact.flatten()))
    assert torch.corrcoef(both)[0, 1] > 0.99  # so near, the gradient says it all


def test_prompts_without_the_space_and_metrics_of_two_sorts_are_refused_by_name():
    clean, corrupted = runs()
    bare = [Run(run.model, run.tokens[:, :-1], run.mask[:, :-1]) for run in (clean, corrupted)]
    with pytest.raises(InputError, match=r"prompt 0 has no ▁ .* after its slot"):
        sweep(*bare, "z", metric=TWO.metric())
    with pytest.raises(InputError, match="with metrics of the same outcome only"):
        sweep_each(clean, corrupted, "z", {"two": TWO.metric(), "pick": pick})


def written(run, metric):
    """MLP outputs at both columns by layer, and the metric's slope there, the norm frozen."""
    last, layers = run.last, range(run.model.cfg.n_layers)
    cache = run.model.run_with_cache(run.tokens, attention_mask=run.mask.long())[1]
    rows = torch.arange(len(last))[:, None], torch.stack((last - 1, last), 1)
    final = cache[f"blocks.{layers[-1]}.hook_resid_post"][rows].detach()
    norm = run.model.ln_final.original_component
    scale = (final.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    x = final.requires_grad_()
    logits = run.model.unembed.original_component(norm.weight * x * scale.detach())
    (slope,) = torch.autograd.grad(metric(logits).sum(), x)
    return [cache[f"blocks.{layer}.hook_mlp_out"][rows].detach() for layer in layers], slope


@pytest.mark.parametrize("contrast", thinned(["model", "prompt"], keep=2))
def test_what_components_and_neurons_write_counts_at_both_columns(contrast):
    clean, corrupted = runs(contrast)
    metric = TWO.metric("given_go_on")
    found, (mlps, slope) = attribute(clean, metric=metric), written(clean, metric)
    for layer, mlp in enumerate(mlps):
        place = found.names.index(f"m{layer}")
        wanted = (mlp * slope).sum((1, 2))
        torch.testing.assert_close(found.values[0, place], wanted, atol=1e-4, rtol=1e-3)
    test = neurons.TopTest(k=2, draws=1)
    ranked = neurons.rank(clean, corrupted, direction="gradient", test=test, metric=metric)
    slow = naive.sweep(clean, corrupted, "mlp_post", metric=metric,
                       cells=Cells([-1], neurons=[int(ranked.tested[0])]))  # fmt: skip
    torch.testing.assert_close(ranked.single[0, 0], slow.effect()[0, 0], atol=1e-4, rtol=1e-3)
    with pytest.raises(InputError, match="no fixed direction"):
        attribute(clean, direction="fixed", metric=metric)
    if contrast == "model":
        return  # of two models the unembedding and the output weights move as well
    others, base_slope = written(corrupted, metric)
    moved = ((mlps[-1] - others[-1]) * (slope + base_slope) / 2).sum((1, 2))
    torch.testing.assert_close(ranked.score.sum(0), moved, atol=1e-4, rtol=1e-3)
    both = compare(clean, corrupted, metric=metric)
    moved = (both.values[1] - both.values[0]).sum(0)
    wanted = by_hand(clean, "given_go_on") - by_hand(corrupted, "given_go_on")
    torch.testing.assert_close(moved, wanted, atol=2e-3, rtol=2e-3)
    heads = compare(clean, corrupted, by="head", metric=metric)
    torch.testing.assert_close(heads.values.sum(1), both.values.sum(1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", todays("llama2", "mistral-v1"))
def test_the_default_metric_counts_what_comes_after_the_space(shared, name):
    assert name in TOKENIZERS
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    models = [hook(llama(seed, vocab_size=len(real), num_hidden_layers=2), real) for seed in (1, 2)]
    vocab = EmojiVocab.from_tokenizer(real)
    outcome = Outcome.of_vocab(vocab, stop=())
    rows = torch.tensor(
        [[5, 400, 77, 2000, *outcome.space_ids], [9, 31, 8, 12, *outcome.space_ids]]
    )
    clean, corrupted = (Run(model, rows) for model in models)
    last = Cells([1])
    found = sweep(clean, corrupted, "mlp_out", cells=last)
    assert found.metric == "emoji log-odds"
    logits = models[0](rows)[:, -2:]
    torch.testing.assert_close(found.clean, outcome.log_odds(logits), atol=1e-4, rtol=1e-4)
    by_vocab = sweep(clean, corrupted, "mlp_out", metric=vocab.log_odds, cells=last)
    torch.testing.assert_close(by_vocab.values, found.values)
    slow = naive.sweep(clean, corrupted, "mlp_out", metric=vocab.log_odds, cells=last)
    torch.testing.assert_close(slow.values, found.values, atol=1e-4, rtol=1e-4)
