"""Grids of cases, of which each day runs a part: the rest is the long tail, `make soak`."""

import os
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

SEED = int(os.environ["INTERP_SEED"])  # tests/conftest.py sets it, where the user does not
TOKENIZERS = ("gpt2", "llama2", "mistral-v1", "llama3", "qwen2", "mistral-tekken")


def thinned(*axes: Sequence[Any], keep: int = 3) -> list[Any]:
    """Every combination of the axes; all but each `keep`th diagonal, by the day, marked `soak`.

    What runs holds every value of each axis at least once, if the others have `keep` values.
    """
    grid = product(*map(enumerate, axes))
    return [_case(*zip(*indexed, strict=True), keep) for indexed in grid]


def turn(place: int, of: int) -> Any:
    """A mark for one of several tests that take turns: today's as it is, the others `soak`."""
    today = (place + SEED) % of == 0
    return pytest.mark.skipif(False, reason="today's") if today else pytest.mark.soak


def todays(*names: str) -> list[Any]:
    """The tokenizers of these names, or all; today's two are met everywhere, the others by soak.

    To read what emojis one has takes seconds, once for all tests.
    """
    return [
        pytest.param(name, marks=turn(TOKENIZERS.index(name), of=3), id=name)
        for name in names or TOKENIZERS
    ]


def parts(place: int, of: int) -> list[Any]:
    """For a fixture that takes turns: of its cases each third on its day, all by `make soak`."""
    return [
        pytest.param(3, id="today", marks=turn(place, of)),
        pytest.param(1, id="all", marks=pytest.mark.soak),
    ]


def part(cases: Sequence[Any], of: int) -> Sequence[Any]:
    """Each `of`th case, from another one each day."""
    return cases[SEED % of :: of]


def _case(places: tuple[int, ...], values: tuple[Any, ...], keep: int) -> Any:
    words = [word for value in values for word in (value if isinstance(value, tuple) else [value])]
    words = [getattr(word, "__name__", word) for word in words]
    marks = () if (sum(places) + SEED) % keep == 0 else pytest.mark.soak
    return pytest.param(*values, marks=marks, id="-".join(map(str, words)))
