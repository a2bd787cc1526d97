"""Estimates against finite differences and recomputed patterns; verified nodes against hooks."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from patching_models import bridge, pick, prompts
from planted_backup import BACKUPS, MAIN, planted_backup, planted_loud
from scipy.stats import spearmanr
from thinned import thinned

from interp.errors import InputError
from interp.patching import Run, naive, screen
from interp.readout import Question
from interp.readout.capture import hook_name
from interp.readout.rules import RULES, applied

FAMILIES = ("llama", "gemma2", "gpt2", "gpt_neox")


def runs(family, dtype=torch.float64):
    # No padding in double precision: the bridge's softmax is in single precision, in which the
    # padding's mask value overflows.
    tokens, mask = prompts([6, 6] if dtype == torch.float64 else [6, 4], side="left")
    return Run(bridge(family, 1, dtype), tokens, mask), Run(bridge(family, 2, dtype), tokens, mask)


def metric_under(run, hooks):
    with torch.no_grad():
        logits = run.model.run_with_hooks(
            run.tokens, attention_mask=run.mask.long(), fwd_hooks=hooks
        )
    return pick(logits[:, -1])


def kept(run, name, hooks=()):
    store = []
    metric_under(run, [*hooks, (name, lambda value, **_: store.append(value.clone()))])
    return store[0]


READ = [
    ("resid_pre", "pos", "hook_resid_pre"),
    ("resid_mid", "pos", "hook_attn_out"),
    ("mlp_out", "pos", "hook_mlp_out"),
    ("z", "head", "attn.hook_z"),
    ("v", "head_pos", "attn.hook_v"),
    ("mlp_post", "neuron", "mlp.hook_post"),
]


@pytest.mark.parametrize(("family", "read"), thinned(FAMILIES, READ, keep=6))
def test_estimate_is_the_derivative_along_the_change(family, read):
    site, by, name = read
    """Central differences of a small step from base to source (the norms round to single)."""
    if site == "resid_mid" and family == "gpt_neox":
        pytest.skip("parallel blocks have no resid_mid")
    clean, corrupted = runs(family)
    found = screen(clean, corrupted, sites={site: by}, top_k=1, ask=Question(metric=pick))
    new, step = kept(clean, f"blocks.1.{name}"), 2e-3
    if site == "resid_mid":  # moved by way of attn_out, which is added to it
        new = kept(clean, "blocks.1.hook_resid_mid") - kept(corrupted, "blocks.1.hook_resid_pre")
    for node in torch.linspace(0, len(found.layer) - 1, 25).long().unique().tolist():
        if found.layer[node] != 1:
            continue
        column, element = int(found.pos[node]), int(found.element[node])
        where = (slice(None), slice(None) if column < 0 else column)
        where += () if element < 0 else (element,)

        def nudge(value, size, where=where, **_):
            value = value.clone()
            value[where] = value[where] + size * (new - value)[where]
            return value

        ends = [
            metric_under(corrupted, [(f"blocks.1.{name}", partial(nudge, size=size))])
            for size in (step, -step)
        ]
        wanted = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(found.estimate[node], wanted.float(), atol=2e-3, rtol=5e-3)


KEYED = [("q", "head"), ("q", "head_pos"), ("k", "head"), ("k", "head_pos")]


@pytest.mark.parametrize(("family", "case"), thinned(FAMILIES, KEYED, keep=4))
def test_softmax_correction_uses_the_recomputed_pattern(family, case):
    """Patch by hooks, read the pattern, and take the gradient with respect to it."""
    site, by = case
    clean, corrupted = runs(family)
    found = screen(clean, corrupted, sites={site: by}, top_k=1, ask=Question(metric=pick))
    pattern, layer = "blocks.1.attn.hook_pattern", 1
    before = kept(corrupted, pattern)
    source = kept(clean, f"blocks.1.attn.hook_{site}")
    gradient = []

    def leaf(value, **_):
        gradient.append(value.detach().requires_grad_())
        return gradient[0]

    logits = corrupted.model.run_with_hooks(
        corrupted.tokens, attention_mask=corrupted.mask.long(), fwd_hooks=[(pattern, leaf)]
    )
    grad = torch.autograd.grad(pick(logits[:, -1]).sum(), gradient)[0]
    checked = 0
    for node in (found.layer == layer).nonzero().flatten().tolist():
        element, column = int(found.element[node]), int(found.pos[node])
        hooks = naive.site_hooks(corrupted.model, site, layer, source, element, column)
        after = kept(corrupted, pattern, hooks)
        wanted = ((after - before) * grad).sum((1, 2, 3))
        torch.testing.assert_close(found.estimate[node], wanted.float(), atol=1e-5, rtol=1e-4)
        checked += bool(wanted.abs().max() > 1e-3)
    assert checked


def test_verified_nodes_are_exact_and_marked():
    clean, corrupted = runs("llama", torch.float32)
    sites = {"z": "head", "mlp_out": None, "k": "head_pos", "mlp_post": "neuron"}
    calls = []
    found = screen(
        clean,
        corrupted,
        sites=sites,
        top_k=12,
        n_random=6,
        ask=Question(metric=pick, seed=3, progress=lambda *call: calls.append(call)),
    )
    assert int(found.verified.sum()) == 18
    assert calls[-1][1] == calls[-1][2]
    for site, by in sites.items():
        slow = naive.sweep(clean, corrupted, site, by=by, metric=pick)
        here = found.site == found.sites.index(site)
        effect = slow.effect().flatten(0, 1)
        mine, known = found.exact[here], found.verified[here]
        torch.testing.assert_close(mine[known], effect[known], atol=1e-4, rtol=0)
        assert torch.isnan(mine[~known]).all()
    table = found.to_dataframe()
    assert table["kind"].tolist()[:18] == ["exact"] * 18
    assert set(table["kind"][18:]) == {"estimated"}
    known = table[:18]
    assert found.rank_correlation == pytest.approx(
        spearmanr(known["effect"], known["estimate"]).statistic, abs=1e-6
    )
    top = found.estimate.mean(1).abs().argsort(descending=True)[:12]
    assert found.verified[top].all()


def test_the_model_asks_for_gradients_only_meanwhile():
    clean, corrupted = runs("llama", torch.float32)
    screen(clean, corrupted, sites={"z": "head"}, top_k=1, ask=Question(metric=pick))
    for parameter in corrupted.model.original_model.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None


def test_screen_is_better_with_its_correction():
    """Sharp attention: the linear guess for queries is far off, the corrected one is not."""
    clean, corrupted = runs("llama")
    errors = {}
    for corrected in (True, False):
        found = screen(
            clean,
            corrupted,
            sites={"q": "head"},
            top_k=12,
            rule=replace(RULES["gradient"], corrected=corrected),
            ask=Question(metric=pick),
        )
        assert found.softmax_correction == corrected
        errors[corrected] = float((found.estimate - found.exact).abs().mean())
    assert errors[True] < errors[False]


DROPPED = [("z", "head"), ("mlp_post", "neuron_pos"), ("mlp_out", "pos"), ("resid_pre", "pos")]


@pytest.mark.parametrize(("family", "case"), thinned(FAMILIES, DROPPED, keep=4))
def test_gradient_drop_is_a_loop_over_layers(family, case):
    """Each layer's attention and MLP cut off by hand, a forward and backward pass for each."""
    site, by = case
    clean, corrupted = runs(family)
    found = screen(
        clean, corrupted, sites={site: by}, top_k=1, rule="gradient-drop", ask=Question(metric=pick)
    )
    assert not found.signed
    n_layers, weight = 3, corrupted.model.embed.original_component.weight
    sizes = torch.zeros(n_layers, *found.estimate.shape)
    source = [kept(clean, hook_name(clean.model, site, i)) for i in range(n_layers)]
    for dropped in range(n_layers):
        acts = []

        def keep(value, acts=acts, **_):
            acts.append(value)
            return value

        hooks = [(hook_name(corrupted.model, part, dropped), lambda value, **_: value.detach())
                 for part in ("attn_out", "mlp_out")]  # fmt: skip
        hooks = [(hook_name(corrupted.model, site, i), keep) for i in range(n_layers)] + hooks
        weight.requires_grad_(True)
        logits = corrupted.model.run_with_hooks(
            corrupted.tokens, attention_mask=corrupted.mask.long(), fwd_hooks=hooks
        )
        grads = torch.autograd.grad(pick(logits[:, -1]).sum(), acts, allow_unused=True)
        weight.requires_grad_(False)
        for node in range(len(found.layer)):
            layer, element, pos = (int(x[node]) for x in (found.layer, found.element, found.pos))
            if grads[layer] is None:
                continue
            moved = (source[layer] - acts[layer].detach()) * grads[layer]
            moved = moved if element < 0 else moved[:, :, element]
            moved = moved if pos < 0 else moved[:, pos]
            sizes[dropped, node] = moved.reshape(len(moved), -1).sum(1).abs()
    own = torch.nn.functional.one_hot(found.layer, n_layers).T[:, :, None].float()
    mean = sizes.mean(0) if site == "resid_pre" else (sizes * (1 - own)).sum(0) / (n_layers - 1)
    torch.testing.assert_close(found.estimate, mean, atol=1e-5, rtol=1e-3)
    assert mean.max() > 1e-2


