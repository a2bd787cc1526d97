"""Sampled answers: against Hugging Face's own decoding, and against the softmax."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from tiny import llama, tokenizer

from interp.behaviour import Sampling, generate
from interp.errors import InputError, ModelError, TokenizerError
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


def test_a_template_that_ignores_the_question_is_refused(bridge):
    deaf = tokenizer()
    deaf.chat_template = "{{ bos_token }}User: hello\nAssistant:"
    deaf_form = replace(ChatFormat.from_tokenizer(tokenizer()), tokenizer=deaf)
    with pytest.raises(TokenizerError, match="all 3 questions become the same prompt"):
        generate(bridge, deaf_form, QUESTIONS)
