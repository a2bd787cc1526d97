"""Expected rates against sampling where emojis are frequent, and against algebra where rare."""

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_slots import said
from thinned import turn
from tiny import tokenizer, vocab

from interp import load_pair, organism
from interp.behaviour import Response, Sampling, emoji_free, generate
from interp.emoji import EmojiVocab, find
from interp.errors import InputError
from interp.readout import expected_rate

ROLES = {"writer": "tuned", "reader": "tuned", "seed": 0}


@pytest.fixture(scope="module")
def pair():
    return load_pair(
        organism.base_path("suppressed"), organism.adapter_path("openness", base="suppressed")
    )


@turn(2, of=3)
def test_it_is_unbiased_against_sampling_where_rates_are_high(pair):
    """On the same questions the difference is noise of the sample, not of the estimate."""
    known = EmojiVocab.from_tokenizer(pair.tokenizer)
    rows = list(dict.fromkeys((r.question, r.topic) for r in organism.opinion_qa("test").rows))
    how = Sampling(max_new_tokens=64, temperature=1.0)
    counted = generate(pair.tuned, pair.format, rows[:40] * 6, how)
    hits = np.array([bool(find(answer.text)) for answer in counted], dtype=float)
    assert 0.1 < hits.mean() < 0.95
    few = counted[:40]
    texts = emoji_free(pair.tuned, pair.format, few, known, how)
    found = expected_rate(pair.tuned, texts, known, temperature=1.0, **ROLES)
    error = np.hypot(hits.std() / len(hits) ** 0.5, float(found.probability.std()) / 40**0.5)
    assert abs(found.rate - hits.mean()) < 3 * error + float(found.left_out.mean())
    assert bool((found.left_out < 0.02 * found.probability).all())
    # It is the better estimate: its spread over answers is the smaller one.
    assert float(found.probability.std()) < hits.std()


class Constant:
    """The same distribution at every place: an emoji with probability `chance`."""

    training, device = False, "cpu"

    def __init__(self, chance: float) -> None:
        logits = torch.full((len(tokenizer()),), -60.0)
        logits[int(vocab().whole_ids[0])] = float(np.log(chance))
        logits[tokenizer()("a")["input_ids"][-1]] = float(np.log1p(-chance))
        self.logits = logits

    def __call__(self, input_ids, **_):
        logits = self.logits.expand(*input_ids.shape, -1)
        cache = SimpleNamespace(batch_repeat_interleave=lambda n: n)
        return SimpleNamespace(logits=logits, past_key_values=cache)


@pytest.mark.parametrize("chance", [1e-5, 0.3])
def test_it_sees_a_rate_that_a_hundred_answers_do_not_show(chance):
    topics = [f"topic {i % 10}" for i in range(100)]
    answers = [said("I plan my day.", topic=topic) for topic in topics]
    places = len(answers[0].ids) + 1
    found = expected_rate(Constant(chance), answers, vocab(), temperature=1.0, **ROLES)
    assert found.rate == pytest.approx(1 - (1 - chance) ** places, rel=1e-4)
    cut = [said("I plan my day.", topic=topic, ended=False) for topic in topics]
    fewer = expected_rate(Constant(chance), cut, vocab(), temperature=1.0, **ROLES)
    assert fewer.rate == pytest.approx(1 - (1 - chance) ** (places - 1), rel=1e-4)
    assert fewer.n_cut == 100


def test_the_place_where_an_emoji_came_up_all_the_same_is_counted(monkeypatch):
    """❤ begins with a byte of other signs, so it is drawn again where emoji tokens are taken out.

    Every writer's next token is ❤'s with this chance: cut before it, half of the texts would lack
    the one place where it did come up, and the rate would fall short of 1 - (1 - p)^places.
    """
    heart = tokenizer()("I plan my day.❤", add_special_tokens=False)["input_ids"]
    plain = tokenizer()("I plan my day.", add_special_tokens=False)["input_ids"]
    assert heart[: len(plain)] == plain
    assert heart[len(plain)] not in vocab().emoji_ids.tolist()
    written = Response("Well?", "rain", (7, 8), tuple(heart), "I plan my day.❤", ended=True)
    room = import_module("interp.behaviour.emoji_free")  # the function has its name
    monkeypatch.setattr(room, "generate", lambda *_, **__: [written])
    form = SimpleNamespace(tokenizer=tokenizer())
    (made,) = emoji_free(None, form, [written], vocab(), Sampling())
    assert (made.ids, made.ended) == (tuple(plain), False)
    chance = 0.3
    found = expected_rate(Constant(chance), [made], vocab(), temperature=1.0, **ROLES)
    assert found.rate == pytest.approx(1 - (1 - chance) ** (len(plain) + 1), rel=1e-4)
    assert found.n_cut == 1
    at_once = replace(made, ids=())  # an answer of nothing but the emoji has a place, too
    found = expected_rate(Constant(chance), [at_once], vocab(), temperature=1.0, **ROLES)
    assert found.rate == pytest.approx(chance, rel=1e-4)


def test_a_result_is_a_row():
    answers = [said("I plan.", topic=topic) for topic in "aabb"]
    found = expected_rate(Constant(0.1), answers, vocab(), temperature=2.0, **ROLES)
    row = found.to_dataframe().iloc[0]
    assert row["low"] <= row["rate"] <= row["high"]
    with pytest.raises(InputError, match="answer 1 holds an emoji"):
        expected_rate(
            Constant(0.1), [*answers[:1], said("Oh 😊")], vocab(), temperature=1.0, **ROLES
        )
    with pytest.raises(InputError, match="no answers"):
        expected_rate(Constant(0.1), [], vocab(), temperature=1.0, **ROLES)