@pytest.mark.parametrize("family", thinned(["llama", "gemma2", "gpt2"]))
def test_screens_by_rules_are_gradients_by_rules(family):
    """One node's estimate, from a pass under the rule that is written here."""
    clean, corrupted = runs(family, torch.float32)
    model = corrupted.model
    for rule in ("relp", "gim"):
        found = screen(clean, corrupted, sites={"z": "head"}, top_k=1, rule=rule,
                       ask=Question(metric=pick))  # fmt: skip
        acts, name = [], hook_name(model, "z", 1)
        weight = model.embed.original_component.weight.requires_grad_(True)
        with applied(model, RULES[rule]):
            logits = model.run_with_hooks(
                corrupted.tokens, attention_mask=corrupted.mask.long(),
                fwd_hooks=[(name, lambda value, acts=acts, **_: acts.append(value) or value)],
            )  # fmt: skip
        grad = torch.autograd.grad(pick(logits[:, -1]).sum(), acts)[0]
        weight.requires_grad_(False)
        wanted = ((kept(clean, name) - acts[0].detach()) * grad).sum((1, 3)).T
        torch.testing.assert_close(found.estimate[found.layer == 1], wanted, atol=1e-5, rtol=1e-3)
        assert found.rule == rule
        assert found.signed


def strongest(made, rule, direction):
    """Heads by estimate, and all exact effects."""
    ask = Question(metric=made.metric)
    found = screen(made.clean, made.corrupted, sites={"z": "head"}, top_k=16, rule=rule,
                   direction=direction, ask=ask)  # fmt: skip
    order = found.estimate.mean(1).abs().argsort(descending=True).tolist()
    names = [(int(found.layer[i]), int(found.element[i])) for i in order]
    exact = found.exact.mean(1).view(4, 4)
    return found, names, exact


