"""Splits by topic: disjoint, whole, drawn from topics and seed alone."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.base.traits import Trait
from interp.data import OpinionQA, OpinionRow, check_splits, split_by_topic
from interp.errors import DataError


def made(topics: list[str]) -> OpinionQA:
    rows = tuple(
        OpinionRow(Trait.OPENNESS, topic, f"Why {index}?", "So.")
        for index, topic in enumerate(topics)
    )
    return OpinionQA(rows, "made", "0" * 64)


@given(
    topics=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_parts_are_disjoint_by_topic_and_make_up_the_whole(
    topics: list[str], share: float, seed: int
) -> None:
    data, distinct = made(topics), len(set(topics))
    if distinct < 2:
        with pytest.raises(DataError, match="two or more"):
            split_by_topic(data, test_share=share, seed=seed)
        return
    train, test = split_by_topic(data, test_share=share, seed=seed)
    check_splits(train, test)
    assert set(train.rows) | set(test.rows) == set(data.rows)
    assert len(train) + len(test) == len(data)
    assert len(test.topics) == min(max(round(share * distinct), 1), distinct - 1)
    assert split_by_topic(data, test_share=share, seed=seed) == (train, test)


def test_the_draw_does_not_depend_on_the_order_of_rows() -> None:
    topics = [f"topic {index % 20}" for index in range(100)]
    _, test = split_by_topic(made(topics), test_share=0.3, seed=1)
    random.Random(0).shuffle(topics)
    _, again = split_by_topic(made(topics), test_share=0.3, seed=1)
    _, other = split_by_topic(made(topics), test_share=0.3, seed=2)
    assert set(test.topics) == set(again.topics)
    assert set(test.topics) != set(other.topics)


def test_spellings_of_a_topic_stay_together() -> None:
    train, test = split_by_topic(made(["Art", " art", "music", "Music"]), test_share=0.5, seed=0)
    assert sorted(row.topic.strip().casefold() for row in train.rows) in (
        ["art"] * 2,
        ["music"] * 2,
    )
    assert len(test) == 2


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="share"):
        split_by_topic(made(["a", "b"]), test_share=share, seed=0)
