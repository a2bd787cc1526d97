"""The exact engine against one whole forward pass per patch, over random small configurations.

Every family and every site is met, each day in a thirteenth of their pairs (all: `make soak`).
Which contrast, direction, padding, head count and metric position go with a case is drawn by a
seeded generator, so that a failure can be run again by its name.
"""

from functools import cache

import numpy as np
import pytest
import torch
from patching_models import FAMILIES, bridge, pick, prompts
from thinned import thinned

from interp.errors import ModelError
from interp.patching import Cells, Node, Question, Run, ablate, naive, patch_nodes, sweep
from interp.patching.sweep_plan import WAYS

model = cache(bridge)
CASES = [(site, by) for site, ways in WAYS.items() for by in ways]
GRID = thinned(FAMILIES, CASES, keep=13)


def draw(family, seed):
    """Two runs of a family, drawn at random, with options that fit them."""
    rng = np.random.default_rng([seed, *family.encode()])
    lengths = rng.integers(3, 7, size=3).tolist()
    side = str(rng.choice(["left", "right"]))
    tokens, mask = prompts(lengths, seed=seed, side=side)
    clean = Run(model(family, 1), tokens, mask)
    if rng.random() < 0.5:
        corrupted = Run(model(family, 2), tokens, mask)
    else:
        others, _ = prompts(lengths, seed=seed + 1000, side=side)
        keep = int(rng.integers(0, 2))
        others[:, :keep] = tokens[:, :keep]
        corrupted = Run(clean.model, others, mask)
    options = {"metric": pick, "direction": str(rng.choice(["denoising", "noising"]))}
    if rng.random() < 0.3:
        options["ask"] = Question(places=torch.maximum(clean.first, clean.last - 1))
    return clean, corrupted, options, rng


@pytest.mark.parametrize(("family", "case"), GRID)
def test_sweep_equals_one_forward_per_patch(family, case):
    site, by = case
    clean, corrupted, options, rng = draw(family, CASES.index(case))
    if site == "resid_mid" and family == "gpt_neox":
        with pytest.raises(ModelError, match="'resid_mid': gpt_neox has no such activation"):
            sweep(clean, corrupted, site, **options)
        return
    layers = [0, 2] if rng.random() < 0.5 else [1]
    neurons = rng.integers(0, 48, size=2).tolist() if "neuron" in by else None
    positions = [1, -2] if by.endswith("_pos") else None
    options |= {"by": by, "cells": Cells(layers, positions, neurons=neurons)}
    fast, slow = (engine(clean, corrupted, site, **options) for engine in (sweep, naive.sweep))
    torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=0)
    assert slow.effect().abs().max() > 1e-3  # the patches do something
    assert (fast.units, fast.unit_labels) == (slow.units, slow.unit_labels)


@pytest.mark.parametrize("family", thinned(FAMILIES))
def test_joint_patch_equals_one_forward_per_group(family):
    clean, corrupted, options, rng = draw(family, 77)
    kv = int(getattr(clean.model.cfg, "n_key_value_heads", None) or 4)
    nodes = [
        Node("resid_pre", 1, pos=2),
        Node("q", 0, head=3),
        Node("k", 1, head=kv - 1),
        Node("v", 2, head=0, pos=1),
        Node("pattern", 1, head=2),
        Node("pattern", 2, head=1, pos=2),
        Node("z", 1, head=1, pos=3),
        Node("attn_out", 0, pos=1),
        Node("mlp_post", 1, neuron=7),
        Node("mlp_out", 2),
        Node("resid_post", 1, pos=3),
    ]
    if family != "gpt_neox":
        nodes += [Node("resid_mid", 0, pos=2)]
    groups = [nodes[:1], nodes[-2:], nodes[1:5], rng.permutation(np.array(nodes, object)).tolist()]
    fast, slow = (
        patch_nodes(clean, corrupted, groups, engine=engine, **options)
        for engine in ("exact", "naive")
    )
    torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.clean, slow.clean)
    assert not torch.allclose(slow.values, slow.values[:1], atol=1e-3)


ABLATED = [("z", "head"), ("mlp_out", "pos"), ("k", "head_pos")]


@pytest.mark.parametrize(
    ("family", "case", "using"),
    thinned(["llama", "gemma2", "gpt2", "gpt_neox"], ABLATED, ["mean", "zero"], keep=4),
)
def test_ablation_equals_one_forward_per_ablation(family, case, using):
    site, by = case
    run, other, _, _ = draw(family, 5)
    options = {"by": by, "metric": pick, "cells": Cells(layers=[1])}
    options["using"] = other if using == "mean" else "zero"
    fast, slow = (ablate(run, site, engine=engine, **options) for engine in ("exact", "naive"))
    torch.testing.assert_close(fast.values, slow.values, atol=1e-4, rtol=0)
    assert slow.effect().abs().max() > 1e-3
    assert fast.contrast == f"{using} ablation"


@pytest.mark.parametrize(("family", "case"), thinned(FAMILIES, CASES, keep=17))
def test_half_precision_agrees_to_its_rounding(family, case):
    """bf16 keeps 8 bits: 5 % of the spread of the metric, against 1e-4 in single precision."""
    site, by = case
    if site == "resid_mid" and family == "gpt_neox":
        pytest.skip("parallel blocks have no resid_mid")
    tokens, mask = prompts([6, 4])
    one, other = (model(family, seed, torch.bfloat16) for seed in (1, 2))
    runs = Run(one, tokens, mask), Run(other, tokens, mask)
    neurons = [3, 40] if "neuron" in by else None
    positions = [1, -2] if by.endswith("_pos") else None
    options = {"by": by, "metric": pick, "cells": Cells([1], positions, neurons=neurons)}
    fast, slow = (engine(*runs, site, **options) for engine in (sweep, naive.sweep))
    spread = (slow.clean - slow.corrupted).abs().max()
    assert (fast.values - slow.values).abs().max() < 0.05 * spread
