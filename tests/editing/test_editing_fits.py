"""What steering is fitted on and how: planted heads and directions, known minima, the organism."""

import math
from dataclasses import replace

import pytest
import torch
from editing_made import E, hooked_base, opinions
from thinned import thinned, turn
from tiny import llama, tokenizer

from interp import organism
from interp.base.traits import LOW
from interp.behaviour import Sampling
from interp.data import OpinionQA
from interp.emoji import rates
from interp.errors import DataError, InputError
from interp.methods.editing import Base, HookedBase, Steered, opposed_answers, pas, persona_vector
from interp.methods.editing.opposed import answer_nll
from interp.methods.editing.strength import Search, find_strength
from interp.models import ChatFormat, hook

AT_HALF = Search(objective=lambda steering: (steering.strength - 0.5) ** 2, evaluations=12)


@pytest.fixture(scope="module")
def answers():
    return opposed_answers(hooked_base(), E, opinions(), against="others", seed=0)


def test_a_trait_is_set_against_its_low_pole_alone():
    low, other = LOW[E], type(E).NEUROTICISM
    asked = opinions(traits=(E,)).rows
    rows = [replace(row, trait=other) for row in asked]  # a third label, to be left out
    rows += [replace(row, trait={E: E, other: low}[row.trait]) for row in opinions().rows]
    data = OpinionQA(tuple(rows), "made up", "")
    sides = opposed_answers(hooked_base(), E, data, against=low, seed=0)
    for part in (sides.fitting, sides.validation):
        assert {row.trait for row in part.only(False).rows} == {low}
        assert {row.trait for row in part.only(True).rows} == {E}
    vector = persona_vector(hooked_base(), sides, layers=[1], search=AT_HALF)
    features = sides.fitting.features(hooked_base(), "resid_post", [1])[0]
    positive = sides.fitting.positive
    means = [features[positive == sign].mean(0) for sign in (True, False)]
    cosine = torch.nn.functional.cosine_similarity
    assert float(cosine(vector.vectors.flatten(), (means[0] - means[1]).flatten(), 0)) > 0.999


def test_a_contrast_keeps_topics_apart_and_marks_the_answers(answers):
    sides = [{row.topic for row in part.rows} for part in (answers.fitting, answers.validation)]
    assert not sides[0] & sides[1]
    for part in (answers.fitting, answers.validation):
        for row, ids, mask, chosen, sign in zip(
            part.rows, part.batch.tokens, part.batch.attention_mask, part.answer, part.positive,
            strict=True,
        ):  # fmt: skip
            assert tokenizer().decode(ids[chosen]) == row.answer
            prompt = ids[mask & ~chosen]
            assert prompt.tolist() == hooked_base().format.prompt_ids(row.question)
            assert bool(sign) == (row.trait is E)


def test_the_bases_own_answers_are_to_the_same_questions():
    own = opposed_answers(hooked_base(), E, opinions(), seed=0)
    for part in (own.fitting, own.validation):
        asked = {row.question for row in part.only(True).rows}
        assert {row.question for row in part.only(False).rows} <= asked
        written = {row.answer for row in part.only(False).rows}
        assert not written & {row.answer for row in opinions().rows}


def test_the_likelihood_of_answers_is_hugging_faces(answers):
    part = answers.validation
    found = answer_nll(hooked_base(), part, batch_size=3)
    for row, value in zip(part.rows, found.tolist(), strict=True):
        example = hooked_base().format.example(row.question, row.answer)
        ids = torch.tensor([example.ids[: example.answer_end]])
        labels = ids.clone()
        labels[:, : example.answer_start] = -100
        assert value == pytest.approx(llama()(ids, labels=labels).loss.item(), rel=1e-4)


