"""Shuffled rows: what is dealt out anew, and what stays."""

from collections import Counter

import pytest
from editing_made import E, opinions

from interp.errors import DataError
from interp.methods.editing import shuffled


def test_labels_are_dealt_out_and_all_else_stays():
    data = opinions()
    made = shuffled(data, seed=1)
    bare = [(row.topic, row.question, row.answer) for row in data.rows]
    assert [(row.topic, row.question, row.answer) for row in made.rows] == bare
    assert Counter(r.trait for r in made.rows) == Counter(r.trait for r in data.rows)
    same = sum(a.trait is b.trait for a, b in zip(data.rows, made.rows, strict=True))
    assert 0.25 < same / len(data) < 0.75, "about half of two traits stay by chance"
    assert shuffled(data, seed=1) == made != shuffled(data, seed=2)


def test_answers_are_dealt_out_and_all_else_stays():
    data = opinions()
    made = shuffled(data, seed=1, what="answer")
    bare = [(row.trait, row.topic, row.question) for row in data.rows]
    assert [(row.trait, row.topic, row.question) for row in made.rows] == bare
    assert Counter(r.answer for r in made.rows) == Counter(r.answer for r in data.rows)
    same = sum(a.answer == b.answer for a, b in zip(data.rows, made.rows, strict=True))
    assert same < 5


def test_nothing_to_shuffle_is_an_error():
    with pytest.raises(DataError, match="1 different traits"):
        shuffled(opinions(traits=(E,)), seed=0)
    with pytest.raises(DataError, match="cannot shuffle"):
        shuffled(opinions(), seed=0, what="topic")
