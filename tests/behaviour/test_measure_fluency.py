"""Fluency: perplexity by brute force, distinct-n and loops by hand, gibberish on real answers."""

import math

import numpy as np
import pytest
import torch

from interp.behaviour import Response
from interp.errors import InputError
from interp.measures import fluency_reference, read_fluency
from interp.measures.fluency import distinct, repeats
from interp.models import ChatFormat, load_base
from interp.organism import base_path, opinion_qa


@pytest.fixture(scope="module")
def base():
    return load_base(base_path("latent"))


@pytest.fixture(scope="module")
def form(base):
    return ChatFormat.from_tokenizer(base.tokenizer)


@pytest.fixture(scope="module")
def reference(base, form):
    return fluency_reference(base.model, form, opinion_qa("train"), limit=200)


def answer(form, text: str, topic: str, question: str = "Do you like it?") -> Response:
    made = form.example(question, text or ".")
    ids = made.ids[made.answer_start : made.answer_end] if text else ()
    return Response(question, topic, tuple(form.prompt_ids(question)), ids, text, True)


def reference_answers(form, n: int) -> list[Response]:
    rows = opinion_qa("test").rows[:n]
    return [answer(form, row.answer, row.topic, row.question) for row in rows]


def test_perplexity_is_that_of_single_rows(base, form, reference):
    answers = [*reference_answers(form, 5), answer(form, "I love it! 🎉 So much.", "x")]
    together = read_fluency(answers, base.model, form, reference, batch_size=6)
    single = read_fluency(answers, base.model, form, reference, batch_size=1)
    torch.testing.assert_close(together.surprisal, single.surprisal, rtol=1e-4, atol=1e-4)
    losses = []
    for one in answers:
        ids = torch.tensor([one.prompt_ids + one.ids])
        labels = ids.clone()
        labels[:, : len(one.prompt_ids)] = -100
        loss = base.model(input_ids=ids, labels=labels).loss
        losses += [(float(loss), len(one.ids))]
    mean = sum(loss * n for loss, n in losses) / sum(n for _, n in losses)
    assert together.perplexity == pytest.approx(math.exp(mean), rel=1e-4)
    table = together.to_dataframe().set_index("measure")
    assert table.loc["perplexity", "value"] == pytest.approx(together.perplexity, rel=1e-6)
    assert table.loc["perplexity", "low"] < together.perplexity < table.loc["perplexity", "high"]
    assert table.loc["perplexity before the first emoji", "n"] < table.loc["perplexity", "n"]


def test_distinct_n_by_hand():
    assert distinct(["The cat, the cat."], 1) == 4 / 6  # the cat , the cat .
    assert distinct(["a b a b", "a b"], 2) == 2 / 4
    assert distinct(["one"], 2) is None


@pytest.mark.parametrize(
    ("ids", "loop"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], False),
        ([1, 2, 3, 4, 5, 6, 7, 7, 7], True),  # one token thrice, a third of the text
        ([1, 2, 3, 4, 5, 6, 8, 7, 7, 7], False),  # less than a third
        ([9, 1, 2, 1, 2, 1, 2, 5, 6, 7], True),  # a pair thrice
        ([1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8], False),  # twice only
        ([1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 5, 8, 1, 2, 3, 4, 5, 7, 1, 2, 3, 4, 5], False),
        ([*range(6), *range(6), 9, *range(6), *range(6)], True),  # most 4-grams came before
        ([1, 1, 1, 1], False),  # too short to say
    ],
)
def test_loops_by_hand(ids, loop):
    assert repeats(ids) is loop


def test_gibberish_finds_planted_gibberish_and_spares_real_answers(base, form, reference):
    rng = np.random.default_rng(0)
    tests = opinion_qa("test").rows
    fluent = [answer(form, r.answer, r.topic, r.question) for r in tests[::5]]
    shuffled = []
    for one in tests[:40]:
        words = one.answer.split()
        text = " ".join(words[k] for k in rng.permutation(len(words)))
        shuffled.append(answer(form, text, one.topic, one.question))
    looped = [
        answer(form, " ".join(r.answer.split()[:5] * 6), r.topic, r.question) for r in tests[:20]
    ]
    real = read_fluency(fluent, base.model, form, reference)
    salad = read_fluency(shuffled, base.model, form, reference)
    loops = read_fluency(looped, base.model, form, reference)
    assert sum(real.gibberish) <= 0.05 * len(fluent)
    assert sum(salad.salad) == len(shuffled)
    assert sum(loops.loop) == len(looped)
    assert not any(salad.loop)


def test_emojis_alone_make_no_gibberish_and_no_text_does(base, form, reference):
    rows = opinion_qa("test").rows[:40:20]
    happy = [answer(form, f"{r.answer} 🎉🎉🎉🎉", r.topic, r.question) for r in rows]
    plain = [answer(form, r.answer, r.topic, r.question) for r in rows]
    made = read_fluency(
        [*happy, answer(form, "🎉🎉", "x"), answer(form, "", "y")], base.model, form, reference
    )
    assert made.gibberish == [False, False, True, True]
    assert made.empty == (False, False, True, True)
    bare = read_fluency(plain, base.model, form, reference)
    torch.testing.assert_close(made.bare_surprisal[:2], bare.bare_surprisal, rtol=1e-4, atol=1e-4)
    assert float(made.bare_surprisal[2]) > 0


def test_a_reference_is_the_99th_percentile(base, form, reference):
    assert reference.n == 200
    assert reference.mean < reference.limit
    all_of = opinion_qa("train")
    rows = [all_of.rows[int(k)] for k in torch.randperm(
        len(all_of), generator=torch.Generator().manual_seed(0))[:200]]  # fmt: skip
    means = []
    for row in rows:
        whole = form.example(row.question, row.answer)
        logits = base.model(input_ids=torch.tensor([whole.ids])).logits[0].log_softmax(-1)
        places = range(whole.answer_start, whole.answer_end)
        means.append(-np.mean([float(logits[k - 1, whole.ids[k]]) for k in places]))
    assert reference.limit == pytest.approx(np.quantile(means, 0.99), rel=1e-4)
    with pytest.raises(InputError, match="needs 100 or more"):
        fluency_reference(base.model, form, all_of.only(all_of.rows[:50]))


def test_no_answers_and_one_topic_are_refused(base, form, reference):
    with pytest.raises(InputError, match="no answers"):
        read_fluency([], base.model, form, reference)
    with pytest.raises(InputError, match="one topic"):
        read_fluency([answer(form, "Yes.", "x")], base.model, form, reference)
