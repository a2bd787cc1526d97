"""ESR, trailing share and distribution, against answers counted by hand."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.base.stats import Interval, count_interval, share_interval, wilson
from interp.emoji import find, rgi
from interp.emoji.rates import measure, sentences
from interp.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four…", ["One.", "Two!", "Three?", "Four…"]),
        ("No end mark", ["No end mark"]),
        ("Wow!!! Really?! Yes...", ["Wow!!!", "Really?!", "Yes..."]),
        ("It is 3.5 km. Far.", ["It is 3.5 km.", "Far."]),
        ('He said "No." Then left.', ['He said "No."', "Then left."]),
        ("First line\nsecond line\n\nthird", ["First line", "second line", "third"]),
        ("Great! 😊 Next.", ["Great! 😊", "Next."]),
        ("Great!😊😂 Next.", ["Great!😊😂", "Next."]),
        ("Great. 😊! Next.", ["Great. 😊!", "Next."]),
        ("Bye.\n\n😊👩‍👩‍👧", ["Bye.\n\n😊👩‍👩‍👧"]),
        ("✅ one\n✅ two", ["✅ one", "✅ two"]),
        ("A 😊 inside. B.", ["A 😊 inside.", "B."]),
        ("好。真的！", ["好。", "真的！"]),
        ("😊", ["😊"]),
        ("... !! --", []),
        ("", []),
        ("odd \ufdd0 sign. Next", ["odd \ufdd0 sign.", "Next"]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(
    st.lists(st.sampled_from(["a", " ", ".", "!", "\n", "😊", "❤", "👩‍👩‍👧", "1️⃣", "。", "-"])).map(
        "".join
    )
)
def test_no_letter_and_no_emoji_is_lost_between_sentences(text: str) -> None:
    joined = "".join(sentences(text))
    kept = [character for character in text if character == "a"]
    assert [character for character in joined if character == "a"] == kept
    assert [m.text for m in find(joined)] == [m.text for m in find(text)]


ANSWERS = [
    "I love it! It is fun. 😊",  # trailing, one of two sentences
    "I ❤ it. Truly. 😊😊",  # not trailing: words follow the heart
    "Plain answer. Two sentences.",
    "",
    "Sun ☀️! 👍🏽.",  # trailing: only emojis and punctuation follow
]


def test_counts_by_hand() -> None:
    rates = measure(ANSWERS)
    assert (rates.n_responses, rates.responses_with_emoji) == (5, 3)
    assert (rates.n_sentences, rates.sentences_with_emoji) == (7, 4)
    assert rates.trailing_responses == 2
    assert rates.emoji_counts == (("😊", 3), ("☀️", 1), ("❤️", 1), ("👍🏽", 1))
    assert (rates.response_esr, rates.sentence_esr, rates.trailing_share) == (3 / 5, 4 / 7, 2 / 5)
    assert_same(rates.response_interval, wilson(3, 5))
    assert_same(rates.trailing_interval, wilson(2, 5))
    # one unit per response, the empty one has no sentence
    assert_same(rates.sentence_interval, count_interval([1, 2, 0, 1], [2, 2, 2, 1]))


def assert_same(one: Interval, other: Interval) -> None:
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_topics_are_the_units_of_intervals() -> None:
    """Answers to one topic agree: ten of them say what one says."""
    texts, topics = ["Yes! 😊"] * 20 + ["No."] * 30, [f"t{i // 10}" for i in range(50)]
    rates = measure(texts, topics=topics)
    assert_same(rates.response_interval, share_interval(["😊" in t for t in texts], topics))
    assert rates.response_interval.high - rates.response_interval.low > 0.6
    alone = measure(texts).response_interval
    assert alone.high - alone.low < 0.3
    none = measure(["No."] * 100, topics=[f"t{i // 2}" for i in range(100)])
    assert none.response_interval == wilson(0, 50)
    assert measure(texts[:3], topics=["t"] * 3).response_interval == Interval(0.0, 1.0, 0.95)


def test_answer_ends_decide_when_given() -> None:
    ends = [len("I love it! It is fun."), 3, 0, 0, len(ANSWERS[4])]
    rates = measure(ANSWERS, answer_ends=ends)
    assert rates.answer_ends_given
    assert rates.trailing_responses == 1
    assert measure(["Hi 😊 there"], answer_ends=[3]).trailing_responses == 1
    assert measure(["Hi 😊 there"], answer_ends=[4]).trailing_responses == 0


def test_table_and_distribution() -> None:
    rates = measure(ANSWERS, level=0.9)
    table = rates.to_dataframe().set_index("rate")
    row = table.loc["sentences with an emoji"]
    expected = count_interval([1, 2, 0, 1], [2, 2, 2, 1], level=0.9)
    assert (row["low"], row["high"], row["level"]) == (expected.low, expected.high, 0.9)
    assert table.loc["first emoji after the answer, of those with one", "n"] == 3
    distribution = rates.distribution()
    assert distribution["emoji"].tolist() == ["😊", "☀️", "❤️", "👍🏽"]
    assert distribution["share"].sum() == pytest.approx(1.0)


def test_nothing_found_is_said_not_divided() -> None:
    rates = measure(["", "--"])
    assert rates.response_esr == 0.0
    with pytest.raises(InputError, match="no sentence"):
        _ = rates.sentence_esr
    with pytest.raises(InputError, match="no sentence"):
        _ = rates.sentence_interval
    table = rates.to_dataframe().set_index("rate")
    assert pd.isna(table.loc["sentences with an emoji", "share"])
    assert rates.distribution().empty


def test_every_emoji_is_counted_once() -> None:
    rates = measure([f"Look: {emoji} here" for emoji in rgi()])
    assert rates.responses_with_emoji == rates.sentences_with_emoji == len(rgi())
    assert dict(rates.emoji_counts) == dict.fromkeys(rgi(), 1)
    assert rates.trailing_responses == 0
    assert measure([f"Look. {emoji}" for emoji in rgi()]).trailing_responses == len(rgi())


@pytest.mark.parametrize(
    ("responses", "ends", "says"),
    [([], None, "at least one"), (["a"], [1, 2], "1 responses but 2")],
)
def test_refuses(responses: list[str], ends: list[int] | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        measure(responses, answer_ends=ends)
