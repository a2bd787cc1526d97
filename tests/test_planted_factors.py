"""What drives whether the writer goes on is told from what drives the emoji, by every trace.

A head (and its neuron) that speaks against the stop token must be found under `go_on` and not under
`given_go_on`, one that speaks for emojis the other way round, one that does both under both; under
`log_odds` all three.
"""

import pytest
import torch
from planted_factors import DRIVES, HEADS, NEURONS, factors_adapter, links, planted_factors
from sklearn.metrics import roc_auc_score
from thinned import thinned

from interp import load_pair
from interp.adapters import AdapterSpace, necessity, shapley, sufficiency
from interp.attribution import compare
from interp.circuits import discover
from interp.neurons import TopTest, rank
from interp.patching import sweep_each

HEAD = {part: (f"a{layer}.h{head}",) for part, (layer, head) in HEADS.items()}
NEURON = {part: (f"m{layer}.n{neuron}",) for part, (layer, neuron) in NEURONS.items()}
EDGES = {
    part: (f"input->a{layer}.kv{head // 2}<v>", f"a{layer}.h{head}->m{NEURONS[part][0]}",
           f"a{layer}.h{head}->logits", f"m{NEURONS[part][0]}->logits")
    for part, (layer, head) in HEADS.items()
}  # fmt: skip
ALL_LAYERS = range(4)
EXACT = 0.2  # of interventions; estimates err where the norm bends
factors = pytest.mark.parametrize("factor", list(DRIVES))


@pytest.fixture(scope="module", params=thinned([(0.01, 0), (0.01, 1)], keep=2))
def made(request):
    return planted_factors(*request.param)


@pytest.fixture(scope="module")
def patched(made):
    return sweep_each(made.clean, made.corrupted, "z", made.outcome.metrics(), by="head")


def tells(scores, found, factor, within=0.5):
    """Scores by name rank what drives the factor above all else; what does not has little of one.

    `found` has the names of each part, the same kinds in the same order; within one kind the parts
    that do not drive the factor have less than `within` of the least that does.
    """
    size = {name: abs(score) for name, score in scores.items()}
    true = {name for part in DRIVES[factor] for name in found[part]}
    assert true <= set(size)
    assert roc_auc_score([name in true for name in size], list(size.values())) >= 0.99
    for kind in zip(*found.values(), strict=True):
        least = min(size[name] for name in kind if name in true)
        assert max((size[name] for name in kind if name not in true), default=0.0) < within * least


@factors
def test_patching_heads(patched, factor):
    effect = patched[factor].effect().mean(-1)
    scores = {
        f"a{layer}.h{head}": float(effect[layer, head]) for layer in range(4) for head in range(4)
    }
    tells(scores, HEAD, factor, EXACT)


@factors
@pytest.mark.parametrize("level", ["edge", "node"])
def test_circuits(made, factor, level):
    metric = made.outcome.metric(factor)
    found = discover(made.clean, made.corrupted, ig_steps=10, level=level, metric=metric)
    names = [found.name(item) for item in range(found.values.shape[1])]
    scores = dict(zip(names, found.mean().tolist(), strict=True))
    nodes = {part: (*HEAD[part], f"m{NEURONS[part][0]}") for part in HEAD}
    if level == "node":  # these two carry every difference
        scores = {name: score for name, score in scores.items() if name not in ("input", "logits")}
    tells(scores, EDGES if level == "edge" else nodes, factor)


@factors
@pytest.mark.parametrize(("by", "found"), [("head", HEAD), ("neuron", NEURON)])
def test_direct_attribution(made, factor, by, found):
    metric = made.outcome.metric(factor)
    layers = ALL_LAYERS if by == "neuron" else None
    result = compare(made.clean, made.corrupted, by=by, layers=layers, metric=metric)
    means = dict(zip(result.names, result.difference().mean(1).tolist(), strict=True))
    tells({name: x for name, x in means.items() if ("." in name)}, found, factor)


@factors
@pytest.mark.parametrize("by", ["direct", "total"])
def test_neurons(made, factor, by):
    metric, test = made.outcome.metric(factor), TopTest(k=2, draws=1)
    ranked = rank(made.clean, made.corrupted, layers=ALL_LAYERS, by=by, test=test, metric=metric)
    names = ["m{}.n{}".format(*ranked.neuron(i)) for i in range(len(ranked.order))]
    tells(dict(zip(names, ranked.score.mean(1).tolist(), strict=True)), NEURON, factor)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    base, adapter = factors_adapter(tmp_path_factory.mktemp("factors"), noise=0.01)
    return AdapterSpace.of(load_pair(base, adapter, device="cpu"))


@factors
@pytest.mark.parametrize("measure", [necessity, sufficiency, shapley])
def test_adapter_space(space, factor, measure):
    metric = space.pair.outcome.metric(factor)
    found = measure(space, ["rain trait milk town", "lamp road book trait"], metric=metric)
    assert len(found.units) == 28
    modules = {part: (link.module,) for part, link in links().items()}
    tells(
        dict(zip(found.units, found.values.mean(1).tolist(), strict=True)), modules, factor, EXACT
    )


def test_each_part_moves_its_own_factor(made):
    """By surgery on the weights: without what a part writes, its factor loses, the other keeps."""
    model = made.clean.model.original_model
    metrics = {name: made.outcome.metric(name) for name in ("go_on", "given_go_on")}

    def gaps():
        with torch.no_grad():
            ends = [
                run.model(run.tokens, attention_mask=run.mask.long())[:, -1]
                for run in (made.clean, made.corrupted)
            ]
        return {name: float((metric(ends[0]) - metric(ends[1])).mean())
                for name, metric in metrics.items()}  # fmt: skip

    whole = gaps()
    for part, link in links().items():
        column = model.get_submodule(f"model.{link.module}").weight.data[:, link.column]
        kept = column.clone()
        column.zero_()
        lost = {name: 1 - gap / whole[name] for name, gap in gaps().items()}
        column.copy_(kept)
        for name in metrics:
            assert lost[name] > 0.3 if part in DRIVES[name] else abs(lost[name]) < 0.15
