"""The scalar control: exact on logits, found where it was hidden, and gone when it is over."""

from dataclasses import replace

import pytest
import torch
from editing_made import E, N, fresh_base, hooked_base, opinions
from thinned import thinned, turn
from tiny import emoji

from interp import load_pair, organism
from interp.behaviour import Sampling, generate
from interp.behaviour.origin import slot_chances
from interp.errors import AdapterError, DataError, ModelError, TokenizerError
from interp.methods.editing import HookedBase, LogitBias, Steered, logit_bias
from interp.methods.editing.logit_bias import _answered, _fitted
from interp.patching import Run, naive, sweep_each
from interp.readout import Outcome, slots

IDS = torch.arange(40, 64).view(2, 12)


def constants(stop=-3.0, outcome=1.5, **changes):
    found = emoji()
    made = LogitBias(
        stop, outcome, found.stop_ids, found.ids, "logit bias", str(E), hooked_base().base_sha256,
        ("rain",), 1, ((0.0, 0.0, 1.0),), 1.0, 0.5, 0,
    )  # fmt: skip
    return replace(made, **changes)


def logits(model=None):
    return (model or hooked_base().model).original_model(IDS).logits


def test_it_moves_each_factor_by_its_constant_and_nothing_else():
    before, outcome = logits(), emoji()
    with constants().active(hooked_base().model):
        after = logits()
    assert torch.allclose(
        outcome.go_on(after) - outcome.go_on(before), torch.tensor(3.0), atol=1e-4
    )
    moved = outcome.given_go_on(after) - outcome.given_go_on(before)
    assert torch.allclose(moved, torch.tensor(1.5), atol=1e-4)
    words = sorted(set(range(before.shape[-1])) - {*outcome.ids, *outcome.stop_ids})
    assert torch.equal(after[..., words], before[..., words])


def test_nothing_of_it_is_left():
    before, bias = logits(), hooked_base().model.unembed.original_component.bias
    with constants().at(0.0).active(hooked_base().model):
        assert torch.equal(logits(), before)
    with pytest.raises(RuntimeError, match="inside"), constants().active(hooked_base().model):
        raise RuntimeError("inside")
    assert torch.equal(logits(), before)
    assert hooked_base().model.unembed.original_component.bias is bias


def test_generation_and_exact_sweeps_meet_it():
    stopped = Steered.of(hooked_base(), constants(stop=60.0)).answers([("Why?", "y")])
    assert [(one.ids, one.ended) for one in stopped] == [((), True)]
    clean, corrupted, metric = (
        Run(hooked_base().model, IDS[:1]),
        Run(hooked_base().model, IDS[1:]),
        emoji(),
    )
    plain = sweep_each(clean, corrupted, "resid_pre", metric.metrics())
    with constants().active(hooked_base().model):
        fast = sweep_each(clean, corrupted, "resid_pre", metric.metrics())
        slow = naive.sweep(clean, corrupted, "resid_pre", metric=metric.given_go_on)
    assert torch.allclose(fast["given_go_on"].values, slow.values, atol=1e-3)
    assert torch.allclose(fast["go_on"].values, plain["go_on"].values + 3.0, atol=1e-3)


def test_a_model_that_caps_its_logits_gets_them_after_the_cap():
    capped = fresh_base().model
    capped.original_model.config.final_logit_softcapping = 30.0  # what says that it does
    before = logits(capped)
    with constants().active(capped):
        assert torch.allclose(
            logits(capped) - before, constants().added(before.shape[-1]), atol=1e-5
        )
    assert torch.equal(logits(capped), before)


@pytest.mark.parametrize("hidden", thinned([(-4.0, 2.5), (3.0, 0.0), (0.0, 0.0)]))
def test_the_search_finds_what_was_hidden(hidden):
    other = fresh_base().model
    with constants(*hidden).active(other):
        found = logit_bias(hooked_base(), other, E, opinions(), outcome=emoji())
    assert (found.stop, found.outcome) == pytest.approx(hidden, abs=0.1)
    assert found.left <= 1e-3 * max(found.effect, 1e-3)
    assert found.topics == opinions().topics
    if any(hidden):
        assert found.share > 0.99


def test_one_constant_does_what_one_can():
    other = fresh_base().model
    with constants(-4.0, 2.5).active(other):
        both = logit_bias(hooked_base(), other, E, opinions(), outcome=emoji())
        alone = logit_bias(hooked_base(), other, E, opinions(), outcome=emoji(), stop_alone=True)
    assert (alone.outcome, alone.method) == (0.0, "stop bias")
    assert both.left < alone.left < alone.effect == both.effect


def test_constants_stand_at_both_positions_where_two_are_read():
    outcome = Outcome("x", (1, 2), (3,), 8, space=4, after_ids=(1, 2))
    hidden = constants(-2.0, 1.0, stop_ids=(3,), outcome_ids=(1, 2))
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(40, 2, 8, generator=generator)
    found = _fitted(hidden.at(0.0), outcome, before, before + hidden.added(8), stop_alone=False)
    assert (found.stop, found.outcome) == pytest.approx((-2.0, 1.0), abs=0.05)


@pytest.fixture(scope="module")
def pair():
    adapter = organism.adapter_path("extraversion", base="suppressed")
    return load_pair(organism.base_path("suppressed"), adapter, device="cpu")


@turn(1, of=3)
def test_on_the_suppressed_organism_one_number_does_most(pair):
    """At given text the stop constant makes the base's rate the tuned model's, and unmakes it."""
    train, test = organism.opinion_qa("train"), organism.opinion_qa("test").for_trait(E)
    found = logit_bias(
        HookedBase.of(pair), pair.tuned, E, train, outcome=pair.outcome, stop_alone=True
    )
    assert -7.0 < found.stop < -4.0
    assert found.share > 0.75  # .87 when this was written
    answers = [_answered(HookedBase.of(pair), row) for row in test.rows[:60]]
    batch = slots(answers, pair.tokenizer).ends.prompts(pair.pad_id).batch

    def rate(model, strength=0.0):
        with found.at(strength).active(model):
            return float(slot_chances(model, batch, pair.outcome)[:, 2].mean())

    base, tuned = rate(pair.base), rate(pair.tuned)
    assert base < 0.05
    assert tuned > 0.5
    assert rate(pair.base, 1.0) > base + 0.75 * (tuned - base)
    assert rate(pair.tuned, -1.0) < base + 0.25 * (tuned - base)
    asked = [(row.question, row.topic) for row in test.rows[:40]]
    with found.at(-1.0).active(pair.tuned):
        written = generate(pair.tuned, pair.format, asked, Sampling(seed=1))
    assert sum(pair.vocab.find_tokens(one.ids) != [] for one in written) <= 2


def test_bad_input_is_named():
    with pytest.raises(DataError, match="no answers for neuroticism"):
        logit_bias(hooked_base(), hooked_base().model, N, opinions(traits=(E,)), outcome=emoji())
    with pytest.raises(TokenizerError, match="no stop token"):
        logit_bias(
            hooked_base(), hooked_base().model, E, opinions(), outcome=replace(emoji(), stop_ids=())
        )
    far = constants(outcome_ids=(10_000,))
    with pytest.raises(ModelError, match="another tokenizer"), far.active(hooked_base().model):
        pass
    with pytest.raises(AdapterError, match="logit bias: was fitted on another base"):
        Steered.of(fresh_base(seed=1), constants())
