"""The naive twin against TransformerLens' own sweeps, one per kind of site."""

import pytest
import torch
from patching_models import bridge, pick, prompts
from thinned import thinned
from transformer_lens import patching as lens

from interp.patching import Run, naive

SWEEPS = {
    ("resid_pre", "pos"): lens.get_act_patch_resid_pre,
    ("resid_mid", "pos"): lens.get_act_patch_resid_mid,
    ("attn_out", "pos"): lens.get_act_patch_attn_out,
    ("mlp_out", "pos"): lens.get_act_patch_mlp_out,
    ("z", "head"): lens.get_act_patch_attn_head_out_all_pos,
    ("q", "head"): lens.get_act_patch_attn_head_q_all_pos,
    ("k", "head"): lens.get_act_patch_attn_head_k_all_pos,
    ("v", "head"): lens.get_act_patch_attn_head_v_all_pos,
    ("pattern", "head"): lens.get_act_patch_attn_head_pattern_all_pos,
    ("z", "head_pos"): lens.get_act_patch_attn_head_out_by_pos,
    ("q", "head_pos"): lens.get_act_patch_attn_head_q_by_pos,
    ("k", "head_pos"): lens.get_act_patch_attn_head_k_by_pos,
    ("v", "head_pos"): lens.get_act_patch_attn_head_v_by_pos,
    ("pattern", "head_pos"): lens.get_act_patch_attn_head_pattern_by_pos,
}


def by_lens(find, clean, corrupted):
    """TransformerLens' sweep from clean into corrupted, every prompt's metric kept."""
    rows = []

    def keep(logits):
        rows.append(pick(logits[:, -1]))
        return rows[-1].mean()

    with torch.no_grad():
        _, cache = clean.model.run_with_cache(clean.tokens)
        return find(corrupted.model, corrupted.tokens, cache, keep), torch.stack(rows)


@pytest.fixture(scope="module")
def runs():
    tokens, _ = prompts([5, 5, 5])
    return Run(bridge("llama", 1), tokens), Run(bridge("llama", 2), tokens)


@pytest.mark.parametrize("case", thinned(list(SWEEPS)))
def test_naive_equals_transformer_lens(runs, case):
    site, by = case
    shape, rows = by_lens(SWEEPS[case], *runs)
    ours = naive.sweep(*runs, site, by=by, metric=pick).values
    if by == "head_pos" and site != "pattern":  # TransformerLens has [layer pos head]
        layers, columns, heads = shape.shape
        rows = rows.view(layers, columns, heads, -1).transpose(1, 2).flatten(0, 2)
    torch.testing.assert_close(ours.flatten(0, 1), rows, atol=1e-5, rtol=0)