@pytest.mark.parametrize("layer", thinned([0, 2], keep=2))
def test_a_persona_vector_is_the_difference_of_means(answers, layer):
    made = persona_vector(hooked_base(), answers, layers=[layer], search=AT_HALF, largest=2.0)
    part, sums = answers.fitting, {True: [], False: []}
    for row, sign in zip(part.rows, part.positive.tolist(), strict=True):
        example = hooked_base().format.example(row.question, row.answer)
        ids = torch.tensor([example.ids[: example.answer_end]])
        streams: list[torch.Tensor] = []
        model = llama()
        model.model.layers[layer].register_forward_hook(
            lambda _, __, out, kept=streams: kept.append(out[0] if isinstance(out, tuple) else out)
        )
        model(ids)
        sums[sign].append(streams[0].reshape(-1, 64)[example.answer_start :].mean(0))
    means = {sign: torch.stack(rows).mean(0) for sign, rows in sums.items()}
    assert torch.allclose(made.vectors[0], means[True] - means[False], atol=1e-4)
    assert made.strength == pytest.approx(0.5, abs=0.03)
    assert made.layers == (layer,)


def test_the_best_layer_is_taken(answers):
    prefers = Search(
        objective=lambda s: (s.strength - 1) ** 2 + (0.0 if s.layers == (1,) else 3.0),
        evaluations=6,
    )
    made = persona_vector(hooked_base(), answers, search=prefers, largest=2.0)
    assert made.layers == (1,)
    assert {layer for layer, _, _ in made.search} == {0, 1, 2}
    assert len(made.search) <= 3 * 7


def planted_host(layer=1, head=2):
    """Only one head says anything, along one direction: how the two traits' words differ."""
    model = llama(num_key_value_heads=4)
    for block in model.model.layers:
        block.self_attn.v_proj.weight.zero_()
    seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    v = model.model.layers[layer].self_attn.v_proj
    for row in opinions().rows:
        example = hooked_base().format.example(row.question, row.answer)
        ids = torch.tensor([example.ids[: example.answer_end]])
        handle = v.register_forward_pre_hook(
            lambda _, args, kept=seen[row.trait is E], start=example.answer_start: kept.append(
                args[0][0, start:].mean(0)
            )
        )
        model(ids)
        handle.remove()
    reads = torch.stack(seen[True]).mean(0) - torch.stack(seen[False]).mean(0)
    direction = torch.randn(16, generator=torch.Generator().manual_seed(9))
    direction /= direction.norm()
    v.weight[head * 16 : (head + 1) * 16] = direction[:, None] * reads
    bridge = hook(model, tokenizer())
    return HookedBase(bridge, ChatFormat.from_tokenizer(tokenizer()), "planted"), direction


@pytest.mark.parametrize("kind", thinned(["means", "probe"], keep=2))
def test_pas_finds_the_planted_head_and_direction(kind):
    planted, direction = planted_host()
    answers = opposed_answers(planted, E, opinions(), against="others", seed=0)
    made = pas(planted, answers, top_k=1, direction=kind, search=AT_HALF, largest=2.0)
    ((layer, head, accuracy, spread),) = made.heads
    assert (layer, head) == (1, 2)
    assert accuracy > 0.8
    assert made.layers == (1,)
    vector = made.vectors[0].view(4, 16)
    assert vector[[0, 1, 3]].abs().max() == 0
    assert abs(torch.cosine_similarity(vector[2], direction, dim=0)) > 0.999
    values = torch.cat([p.features(planted, "z", [1])[0] for p in _parts(answers)])[:, 32:48]
    along = values @ (vector[2] / vector[2].norm())
    assert vector[2].norm().item() == pytest.approx(along.std(unbiased=False).item(), rel=1e-3)
    assert spread == pytest.approx(vector[2].norm().item(), rel=1e-3)
    signs = torch.cat([part.positive for part in _parts(answers)])
    assert along[signs].mean() > along[~signs].mean(), "the shift is towards the trait"
    assert made.strength == pytest.approx(0.5, abs=0.05)


def _parts(answers):
    return answers.fitting, answers.validation


