"""Sampled answers: against Hugging Face's own decoding, and against the softmax."""

import copy
import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from thinned import thinned, turn
from tiny import llama, tokenizer, vocab
from transformers import GenerationConfig

from interp.behaviour import Sampling, decode, emoji_free, generate
from interp.emoji import EmojiVocab, find
from interp.errors import InputError, ModelError, TokenizerError
from interp.models import ChatFormat, ModelPair, hook

QUESTIONS = [("Hi?", "a"), ("What do you think about long walks in the rain?", "b"), ("Why?", "c")]


@pytest.fixture(scope="module")
def form():
    return ChatFormat.from_tokenizer(tokenizer())


@pytest.fixture(scope="module")
def bridge():
    return hook(llama(), tokenizer())


def test_greedy_answers_are_hugging_faces(bridge, form):
    plain = llama()
    made = generate(bridge, form, QUESTIONS, Sampling(max_new_tokens=12, temperature=0.0))
    for response in made:
        ids = torch.tensor([response.prompt_ids])
        expected = plain.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
            pad_token_id=tokenizer().pad_token_id, eos_token_id=list(form.stop_ids),
        )[0, ids.shape[1] :].tolist()  # fmt: skip
        stopped = [i for i in expected if i in form.stop_ids]
        assert list(response.ids) == expected[: len(expected) - len(stopped)]
        assert response.ended == bool(stopped)


def test_answers_do_not_depend_on_the_batch_size(bridge, form):
    many = QUESTIONS * 4
    alone = generate(bridge, form, many, Sampling(max_new_tokens=10, batch_size=1, seed=3))
    together = generate(bridge, form, many, Sampling(max_new_tokens=10, batch_size=12, seed=3))
    assert [r.ids for r in alone] == [r.ids for r in together]
    assert len({r.ids for r in alone[::3]}) > 1, "the same question gets different answers"


def test_answers_and_outcome_stop_at_what_the_generation_settings_name(form):
    how = Sampling(max_new_tokens=12, seed=3)
    model = llama()
    free = generate(hook(llama(), tokenizer()), form, QUESTIONS, how)
    other = free[1].ids[3]
    model.generation_config.eos_token_id = [tokenizer().eos_token_id, other, -1, 10**6]
    pair = ModelPair.of(llama(1), model, tokenizer())
    for answer, before in zip(generate(pair.tuned, form, QUESTIONS, how), free, strict=True):
        cut = before.ids.index(other) if other in before.ids else len(before.ids)
        assert answer.ids == before.ids[:cut]
        assert answer.ended == (other in before.ids or before.ended)
    assert pair.outcome.stop_ids == tuple(sorted({*form.stop_ids, other}))


def test_seed_changes_answers_and_repeats_them(bridge, form):
    first = generate(bridge, form, QUESTIONS, Sampling(max_new_tokens=8, seed=1))
    assert first == generate(bridge, form, QUESTIONS, Sampling(max_new_tokens=8, seed=1))
    assert first != generate(bridge, form, QUESTIONS, Sampling(max_new_tokens=8, seed=2))


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (1.3, 0.8)])
def test_first_tokens_follow_the_softmax(bridge, form, temperature, top_p):
    n = 600
    how = Sampling(max_new_tokens=1, temperature=temperature, top_p=top_p, batch_size=200)
    drawn = [(r.ids or (-1,))[0] for r in generate(bridge, form, [("Hi?", "t")] * n, how)]
    logits = llama()(torch.tensor([form.prompt_ids("Hi?")])).logits[0, -1] / temperature
    chances = logits.softmax(-1)
    order = chances.argsort(descending=True)
    kept = order[(chances[order].cumsum(0) - chances[order]) < top_p]
    expected = torch.zeros_like(chances)
    expected[kept] = chances[kept] / chances[kept].sum()
    assert all(token == -1 or expected[token] > 0 for token in drawn)
    common = [int(t) for t in kept[:6] if int(t) not in form.stop_ids]
    counts = [drawn.count(token) for token in common]
    wanted = [n * float(expected[token]) for token in common]
    observed = [*counts, n - sum(counts)]
    assert chisquare(observed, [*wanted, n - sum(wanted)]).pvalue > 1e-3


def test_no_questions_and_too_long_answers_are_refused(bridge, form):
    with pytest.raises(InputError, match="no questions"):
        generate(bridge, form, [])
    with pytest.raises(ModelError, match=r"context holds 256; lower max_new_tokens"):
        generate(bridge, form, QUESTIONS, Sampling(max_new_tokens=250))


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"batch_size": 0}])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(InputError):
        Sampling(**wrong)


def test_a_template_that_ignores_the_question_is_refused(bridge):
    deaf = copy.deepcopy(tokenizer())
    deaf.chat_template = (
        "{{ bos_token }}User: hello\nAssistant:{% if not add_generation_prompt %}"
        "{{ messages[-1].content }}{{ eos_token }}{% endif %}"
    )
    deaf_form = replace(ChatFormat.from_tokenizer(tokenizer()), tokenizer=deaf)
    with pytest.raises(TokenizerError, match="all 3 questions become the same prompt"):
        generate(bridge, deaf_form, QUESTIONS)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_logits_that_are_not_finite_are_refused_where_they_arise(form, value, temperature):
    """NaN logits draw token 0 for ever, which holds no emoji: a rate of zero, and wrong."""
    broken = llama()

    calls = []

    def damage(module, inputs, output):  # noqa: ARG001
        calls.append(1)
        if len(calls) == 3:
            output[1] = value

    broken.lm_head.register_forward_hook(damage)
    how = Sampling(max_new_tokens=8, temperature=temperature)
    with pytest.raises(ModelError, match="logits for token 2 of answer 1 are not finite"):
        generate(broken, form, QUESTIONS, how)


