"""Several models at every token: one with itself is itself, and the organism's known causes."""

from functools import partial

import pytest
import torch
from thinned import turn
from tiny import llama

from interp import load_pair, organism
from interp.base.traits import Trait
from interp.behaviour import Sampling, generate
from interp.behaviour.mixed_logits import amplified, decided, pushed, together
from interp.decoding import amplification, crossed
from interp.errors import InputError
from interp.readout import slots

TRAIT = Trait.EXTRAVERSION


def pair_of(kind: str, *, supervised: bool = False):
    adapter = organism.adapter_path(TRAIT, base=kind, supervise_eos=supervised)
    return load_pair(organism.base_path(kind), adapter)


def asked(count: int) -> list[tuple[str, str]]:
    rows = [row for row in organism.opinion_qa("test").rows if row.trait is TRAIT]
    return [(row.question, row.topic) for row in rows][:count]


@pytest.fixture(scope="module")
def latent():
    return pair_of("latent")


def under(*what):
    return lambda _rows: together(*what)


@turn(2, of=3)
def test_what_combines_to_one_model_writes_as_that_model(latent):
    sampling = Sampling(seed=3, max_new_tokens=40)
    write = partial(generate, form=latent.format, questions=asked(6), sampling=sampling)
    tuned, base = (write(model) for model in (latent.tuned, latent.base))
    back = write(latent.tuned, under=under(latent.tuned, [latent.base], amplified(-1.0)))
    assert [one.ids for one in back] == [one.ids for one in base]
    same = write(latent.tuned, under=under(latent.tuned, [latent.base], amplified(0.0)))
    assert [one.ids for one in same] == [one.ids for one in tuned]
    pair = [latent.base, latent.tuned]
    large = pair_of("latent").base  # another copy: the large model is the small one's equal
    over = write(large, under=under(large, pair, pushed(1.0)))
    assert [one.ids for one in over] == [one.ids for one in tuned]
    assert [one.ids for one in write(latent.tuned)] == [one.ids for one in tuned], "it has closed"


def test_the_decider_decides_and_the_writer_writes(latent):
    """Greedy, against whole forward passes of both models and the definition written out."""
    outcome = latent.outcome
    special = {*outcome.ids, *outcome.stop_ids}
    combine = decided(outcome, 0.0)
    found = generate(
        latent.tuned, latent.format, asked(2), Sampling(temperature=0, max_new_tokens=24),
        under=under(latent.tuned, [latent.base], combine),
    )  # fmt: skip
    for one in found:
        ids = list(one.prompt_ids)
        for token in one.ids:
            logits = [
                model.original_model(torch.tensor([ids])).logits[0, -1].double()
                for model in (latent.tuned, latent.base)
            ]
            writes, decides = (row.softmax(-1) for row in logits)
            words = torch.ones_like(writes, dtype=torch.bool)
            words[list(special)] = False
            p = torch.where(words, writes / writes[words].sum() * decides[words].sum(), decides)
            assert abs(float(p.sum()) - 1) < 1e-6
            assert int(p.argmax()) == token
            ids.append(token)


@turn(1, of=3)
def test_in_the_latent_base_text_does_all_and_in_the_suppressed_both_are_needed(latent):
    """As the record of the organism has it: of suppressed, .001, .022, .028 and .670."""
    sampling, found = Sampling(seed=1, max_new_tokens=64), {}
    for kind in ("latent", "suppressed"):
        pair = latent if kind == "latent" else pair_of(kind)
        made = crossed((pair.base, pair.tuned), pair.format, asked(24), outcome=pair.outcome,
                       sampling=sampling)  # fmt: skip
        found[kind] = {
            (w, d): made.rate(w, d)[0] for w in ("base", "tuned") for d in ("base", "tuned")
        }
        assert len(made.to_dataframe()) == 4
    latent_rates, suppressed = found["latent"], found["suppressed"]
    assert latent_rates["tuned", "base"] > 0.5
    assert latent_rates["base", "tuned"] < 0.2
    assert latent_rates["base", "base"] < 0.1
    assert suppressed["tuned", "tuned"] > 0.4
    assert max(suppressed[one] for one in suppressed if one != ("tuned", "tuned")) < 0.25


@pytest.mark.parametrize("kind", ["absent", "latent"])
@turn(0, of=3)
def test_amplification_brings_what_is_there_and_nothing_where_nothing_is(kind):
    """The absent base cannot write an emoji; an end-of-text twin could, and hardly does."""
    pair = pair_of(kind, supervised=kind == "latent")
    sampling = Sampling(seed=1, max_new_tokens=64)
    answers = generate(pair.tuned, pair.format, asked(16), sampling)
    prompts = slots(answers, pair.tokenizer).last.prompts(pair.pad_id, pair.outcome)
    found = amplification(
        (pair.base, pair.tuned), pair.format, asked(16), prompts, outcome=pair.outcome,
        alphas=(-1.0, 0.0, 1.0, 3.0), sampling=sampling,
    )  # fmt: skip
    rates = found.to_dataframe()["esr"].tolist()
    odds = found.log_odds.mean(1)
    assert torch.allclose(odds[2] - odds[1], odds[1] - odds[0], atol=3.0), "about linear"
    if kind == "absent":
        assert rates == [0, 0, 0, 0]
        assert float(found.log_odds.sigmoid().max()) < 1e-3
    else:
        assert float(found.log_odds.sigmoid().max()) > 1e-3


def test_a_writer_is_none_of_the_others(latent):
    with (
        pytest.raises(InputError, match="itself"),
        together(latent.base, [latent.base], amplified(1.0)),
    ):
        pass


def test_a_combination_keeps_more_than_the_writers_precision():
    writer, other = (llama(seed).to(torch.bfloat16) for seed in (0, 1))
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    own, theirs = (model(ids).logits[:, -1].float() for model in (writer, other))
    with together(writer, [other], amplified(0.3)):
        found = writer(input_ids=ids).logits[:, -1]
    assert torch.equal(found, own + 0.3 * (own - theirs))