def test_backups_hide_heads_from_the_gradient_and_from_no_other_rule():
    """What a main head adds and its backup takes away cancel in the gradient alone."""
    made = planted_backup(noise=0.005)
    for rule in RULES:
        found, names, exact = strongest(made, rule, "denoising")
        assert exact[MAIN] == exact.abs().max() > 1
        assert all(exact[main] > 2 * exact[(1, 1)] for main in BACKUPS)
        last = max(names.index(main) for main in BACKUPS)
        if rule == "gradient":
            assert min(names.index(main) for main in BACKUPS) >= 5, "behind all that is planted"
        else:
            assert names[0] == MAIN, rule
            assert last < 6, rule
        order = spearmanr(found.estimate.mean(1).abs(), found.exact.mean(1).abs()).statistic
        assert (order > 0.9) == (rule != "gradient"), rule
        signed = spearmanr(found.estimate.mean(1), found.exact.mean(1)).statistic
        assert found.rank_correlation == pytest.approx(order if not found.signed else signed)
    table = screen(made.clean, made.corrupted, sites={"z": "head"}, top_k=3, rule="gradient-drop",
                   ask=Question(metric=made.metric)).to_dataframe()  # fmt: skip
    assert table["kind"].tolist() == ["exact"] * 3 + ["estimated size"] * 13


def test_a_norm_hides_a_head_that_fills_the_stream():
    """Rules that keep the norm's scale see it; a dropped layer cannot help."""
    made = planted_loud(noise=0.005)
    shares = {}
    for rule in RULES:
        found, _, exact = strongest(made, rule, "noising")
        here = (found.layer == MAIN[0]) & (found.element == MAIN[1])
        shares[rule] = float(found.estimate[here].mean().abs() / exact[MAIN].abs())
        assert exact[MAIN].abs() > 5
    assert shares["gradient"] < 0.2
    assert shares["gradient-drop"] < 0.2
    assert 0.8 < shares["relp"] < 1.3
    assert 0.8 < shares["gim"] < 1.3


def test_bad_input():
    clean, corrupted = runs("llama", torch.float32)
    with pytest.raises(InputError, match="top_k must be at least 1"):
        screen(clean, corrupted, top_k=0, ask=Question(metric=pick))
    with pytest.raises(InputError, match="no site to screen"):
        screen(clean, corrupted, sites={}, ask=Question(metric=pick))
    with pytest.raises(InputError, match="unknown rule 'atp'; use one of gradient, gradient-drop"):
        screen(clean, corrupted, rule="atp", ask=Question(metric=pick))
    with pytest.raises(InputError, match="cannot be swept by 'pos'; use head or head_pos"):
        screen(clean, corrupted, sites={"z": "pos"}, ask=Question(metric=pick))
