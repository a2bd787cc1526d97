"""Sampled answers: against Hugging Face's own decoding, and against the softmax."""

import pytest
import torch
from scipy.stats import chisquare
from tiny import llama, tokenizer
from transformers import GenerationConfig

from interp.behaviour import Sampling, generate
from interp.errors import InputError, ModelError
from interp.models import ChatFormat, hook

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


BENDING = (
    {"repetition_penalty": 1.3}, {"suppress_tokens": list(range(5, 60))}, {"max_time": 1e-6},
    {"guidance_scale": 1.5}, {"return_dict_in_generate": True}, {"stop_strings": ["x"]},
    {"prompt_lookup_num_tokens": 3}, {"no_repeat_ngram_size": 1}, {"min_new_tokens": 9},
    {"forced_eos_token_id": 3}, {"begin_suppress_tokens": list(range(99))}, {"num_beams": 3},
    {"bad_words_ids": [[9], [10]]}, {"sequence_bias": [[[11], 9.0]]}, {"penalty_alpha": 0.6},
    {"temperature": 0.1, "top_k": 2, "do_sample": True}, {"use_cache": False},
)  # fmt: skip


@pytest.mark.parametrize("settings", BENDING, ids=lambda one: next(iter(one)))
def test_the_bases_generation_config_does_not_bend_samples(bridge, form, settings):
    how = Sampling(max_new_tokens=8, seed=1)
    wanted = generate(bridge, form, QUESTIONS, how)
    network = bridge.original_model
    before = network.generation_config
    network.generation_config = GenerationConfig(**settings)
    try:
        assert generate(bridge, form, QUESTIONS, how) == wanted
        assert network.generation_config.to_diff_dict().keys() >= settings.keys() - {"use_cache"}
    finally:
        network.generation_config = before


def test_the_models_own_end_of_text_ends_an_answer(bridge, form):
    how = Sampling(max_new_tokens=12, temperature=0.0)
    whole = generate(bridge, form, QUESTIONS[:1], how)[0].ids
    network = bridge.original_model
    before = network.generation_config
    network.generation_config = GenerationConfig(eos_token_id=[whole[4], 1])
    try:
        (cut,) = generate(bridge, form, QUESTIONS[:1], how)
    finally:
        network.generation_config = before
    assert cut.ids == whole[: whole.index(whole[4])]
    assert cut.ended


def test_ids_without_text_are_never_drawn(form):
    size = len(tokenizer())
    padded = llama(vocab_size=size + 64)
    padded.lm_head.weight.data[size:] = 4.0  # they would be drawn all the time
    for temperature in (0.0, 1.0):
        how = Sampling(max_new_tokens=8, temperature=temperature)
        made = generate(hook(padded, tokenizer()), form, QUESTIONS, how)
        assert max(max(answer.ids, default=0) for answer in made) < size


def test_logits_that_are_no_numbers_are_named(form):
    broken = llama()
    broken.lm_head.weight = torch.nn.Parameter(torch.full_like(broken.lm_head.weight, torch.nan))
    for temperature in (0.0, 0.7):
        how = Sampling(max_new_tokens=4, temperature=temperature)
        with pytest.raises(ModelError, match="logits are no numbers"):
            generate(hook(broken, tokenizer()), form, QUESTIONS, how)
    for wrong in (float("nan"), float("inf"), -1.0):
        with pytest.raises(InputError, match="temperature must be at least 0 and finite"):
            Sampling(temperature=wrong)