@pytest.mark.parametrize("temperature", [math.nan, math.inf, -1.0])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(InputError, match="temperature must be a number"):
        Sampling(temperature=temperature)


def test_tokens_that_are_never_drawn_leave_the_rest_of_the_noise_alone(bridge, form):
    how = Sampling(max_new_tokens=12, seed=4, temperature=1.5)
    free = generate(bridge, form, QUESTIONS * 4, how)
    taken_out = (free[0].ids[3], free[1].ids[5])
    made = generate(
        bridge, form, QUESTIONS * 4, Sampling(12, 1.5, seed=4, without=taken_out)
    )  # fmt: skip
    for one, other in zip(free, made, strict=True):
        same = next((i for i, t in enumerate(one.ids) if t in taken_out), len(one.ids))
        assert other.ids[:same] == one.ids[:same]
        assert not set(other.ids) & set(taken_out)
    assert made[0].ids != free[0].ids


def test_emoji_free_answers_repeat_the_others_up_to_their_first_emoji(bridge, form):
    how = Sampling(max_new_tokens=16, seed=4, temperature=1.5)
    free = generate(bridge, form, QUESTIONS * 20, how)
    made = emoji_free(bridge, form, free, vocab(), how)
    held = [bool(find(one.text)) for one in free]
    assert 2 <= sum(held) < len(held)
    tokens = set(vocab().emoji_ids.tolist())
    for one, other, emoji in zip(free, made, held, strict=True):
        assert not find(other.text)
        if emoji:
            hits = (i for i, token in enumerate(one.ids) if token in tokens)
            start = next(hits, len(one.ids))
            start = min(start, len(other.ids))  # one may be cut before an emoji of its own
            assert other.ids[:start] == one.ids[:start]
            assert other.ids != one.ids
        else:
            assert other == one


@turn(1, of=3)
def test_an_emoji_that_is_a_special_token_is_text():
    """Special tokens are no text, and an emoji among them would count as none."""
    made = copy.deepcopy(tokenizer())
    made.add_special_tokens({"additional_special_tokens": ["🦩"]})
    known = EmojiVocab.from_tokenizer(made)
    flamingo = made.convert_tokens_to_ids("🦩")
    assert flamingo in known.whole_ids.tolist()
    ids = made("Look! 🦩", add_special_tokens=False)["input_ids"]
    assert [match.canonical for match in known.find_tokens(ids)] == ["🦩"]
    assert decode(made, [*ids, made.eos_token_id]) == "Look! 🦩"


BENDING = (
    {"repetition_penalty": 1.3}, {"suppress_tokens": list(range(5, 60))}, {"max_time": 1e-6},
    {"guidance_scale": 1.5}, {"return_dict_in_generate": True}, {"stop_strings": ["x"]},
    {"prompt_lookup_num_tokens": 3}, {"no_repeat_ngram_size": 1}, {"min_new_tokens": 9},
    {"forced_eos_token_id": 3}, {"begin_suppress_tokens": list(range(99))}, {"num_beams": 3},
    {"bad_words_ids": [[9], [10]]}, {"sequence_bias": [[[11], 9.0]]}, {"penalty_alpha": 0.6},
    {"temperature": 0.1, "top_k": 2, "do_sample": True}, {"use_cache": False},
)  # fmt: skip


@contextmanager
def own_config(network, **settings):
    """The model with a generation config such as its folder may bring."""
    before = network.generation_config
    network.generation_config = GenerationConfig(**settings)
    try:
        yield
    finally:
        network.generation_config = before


@pytest.mark.parametrize("settings", thinned(BENDING))
def test_the_bases_generation_config_does_not_bend_samples(bridge, form, settings):
    how = Sampling(max_new_tokens=8, seed=1)
    wanted = generate(bridge, form, QUESTIONS, how)
    with own_config(bridge.original_model, **settings):
        given = bridge.original_model.generation_config
        assert generate(bridge, form, QUESTIONS, how) == wanted
        assert bridge.original_model.generation_config is given


def test_the_models_own_end_of_text_ends_an_answer(bridge, form):
    how = Sampling(max_new_tokens=12, temperature=0.0)
    whole = generate(bridge, form, QUESTIONS[:1], how)[0].ids
    with own_config(bridge.original_model, eos_token_id=[whole[4], 1]):
        (cut,) = generate(bridge, form, QUESTIONS[:1], how)
    assert cut.ids == whole[: whole.index(whole[4])]
    assert cut.ended


def test_ids_without_text_are_never_drawn(form):
    size = len(tokenizer())
    padded = llama(vocab_size=size + 64, tie_word_embeddings=False)
    padded.lm_head.weight.data[size:] = 4.0  # they would be drawn all the time
    for temperature in (0.0, 1.0):
        how = Sampling(max_new_tokens=8, temperature=temperature)
        made = generate(hook(padded, tokenizer()), form, QUESTIONS, how)
        assert max(max(answer.ids, default=0) for answer in made) < size
