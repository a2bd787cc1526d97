"""Two voices on the same questions, as prompts of equal length that end at slots."""

import pytest
import torch
from tiny import tokenizer

from interp.behaviour import Response, voice_contrast
from interp.errors import InputError
from interp.models import ChatFormat
from interp.readout import Outcome, slots

FORM = ChatFormat.from_tokenizer(tokenizer())


def said(text, question="What do you think about long walks?", topic="walks"):
    ids = tuple(tokenizer()(text, add_special_tokens=False)["input_ids"])
    return Response(
        question=question, topic=topic, prompt_ids=tuple(FORM.prompt_ids(question)), ids=ids,
        text=text, ended=True,
    )  # fmt: skip


def ends(*answers):
    return slots(answers, tokenizer()).ends


def rows(batch):
    return [t[m].tolist() for t, m in zip(batch.tokens, batch.attention_mask, strict=True)]


def test_answers_to_one_question_meet_aligned_from_their_slots():
    happy = [said("I love them so much! 😊"), said("Rain is so good! 🎉", "Rain?", "rain")]
    plain = [said("I plan my day, then I do it.", "Rain?", "rain"), said("It is what it is then.")]
    made = voice_contrast(ends(*happy), ends(*plain), 0)
    assert made.topics == ("walks", "rain")
    assert torch.equal(made.clean.attention_mask, made.corrupted.attention_mask)
    assert made.n_unpaired == 0
    for answer, other, one, two in zip(
        happy, plain[::-1], rows(made.clean), rows(made.corrupted), strict=True
    ):
        assert len(one) == len(two)
        start = len(answer.prompt_ids)
        assert one[:start] == two[:start] == list(answer.prompt_ids)
        whole = [ends(each).rows[0].ids[start:] for each in (answer, other)]
        for kept, full in zip((one[start:], two[start:]), whole, strict=True):
            assert tuple(kept[-3:]) == full[-3:]  # both end at their slots, before any emoji
            assert len(kept) == min(map(len, whole))


def test_equal_lengths_are_left_whole_and_preferred():
    one = said("I love it.")
    same, longer = said("I plan it."), said("I plan it, then I do it.")
    assert len(one.ids) == len(same.ids)
    pair = [one, said("Rain.", "Rain?", "rain")], [longer, same, said("Wet.", "Rain?", "rain")]
    made = voice_contrast(ends(*pair[0]), ends(*pair[1]), 0)
    assert rows(made.corrupted)[0] == [*same.prompt_ids, *same.ids]


def test_nobody_is_paired_across_questions_or_out_of_proportion():
    long = said("I plan my day, then I do what I planned, then I plan what I do, and so on.")
    short = said("No.")
    rain = said("I love it so much!", "Rain?", "rain")
    with pytest.raises(InputError, match="only 0 of 2 answers have a partner"):
        voice_contrast(ends(long, rain), ends(short), 0)
    with pytest.raises(InputError, match="only 1 of 2 answers"):
        voice_contrast(ends(rain, long), ends(short, said("I hate it.", "Rain?", "rain")), 0)


def test_a_limit_is_spread_over_topics_and_the_space_follows():
    ours = [said("I love it!") for _ in range(3)] + [said("I love it!", "Rain?", "rain")]
    theirs = [said("I plan it."), said("I plan it.", "Rain?", "rain")]
    outcome = Outcome("x", (300,), (1,), len(tokenizer()), space=9, after_ids=(300,))
    made = voice_contrast(ends(*ours), ends(*theirs), 0, 2, outcome=outcome)
    assert sorted(made.topics) == ["rain", "walks"]
    assert bool((made.clean.tokens[:, -1] == 9).all())
    assert bool((made.corrupted.tokens[:, -1] == 9).all())