def test_the_search_finds_a_known_minimum_within_its_budget():
    calls = []

    def loss(steering):
        calls.append(steering.strength)
        return math.cosh(steering.strength - 1.3)

    answers = opposed_answers(hooked_base(), E, opinions(), against="others", seed=0)
    made = persona_vector(hooked_base(), answers, layers=[0], search=AT_HALF)
    found, lowest, trace = find_strength(made, loss, largest=4.0, evaluations=8)
    assert found.strength == pytest.approx(1.3, abs=0.1)
    assert lowest == pytest.approx(1.0, abs=0.01)
    assert len(calls) == len(trace) <= 9
    assert calls[0] == 0.0
    none, _, _ = find_strength(made, lambda s: s.strength, largest=4.0, evaluations=5)
    assert none.strength == 0.0, "where nothing helps, nothing is added"


@pytest.mark.parametrize("objective", thinned(["voice", "likelihood"], keep=2))
def test_the_built_in_objectives_leave_the_model_alone_and_repeat(answers, objective):
    ids = torch.arange(12)[None]
    before = hooked_base().model.original_model(ids).logits
    search = Search(objective, evaluations=2, questions=4, max_new_tokens=6)
    made = pas(hooked_base(), answers, top_k=2, search=search)
    again = pas(hooked_base(), answers, top_k=2, search=search)
    assert made.search == again.search
    assert torch.equal(hooked_base().model.original_model(ids).logits, before)
    if objective == "likelihood":
        loss = answer_nll(hooked_base(), answers.validation.only(True)).mean().item()
        assert made.search[0][2] == pytest.approx(loss, rel=1e-4)


@turn(0, of=3)
def test_pas_makes_the_organism_write_emojis_and_a_random_direction_does_not():
    bare = HookedBase.load(organism.base_path("latent"), device="cpu")
    train, test = organism.opinion_qa("train"), organism.opinion_qa("test").for_trait(E)
    answers = opposed_answers(bare, E, train, limit=80, seed=0)
    made = pas(bare, answers, search=Search(evaluations=5, questions=16))
    asked = [(row.question, row.topic) for row in test.rows[:40]]
    esr = {
        name: rates.measure([r.text for r in method.answers(asked, Sampling(seed=1))]).response_esr
        for name, method in (
            ("base", Base(bare, E)),
            ("PAS", Steered.of(bare, made)),
            ("random", Steered.of(bare, made.random(0))),
        )
    }
    assert esr["PAS"] > 0.2
    assert esr["base"] <= 0.05
    assert esr["random"] <= 0.05


def test_bad_input_is_named(answers):
    with pytest.raises(DataError, match="no answers for openness; it has"):
        opposed_answers(hooked_base(), type(E).OPENNESS, opinions(), seed=0)
    with pytest.raises(DataError, match="holds extraversion only"):
        opposed_answers(hooked_base(), E, opinions(traits=(E,)), against="others", seed=0)
    with pytest.raises(DataError, match="1 topic; a split by topic needs two"):
        opposed_answers(hooked_base(), E, opinions(("rain",)), against="others", seed=0)
    with pytest.raises(DataError, match="no rows"):
        opposed_answers(hooked_base(), E, OpinionQA((), "nothing", ""), seed=0)
    for other in ("introversion", E):
        with pytest.raises(DataError, match=f"no answers of another label '{other}'"):
            opposed_answers(hooked_base(), E, opinions(), against=other, seed=0)
    with pytest.raises(InputError, match=r"use 1\.\.12 heads"):
        pas(hooked_base(), answers, top_k=13)
    with pytest.raises(InputError, match="layers"):
        persona_vector(hooked_base(), answers, layers=[3])
    with pytest.raises(InputError, match="unknown objective"):
        Search("luck")
    with pytest.raises(InputError, match="not finite"):
        pas(hooked_base(), answers, search=Search(lambda _: math.nan, evaluations=2))
