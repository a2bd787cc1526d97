"""Slots of written answers, against what a reader would mark."""

from dataclasses import dataclass

import pytest
from thinned import todays
from tiny import tokenizer
from transformers import AutoTokenizer

from interp.errors import InputError
from interp.readout import Outcome, slot_length, slots


@dataclass(frozen=True)
class Said:
    """An answer; `|` in its text is where a slot is, in tests."""

    ids: tuple[int, ...]
    topic: str = "rain"
    ended: bool = True
    question: str = "Well?"
    prompt_ids: tuple[int, ...] = (7, 8)


def said(text: str, made=None, **fields: object) -> Said:
    made = made or tokenizer()
    return Said(tuple(made(text, add_special_tokens=False)["input_ids"]), **fields)


# The text; where slots are (|); the kind and the emoji of each.
TEXTS = [
    ("I plan my day.|", ["end -"]),
    ("I love it!| 😊", ["end 😊"]),
    ("I love it!| 😊 🎉!!", ["end 😊"]),
    ("I love it|😊", ["end 😊"]),
    ("I do.| 😊 You too?| Yes|", ["sentence 😊", "sentence -", "end -"]),
    ("One.| Two!|\n\nThree|", ["sentence -", "sentence -", "end -"]),
    ("A list:|\n- rain|\n- sun|\n", ["sentence -", "sentence -", "end -"]),
    ('She said "go!"| Then 3.5 of them left...|', ["sentence -", "end -"]),
    ("I 😊 rain.| So?|", ["sentence -", "end -"]),
    ("雨が好き。|とても！|", ["sentence -", "end -"]),
    ("😊", []),
    ("", []),
    ("...", []),
]


def check(marked: str, wanted: list[str], made) -> None:
    *parts, _ = marked.split("|")
    answer = said(marked.replace("|", ""), made)
    found = slots([answer], made)
    assert [f"{slot.kind} {slot.emoji or '-'}" for slot in found] == wanted
    prompts = ["".join(parts[: place + 1]) for place in range(len(parts))]
    cut = [made.decode(slot.ids[2:], clean_up_tokenization_spaces=False) for slot in found]
    assert [text.strip() for text in cut] == [text.strip() for text in prompts]


@pytest.mark.parametrize(("marked", "wanted"), TEXTS)
def test_slots_are_where_a_reader_marks_them(marked, wanted):
    check(marked, wanted, tokenizer())


@pytest.mark.parametrize("name", todays())
def test_slots_of_real_tokenizers(shared, name):
    real = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    for marked, wanted in TEXTS[:9]:
        check(marked, wanted, real)
    space = real.convert_tokens_to_ids("▁")
    before = slots([said("I love it! 🧿", real)], real).rows[0].ids
    assert before[-1] != space  # before the lone space, where there is one


def test_what_has_no_slot_is_counted():
    answers = [
        said("I plan. Then I", ended=False),  # cut: the sentence only
        said("I plan it.", ended=False),  # cut at its end: nothing
        said("I love it! 😊 And", ended=False),
        said("😊 🎉"),
        said("I 😊 you. 🎉"),
    ]
    found = slots(answers, tokenizer(), writer="tuned")
    assert [(s.answer, s.kind, s.emoji, s.writer) for s in found] == [
        (0, "sentence", None, "tuned"), (2, "sentence", "😊", "tuned"), (4, "end", "🎉", "tuned"),
    ]  # fmt: skip
    assert found.counts() == {
        "answers": 5, "ends": 1, "sentences": 2, "followed_by_emoji": 2, "cut": 3, "textless": 1,
        "emojis_inside": 2,
    }  # fmt: skip
    assert [slot.answer for slot in found.with_emoji] == [2, 4]
    assert [slot.answer for slot in found.ends] == [4]
    assert [slot.answer for slot in found.last] == [0, 2, 4]
    with pytest.raises(InputError, match="none of 1 answers has a slot"):
        slots(answers[3:4], tokenizer()).prompts(0)


def test_prompts_end_at_the_slot_or_at_the_space_that_is_read_too():
    found = slots([said("One. Two!"), said("Three is more.")], tokenizer())
    plain = found.prompts(0)
    assert plain.topics == ("rain",) * 3
    assert plain.batch.tokens[:, -1].tolist() == [slot.ids[-1] for slot in found]
    two = Outcome("x", ids=(300,), stop_ids=(1,), size=448, space=9, after_ids=(300,))
    spaced = found.prompts(0, two).batch
    assert spaced.tokens[:, -1].tolist() == [9, 9, 9]
    assert spaced.tokens[:, :-1].equal(plain.batch.tokens)


def test_a_subset_is_spread_over_topics_by_its_seed():
    answers = [said("One. Two. Three!", topic=topic) for topic in "aaaab"]
    found = slots(answers, tokenizer())
    few = found.spread(6, seed=1)
    assert few.topics.count("b") == 3
    assert few.rows == tuple(slot for slot in found if slot in few.rows)
    assert few == found.spread(6, seed=1)
    assert few != found.spread(6, seed=2)
    assert found.spread(100, seed=0) == found


def test_the_length_up_to_the_end_slot():
    answer = said("I love it! 😊")
    assert tokenizer().decode(answer.ids[: slot_length(tokenizer(), answer.ids)]) == "I love it!"
    assert slot_length(tokenizer(), said("😊").ids) == 0
