"""Negative controls: training rows whose labels or answers say nothing.

A method fitted on them has the same data, steps and settings, and must show no effect of the trait.
"""

from dataclasses import replace

import numpy as np

from interp.base.errors import DataError
from interp.text.data import OpinionQA

WHAT = ("trait", "answer")


def shuffled(data: OpinionQA, *, seed: int, what: str = "trait") -> OpinionQA:
    """The same rows with their trait labels, or their answers, dealt out at random.

    Labels: every answer keeps its question and topic, each trait keeps its number of rows, and a
    trait's rows are answers of any trait. Answers: every question keeps its topic and trait, and
    gets the answer of any row. Some rows keep theirs by chance.

    Args:
        data: rows of two traits or more (`trait`), or with two different answers (`answer`).
        seed: of the permutation.
        what: `trait` or `answer`.

    Raises:
        DataError: if there is nothing to shuffle.
    """
    if what not in WHAT:
        raise DataError(f"cannot shuffle {what!r}; use one of {', '.join(WHAT)}")
    values = {row.trait if what == "trait" else row.answer for row in data.rows}
    if len(values) < 2:
        raise DataError(
            f"{data.source}: {len(data)} rows hold {len(values)} different {what}s; shuffling "
            "needs two or more: give the rows of all traits"
        )
    order = np.random.default_rng(seed).permutation(len(data)).tolist()
    if what == "trait":
        return data.only(
            replace(row, trait=data.rows[other].trait)
            for row, other in zip(data.rows, order, strict=True)
        )
    return data.only(
        replace(row, answer=data.rows[other].answer)
        for row, other in zip(data.rows, order, strict=True)
    )
