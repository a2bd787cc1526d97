"""Data and records that are broken are refused: named, soon, in one line."""

from dataclasses import replace

import pytest
import refusals
from corpus import Case, cases
from test_fuzz_models import LOADERS
from thinned import part, parts

UNNAMED = ("trait", "columns", "study")
"""Loaders of texts, which have no file to name."""


FATAL = Case("no such case", "trait", str)
"""The worker does not know it, and dies."""


@pytest.fixture(scope="module", params=parts(0, of=2))
def everything(request) -> list[refusals.Outcome]:
    mine = [case for case in cases() if case.loader not in LOADERS]
    assert len(mine) >= 600
    return refusals.run([*part(mine, request.param), FATAL])


@pytest.fixture(scope="module")
def outcomes(everything) -> list[refusals.Outcome]:
    return everything[:-1]


def test_every_broken_file_is_refused(outcomes):
    wrong = [f"{one.name}: {one.error}: {one.message}" for one in outcomes if not one.refused]
    assert not wrong, "\n".join(wrong)


def test_no_two_are_the_same(outcomes):
    assert len({one.digest for one in outcomes}) == len(outcomes)


def test_every_message_names_the_file(outcomes):
    files = [one for one in outcomes if not one.name.startswith(UNNAMED)]
    assert not [one.name for one in files if one.where not in one.message]


def test_what_is_not_a_refusal(everything):
    one, dead = everything[0], everything[-1]
    assert one.refused
    assert dead.error == "killed"
    assert not dead.refused
    for changes in (
        {"computed": 5.1}, {"growth": 2**30 + 1}, {"typed": False}, {"message": "two\nlines"},
        {"message": "\x1b[31mred"}, {"message": ""}, {"message": "turned \u202e round"},
    ):  # fmt: skip
        assert not replace(one, **changes).refused
