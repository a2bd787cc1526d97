"""Edits to train on: a row to edit with, and rows that say what the edit must and must not do."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.base.errors import DataError
from interp.methods.editing.hooked_base import HookedBase
from interp.methods.finetune.examples import Batch, collate, label
from interp.text.data import OpinionQA
from interp.text.data.schema import OpinionRow, topic_key


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        inner: the answer that is edited in.
        outer: another answer of the same trait on the same topic, which the edit must make more
            likely; `inner` itself where there is no other.
        bad: an answer of another trait on the same topic, which it must make less likely, or None.
        local: an answer on another topic, whose distribution it must leave alone.
    """

    inner: OpinionRow
    outer: OpinionRow
    bad: OpinionRow | None
    local: OpinionRow


def edits(data: OpinionQA, *, seed: int) -> list[Edit]:
    """One edit for every row, its other rows drawn at random.

    Raises:
        DataError: if the rows are about one topic only.
    """
    rng = np.random.default_rng(seed)
    by_topic: dict[str, list[OpinionRow]] = defaultdict(list)
    for row in data.rows:
        by_topic[topic_key(row.topic)].append(row)
    if len(by_topic) < 2:
        raise DataError(
            f"{data.source}: {len(by_topic)} topic; locality is judged on another topic, so MEND "
            "needs two or more"
        )
    topics = list(by_topic)
    made = []
    for row in data.rows:
        here = topic_key(row.topic)
        same = [other for other in by_topic[here] if other.trait == row.trait and other != row]
        other = [other for other in by_topic[here] if other.trait != row.trait]
        away = by_topic[_another(topics, here, rng)]
        made.append(
            Edit(
                inner=row,
                outer=_one(same, rng) if same else row,
                bad=_one(other, rng) if other else None,
                local=_one(away, rng),
            )
        )
    return made


def _another(topics: list[str], here: str, rng: np.random.Generator) -> str:
    drawn = topics[int(rng.integers(len(topics) - 1))]
    return topics[-1] if drawn == here else drawn


def _one(rows: list[OpinionRow], rng: np.random.Generator) -> OpinionRow:
    return rows[int(rng.integers(len(rows)))]


def batch(base: HookedBase, rows: Sequence[OpinionRow], max_length: int) -> Batch:
    """Rows as right-padded turns, with labels on the answers.

    Raises:
        DataError: if a prompt alone fills `max_length`.
    """
    made = []
    for row in rows:
        example = base.format.example(row.question, row.answer)
        one = label(example, supervise_eos=False, max_length=max_length)
        if one is None:
            raise DataError(
                f"{row.question!r:.60}: the prompt alone fills max_length={max_length}; raise it"
            )
        made.append(one)
    padded = collate(made, base.pad_id)
    return Batch(*(tensor.to(base.device) for tensor in vars(padded).values()))
