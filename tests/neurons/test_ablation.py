"""Neurons switched off: against zeroed columns, the patching engine, and token for token."""

import pytest
import torch
from patching_models import FAMILIES, bridge, pick, prompts
from thinned import thinned
from tiny import llama, tokenizer

from interp.behaviour import Sampling, generate
from interp.errors import InputError
from interp.models import ChatFormat
from interp.models.pair import hook
from interp.neurons import Ablation, ablated, mean_activations
from interp.neurons.ablated_metric import metric_under
from interp.patching import Cells, Run, ablate
from interp.readout import Outcome

GONE = ((0, 3), (0, 17), (2, 40), (2, 41))
QUESTIONS = [("What do you think?", "a"), ("Rain?", "b"), ("I love them, do you?", "c")]


def without_columns(model, neurons):
    """The same model with the neurons' output weights set to zero."""
    with torch.no_grad():
        for layer, neuron in neurons:
            model.model.layers[layer].mlp.down_proj.weight[:, neuron] = 0
    return model


def test_generation_under_ablation_is_that_of_a_model_with_zeroed_columns():
    # wide initialisation, so that every neuron matters
    model = hook(llama(3, initializer_range=0.4), tokenizer())
    cut = hook(without_columns(llama(3, initializer_range=0.4), GONE), tokenizer())
    form = ChatFormat.from_tokenizer(tokenizer())
    for how in (Sampling(12, temperature=0.0), Sampling(12, temperature=0.7, seed=3)):
        whole = generate(model, form, QUESTIONS, how)
        with ablated(model, Ablation(GONE)):
            less = generate(model, form, QUESTIONS, how)
        wanted = generate(cut, form, QUESTIONS, how)
        assert [r.ids for r in less] == [r.ids for r in wanted]
        assert [r.ids for r in less] != [r.ids for r in whole]
        again = generate(model, form, QUESTIONS, how)
        assert [r.ids for r in again] == [r.ids for r in whole]


def test_rows_carry_their_own_ablations_when_generating():
    model = hook(llama(3, initializer_range=0.4), tokenizer())
    form = ChatFormat.from_tokenizer(tokenizer())
    sets = [Ablation(), Ablation(GONE), Ablation(GONE[2:])]
    how = Sampling(12, temperature=0.7, seed=3)
    with ablated(model, sets):
        mixed = generate(model, form, [QUESTIONS[0]] * 3, how, streams=[0, 0, 0])
    for row, ablation in zip(mixed, sets, strict=True):
        with ablated(model, ablation):
            assert row.ids == generate(model, form, QUESTIONS[:1], how)[0].ids
    assert len({row.ids for row in mixed}) == 3
    with pytest.raises(InputError, match="3 questions but 1 streams"):
        generate(model, form, QUESTIONS, how, streams=[0])


@pytest.mark.parametrize(("family", "using"), thinned(FAMILIES, ["mean", "zero"], keep=6))
def test_single_ablations_are_those_of_the_patching_engine(family, using):
    model = bridge(family, 1)
    tokens, mask = prompts([6, 4])
    run = Run(model, tokens, mask)
    neurons = [0, 5, 33]
    wanted = ablate(
        run, "mlp_post", using=using, metric=pick, cells=Cells(layers=[1], neurons=neurons)
    )
    means = mean_activations(run, [1])
    sets = [Ablation(((1, neuron),), using) for neuron in neurons]
    for rows in (2, 100):
        found = metric_under(run, [Ablation(), *sets], pick, means=means, rows=rows)
        torch.testing.assert_close(found[0], wanted.clean, atol=1e-5, rtol=0)
        torch.testing.assert_close(found[1:], wanted.values[0], atol=1e-4, rtol=0)
    assert wanted.effect().abs().max() > 1e-3


def test_an_outcome_behind_a_space_is_read_at_both_columns():
    two = Outcome("smile", (300, 301), (1,), len(tokenizer()), space=9, after_ids=(301, 302))
    tokens, mask = prompts([6, 4])
    tokens[:, -1] = 9
    run, sets = Run(bridge("llama", 1), tokens, mask), [Ablation(((1, n),), "zero") for n in (0, 5)]
    cells = Cells(layers=[1], neurons=[0, 5])
    wanted = ablate(run, "mlp_post", using="zero", metric=two.metric(), cells=cells)
    found = metric_under(run, [Ablation(), *sets], two.metric(), rows=2)
    torch.testing.assert_close(found[0], wanted.clean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1:], wanted.values[0], atol=1e-4, rtol=1e-4)


def test_nothing_stays_behind():
    model = bridge("llama", 1)
    tokens, _ = prompts([5])

    def broken():
        with ablated(model, Ablation(((0, 1),))):
            assert not torch.equal(model(tokens), before)
            raise RuntimeError("on purpose")

    with torch.no_grad():
        before = model(tokens)
        with pytest.raises(RuntimeError, match="on purpose"):
            broken()
        assert torch.equal(model(tokens), before)
    assert not model.blocks[0].mlp.out.original_component._forward_pre_hooks


def test_bad_input():
    model = bridge("llama", 1)
    tokens, _ = prompts([5, 5, 5])

    def run_with(*arguments):
        with ablated(model, *arguments):
            model(tokens)

    with pytest.raises(InputError, match=r"m1\.n48 does not exist; this model has layers 0 to 2"):
        run_with(Ablation(((1, 48),)))
    with pytest.raises(InputError, match="unknown ablation 'max'"):
        Ablation((), "max")
    with pytest.raises(InputError, match="needs its mean activations"):
        run_with(Ablation(((1, 4),), "mean"))
    with pytest.raises(InputError, match="for 2 rows, but the batch has 3"):
        run_with([Ablation(((1, 4),)), Ablation()])
