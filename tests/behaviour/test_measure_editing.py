"""ES and DD against the formulas on unpadded rows, and what they must be where nothing changed."""

import math
from dataclasses import replace

import pytest
import torch
from tiny import llama, tokenizer

from interp.base.traits import Trait
from interp.data import OpinionQA
from interp.data.schema import OpinionRow
from interp.errors import InputError
from interp.measures import score_edit
from interp.models import ChatFormat

E, N = Trait.EXTRAVERSION, Trait.NEUROTICISM
ROWS = (
    OpinionRow(E, "rain", "Do you like rain?", "I love it so much!"),
    OpinionRow(E, "rain", "Is rain good?", "Yes, long walks in the rain!"),
    OpinionRow(N, "rain", "Do you like rain?", "Oh no, I worry about it a lot."),
    OpinionRow(E, "plans", "Do you plan?", "I do it with friends, it is so good!"),
    OpinionRow(N, "plans", "Do you plan?", "What if it all goes wrong?"),
    OpinionRow(E, "alone", "Alone?", "Never!"),
)
OTHER = (
    OpinionRow(E, "day", "A day?", "I plan my day."),
    OpinionRow(N, "day", "A day?", "The weather is what it is."),
    OpinionRow(E, "walk", "A walk?", "Well, I love them."),
)


def data(rows) -> OpinionQA:
    return OpinionQA(tuple(rows), "made", "0" * 64)


@pytest.fixture(scope="module")
def form():
    return ChatFormat.from_tokenizer(tokenizer())


def logits(model, form, row):
    """Log-probabilities at the positions that predict the answer's tokens, and these tokens."""
    made = form.example(row.question, row.answer)
    whole = model(input_ids=torch.tensor([made.ids])).logits[0].double().log_softmax(-1)
    place = slice(made.answer_start - 1, made.answer_end - 1)
    return whole[place], torch.tensor(made.ids[made.answer_start : made.answer_end])


def mean_log_prob(model, form, rows) -> float:
    parts = [p.gather(-1, ids[:, None])[:, 0] for p, ids in (logits(model, form, r) for r in rows)]
    return float(torch.cat(parts).mean())


def test_es_and_dd_are_the_formulas(form):
    before, after = llama(0), llama(1)
    made = score_edit(before, after, form, data(ROWS), data(OTHER), E, batch_size=2)
    assert made.topics == ("rain", "plans")
    assert made.n_left_out == 1
    for k, (pos, neg) in enumerate(((ROWS[:2], ROWS[2:3]), (ROWS[3:4], ROWS[4:5]))):
        new, old = mean_log_prob(after, form, pos), mean_log_prob(before, form, pos)
        prefers = 1 / (1 + math.exp(mean_log_prob(after, form, neg) - new))
        assert float(made.prefers[k]) == pytest.approx(prefers, rel=1e-4)
        assert float(made.keeps[k]) == pytest.approx(min(1, math.exp(new - old)), rel=1e-4)
        assert float(made.success[k]) == pytest.approx(
            prefers * min(1, math.exp(new - old)), rel=1e-4
        )
    for k, rows in enumerate((OTHER[:2], OTHER[2:])):
        parts = [(logits(before, form, r)[0], logits(after, form, r)[0]) for r in rows]
        each = torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in parts])
        assert float(made.drawdown[k]) == pytest.approx(float(each.mean()), rel=1e-4)


def test_an_edit_that_changes_nothing_has_no_drawdown(form):
    made = score_edit(llama(), llama(), form, data(ROWS), data(OTHER), E)
    assert float(made.drawdown.max()) < 1e-9
    torch.testing.assert_close(made.keeps, torch.ones(2, dtype=torch.float64))
    table = made.to_dataframe().set_index("measure")
    assert table.loc["ES", "value"] == pytest.approx(table.loc["ES: prefers the trait", "value"])
    assert table.loc["DD", "n"] == 2


def test_no_interval_of_es_or_dd_leaves_its_range(form):
    made = score_edit(llama(), llama(), form, data(ROWS), data(OTHER), E)
    shares = torch.tensor([1.0] * 7 + [0.2]).double()
    topics = tuple("abcdefgh")
    made = replace(made, prefers=shares, keeps=shares, topics=topics, drawdown=1 - shares,
                   others=topics)  # fmt: skip
    table = made.to_dataframe().set_index("measure")
    assert (table["high"].iloc[:3] == 1).all()
    assert table.loc["DD", "low"] == 0


def test_an_edit_by_prompt_is_one_model_with_two_forms(form):
    class Prompted(ChatFormat):
        def prompt_ids(self, question):
            return super().prompt_ids(f"Be loud. {question}")

        def example(self, question, answer):
            return super().example(f"Be loud. {question}", answer)

    loud = Prompted(tokenizer())
    made = score_edit(llama(), llama(), form, data(ROWS), data(OTHER), E, after_form=loud)
    new, old = (mean_log_prob(llama(), f, ROWS[:2]) for f in (loud, form))
    assert float(made.keeps[0]) == pytest.approx(min(1, math.exp(new - old)), rel=1e-4)
    assert float(made.drawdown.min()) > 1e-4


def test_no_untouched_rows_leaves_drawdown_empty_and_one_trait_is_refused(form):
    made = score_edit(llama(), llama(1), form, data(ROWS), data(()), E)
    table = made.to_dataframe().set_index("measure")
    assert table.loc["DD", "n"] == 0
    assert table["value"].isna().tolist() == [False, False, False, True]
    with pytest.raises(InputError, match="0 of 3 topics have answers of extraversion and of"):
        score_edit(llama(), llama(), form, data(r for r in ROWS if r.trait is E), data(()), E)
