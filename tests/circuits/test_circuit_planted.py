"""The mechanism that is written into the weights by hand is found, and nothing else."""

import pytest
from planted_models import planted
from sklearn.metrics import roc_auc_score
from thinned import thinned

from interp.circuits import discover, faithfulness, select
from interp.models.pair import hook
from interp.patching import Run


def contrast(noise, seed):
    made = planted(noise, seed)
    model = hook(made.model, made.tokenizer)
    sides = (
        Run(model, batch.tokens, batch.attention_mask) for batch in (made.clean, made.corrupted)
    )
    return made, *sides


def auroc(scores, truth):
    names = [scores.name(i) for i in range(scores.values.shape[1])]
    true = [name in truth for name in names]
    assert sum(true) == 4
    return roc_auc_score(true, scores.mean().abs())


@pytest.mark.parametrize(("noise", "seed"), thinned([0.0, 0.01, 0.02], [0, 1, 2]))
def test_true_edges_and_nodes_rank_above_all_others(noise, seed):
    made, clean, corrupted = contrast(noise, seed)
    least = 1.0 if noise == 0 else 0.99
    edges = discover(clean, corrupted, metric=made.metric)
    nodes = discover(clean, corrupted, metric=made.metric, level="node")
    assert auroc(edges, made.edges) >= least
    assert auroc(nodes, made.nodes) >= least
    circuit = select(edges, 4)
    assert set(circuit.edges) == made.edges
    assert set(circuit.nodes) == made.nodes


def test_the_true_circuit_is_faithful_and_complete():
    made, clean, corrupted = contrast(0.0, 0)
    circuit = select(discover(clean, corrupted, metric=made.metric), 4)
    found = faithfulness(circuit, clean, corrupted, metric=made.metric, complement=True)
    assert 0.9 < float(found.faithfulness()) < 1.1
    assert abs(float(found.completeness())) < 0.05
