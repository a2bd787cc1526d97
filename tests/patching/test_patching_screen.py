"""Estimates against finite differences and recomputed patterns; verified nodes against hooks."""

from functools import partial

import pytest
import torch
from patching_models import bridge, pick, prompts
from scipy.stats import spearmanr
from thinned import thinned

from interp.errors import InputError
from interp.patching import Run, naive, screen
from interp.readout import Question

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
            softmax_correction=corrected,
            ask=Question(metric=pick),
        )
        errors[corrected] = float((found.estimate - found.exact).abs().mean())
    assert errors[True] < errors[False]


def test_bad_input():
    clean, corrupted = runs("llama", torch.float32)
    with pytest.raises(InputError, match="top_k must be at least 1"):
        screen(clean, corrupted, top_k=0, ask=Question(metric=pick))
    with pytest.raises(InputError, match="no site to screen"):
        screen(clean, corrupted, sites={}, ask=Question(metric=pick))
    with pytest.raises(InputError, match="cannot be swept by 'pos'; use head or head_pos"):
        screen(clean, corrupted, sites={"z": "pos"}, ask=Question(metric=pick))
